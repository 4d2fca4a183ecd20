"""``tffold-export CHECKPOINT OUT.npz``: a trained model as a parameter file like DeepMind's."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from records.errors import InputError
from tffold.train import checkpoint


def checkpoint_params(path: Path, raw: bool = False) -> dict[str, np.ndarray]:
    """Weights of a checkpoint, or of a run's newest one, under DeepMind's keys.

    Args:
      path: a checkpoint folder or a run folder.
      raw: the weights themselves instead of their moving average.

    Raises:
      InputError: there is no checkpoint, or it is damaged.
    """
    from tffold.model.module import parameter_key

    saved = checkpoint.load_any(path)
    if saved is None:
        raise InputError(f"{path}: no checkpoint here; name one, or a run folder")
    prefix = "parameters/" if raw else "average/"
    return {
        parameter_key(name.removeprefix(prefix)): np.asarray(array, np.float32)
        for name, array in saved.arrays.items()
        if name.startswith(prefix)
    }


def main(arguments: Sequence[str] | None = None) -> int:
    """Entry point; returns the exit code."""
    parser = argparse.ArgumentParser(
        prog="tffold-export",
        description="Write a checkpoint's weights as an .npz with DeepMind's keys and shapes, "
        "for AlphaFold, ColabFold and OpenFold's import.",
    )
    parser.add_argument("checkpoint", type=Path, help="a checkpoint or run folder")
    parser.add_argument("output", type=Path, help="the .npz to write")
    parser.add_argument(
        "--raw", action="store_true", help="the weights themselves, not their moving average"
    )
    options = parser.parse_args(arguments)
    try:
        params = checkpoint_params(options.checkpoint, options.raw)
        from tffold.params import write_npz

        write_npz(options.output, params)
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    print(f"{len(params)} arrays in {options.output}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
