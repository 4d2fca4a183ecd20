"""Has the training step become dearer? This tree against another commit, in turn, in one run.

    python benchmarks/ratios.py                          # uncommitted changes against HEAD
    python benchmarks/ratios.py --base v0.1 --rounds 5   # this tree against a tag or commit

Seconds mean little from another hour or machine, so none are stored: the two trees take turns, each
run in a process of its own, and the medians are compared. Leave the machine alone meanwhile.
"""

from __future__ import annotations

import argparse
import io
import json
import os
import statistics
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path

ROOT = Path(__file__).parents[1]
SETTINGS = {
    "reference": ["--no-templates"],
    "twice the blocks": ["--no-templates", "--evoformer-blocks", "8"],
    "with templates": [],
}
# Names in the record of ``train_step.py``. A program's operations and size do not vary.
FIGURES = {
    "step": "step_seconds",
    "compile": "compile_seconds",
    "peak memory": "peak_gb",
    "gflop": "gflop",
    "instructions": "instructions",
}


def check_out(commit: str, folder: Path) -> None:
    """Writes the files of a commit to a folder."""
    command = ["git", "-C", str(ROOT), "archive", commit]
    archive = subprocess.run(command, check=True, capture_output=True).stdout
    with tarfile.open(fileobj=io.BytesIO(archive)) as files:
        files.extractall(folder, filter="data")


def measure(tree: Path, arguments: list[str]) -> dict[str, float]:
    """One run of a tree's own ``train_step.py``."""
    with tempfile.TemporaryDirectory() as folder:
        result = Path(folder) / "result.json"
        script = tree / "benchmarks" / "train_step.py"
        subprocess.run(
            [sys.executable, str(script), "--json", str(result), *arguments],
            check=True,
            stdout=subprocess.DEVNULL,
            cwd=tree,  # workers of the conversion look for modules there
            env=os.environ | {"PYTHONPATH": str(tree)},
        )
        return json.loads(result.read_text())


def lines(setting: str, here: list[dict], base: list[dict]) -> list[str]:
    """For each figure both medians, their ratio, and the spread of the rounds' own ratios."""
    shown = []
    for title, name in FIGURES.items():
        now, before = ([run[name] for run in runs] for runs in (here, base))
        ratios = [a / b for a, b in zip(now, before, strict=True)]
        now, before = statistics.median(now), statistics.median(before)
        spread = f"{min(ratios):.2f} to {max(ratios):.2f}"
        row = f"{setting:18}{title:14}{now:12.4g}{before:12.4g}{now / before:8.2f}   {spread}"
        shown.append(row)
    return shown


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--base", default="HEAD", help="commit to compare with (default: HEAD)")
    parser.add_argument("--rounds", type=int, default=3, help="runs of each tree and setting")
    parser.add_argument("--setting", choices=SETTINGS, nargs="*", default=list(SETTINGS))
    options = parser.parse_args()
    print(f"{'':32}{'this tree':>12}{options.base[:11]:>12}{'ratio':>8}   of each round")
    with tempfile.TemporaryDirectory() as folder:
        check_out(options.base, Path(folder))
        for setting in options.setting:
            here, base = [], []
            for turn in range(options.rounds):
                # Who goes first changes, so that a machine that warms up favours nobody.
                pair = [(ROOT, here), (Path(folder), base)]
                for tree, runs in pair if turn % 2 == 0 else reversed(pair):
                    runs.append(measure(tree, SETTINGS[setting]))
            print("\n".join(lines(setting, here, base)), flush=True)


if __name__ == "__main__":
    main()
