"""``tffold-export CHECKPOINT OUT.npz``: a trained model as a parameter file like DeepMind's."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from records.arguments import ShowVersion
from records.errors import InputError
from tffold import logs


def main(arguments: Sequence[str] | None = None) -> int:
    """Entry point; returns the exit code."""
    parser = argparse.ArgumentParser(
        prog="tffold-export",
        description="Write a checkpoint's weights as an .npz with DeepMind's keys and shapes, "
        "for AlphaFold, ColabFold and OpenFold's import.",
    )
    parser.add_argument("--version", action=ShowVersion)
    parser.add_argument("checkpoint", help="a checkpoint or run folder, a path or a URL")
    parser.add_argument("output", help="the .npz to write, a path or a URL")
    parser.add_argument(
        "--raw", action="store_true", help="the weights themselves, not their moving average"
    )
    parser.add_argument(
        "--dtype",
        choices=("float32", "float16"),
        default="float32",
        help="float16 makes the file half as large; tffold reads it, DeepMind's programs want "
        "float32 (default %(default)s)",
    )
    options = parser.parse_args(arguments)
    logs.show()
    try:
        from tffold.weights.npz import read_checkpoint, write_npz

        params = read_checkpoint(options.checkpoint, options.raw)
        write_npz(options.output, params, options.dtype)
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    print(f"{len(params)} arrays in {options.output}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
