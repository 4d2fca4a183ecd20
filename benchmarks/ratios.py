"""Has the training step become dearer? Its cost now against the committed baseline.

    python benchmarks/ratios.py             # prints ratios, above 1 is dearer
    python benchmarks/ratios.py --update    # makes today's figures the baseline

Seconds mean little on another or a busy machine: those of step and compilation are multiplied by
the rate of a large matrix product measured in the same run before they are compared. Memory and
the program's size are compared as they are.
"""

from __future__ import annotations

import argparse
import json
import platform
import subprocess
import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).parent
BASELINE = HERE / "baseline.json"
SETTINGS = {
    "reference batch": ["--no-templates"],
    "twice the blocks": ["--no-templates", "--evoformer-blocks", "8"],
    "with templates": [],
}
FIGURES = ("step", "compile", "peak_gb", "gflop", "instructions")


def measure(arguments: list[str]) -> dict[str, float]:
    """One run of ``train_step.py`` in a process of its own."""
    with tempfile.TemporaryDirectory() as folder:
        result = Path(folder) / "result.json"
        command = [sys.executable, str(HERE / "train_step.py"), "--json", str(result), *arguments]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        found = json.loads(result.read_text())
    rate = found["matrix_gflops"]
    return {
        "step": found["step_seconds"] * rate,
        "compile": found["compile_seconds"] * rate,
        **{name: found[name] for name in ("peak_gb", "gflop", "instructions")},
    }


def table(now: dict[str, dict], before: dict[str, dict]) -> str:
    """Ratios, a line for each setting."""
    lines = [f"{'':18}" + "".join(f"{name:>14}" for name in FIGURES)]
    for setting, figures in now.items():
        ratios = [figures[name] / before[setting][name] for name in FIGURES]
        lines.append(f"{setting:18}" + "".join(f"{ratio:14.2f}" for ratio in ratios))
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--update", action="store_true", help="write the baseline anew")
    options = parser.parse_args()
    now = {name: measure(arguments) for name, arguments in SETTINGS.items()}
    if options.update:
        machine = {"machine": platform.processor() or platform.machine(), "figures": now}
        BASELINE.write_text(json.dumps(machine, indent=1) + "\n")
        print(f"{BASELINE} written")
        return
    before = json.loads(BASELINE.read_text())["figures"]
    print("cost now / cost of the baseline (step and compile in units of a large matrix product)")
    print(table(now, before))


if __name__ == "__main__":
    main()
