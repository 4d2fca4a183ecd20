"""The demo: real chains to records, records to a trained model, and what came of it.

    python examples/demo/run.py --output demo_output [train.steps=100 ...]

Run again, it reuses what is there.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from pathlib import Path

HERE = Path(__file__).parent
CONFIG = HERE.parents[1] / "configs" / "demo.yaml"


def call(module: str, *arguments: object) -> None:
    """Runs one of the command lines; ends with its exit code if it fails."""
    command = [sys.executable, "-m", module, *map(str, arguments)]
    code = subprocess.run(command, check=False).returncode
    if code:
        sys.exit(code)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--output", type=Path, default=Path("demo_output"))
    parser.add_argument("overrides", nargs="*", help="settings for tffold-fit")
    options = parser.parse_args()
    records, run = options.output / "records", options.output / "run"
    start = time.monotonic()
    call(
        "records.cli",
        *("--mmcif", HERE / "mmcif"),
        *("--alignments", HERE / "alignments"),
        *("--output", records),
    )
    call(
        "tffold.cli.fit",
        CONFIG,
        f"data.train=[{records / 'train'}]",
        f"data.validation=[{records / 'train'}]",
        f"train.run_dir={run}",
        *options.overrides,
    )
    converted = json.loads((records / "summary.json").read_text())
    print(f"chains: {converted['written']} converted, {converted['rejected']} rejected", end="")
    print(f" (why: {records / 'manifest.jsonl'})")
    print(f"this took {time.monotonic() - start:.0f} s")


if __name__ == "__main__":
    main()
