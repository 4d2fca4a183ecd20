"""What memory a whole training run takes: its peak, and whether it grows.

    python benchmarks/run_memory.py                        # the reference batch's size, 200 steps
    python benchmarks/run_memory.py --demo --steps 5000    # the demo's network: does it grow?

``tffold-fit`` itself on the bundled chains, with input, monitoring and a checkpoint at the end. The
step is compiled by a process of its own (``--compile-apart``), which is not counted. Linux alone.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from train_step import DEMO, ROOT, of_size

INTERVAL = 0.1  # seconds


def settings(options: argparse.Namespace) -> list[str]:
    """Configuration and overrides."""
    if options.demo:
        return ["demo", "data.validation=[]", "train.probe_steps=0"]
    overrides = {
        "model.evoformer.num_block": options.evoformer_blocks,
        "model.extra_msa_stack.num_block": options.extra_msa_blocks,
        "model.template.enabled": False,
        "data.max_templates": 0,
        **of_size(options.crop, options.msa, options.extra),
    }
    return ["initial_training", *(f"{name}={value}" for name, value in overrides.items())]


def peak_of(process: subprocess.Popen) -> float:
    """GB that a process held at most; waits for its end."""
    peak = 0
    while process.poll() is None:
        text = Path(f"/proc/{process.pid}/status").read_text()
        peak = max([peak, *(int(x.split()[1]) for x in text.splitlines() if "VmHWM" in x)])
        time.sleep(INTERVAL)
    if process.returncode:
        sys.exit(f"tffold-fit ended with {process.returncode}")
    return peak * 1024 / 1e9


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--demo", action="store_true", help="the demo's network and sizes")
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument("--crop", type=int, default=64)
    parser.add_argument("--msa", type=int, default=32)
    parser.add_argument("--extra", type=int, default=64)
    parser.add_argument("--evoformer-blocks", type=int, default=4)
    parser.add_argument("--extra-msa-blocks", type=int, default=1)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "records.cli", "--output", f"{folder}/records"]
        command += ["--mmcif", str(DEMO / "mmcif"), "--alignments", str(DEMO / "alignments")]
        subprocess.run(command, check=True, capture_output=True, cwd=ROOT)
        command = [sys.executable, "-m", "tffold.cli.fit", *settings(options)]
        command += [f"data.train=[{folder}/records/train]", f"train.run_dir={folder}/run"]
        command += [f"train.steps={options.steps}", f"train.checkpoint_every={options.steps}"]
        command += ["train.log_every=10", "--compile-apart", f"--compile-cache={folder}/cache"]
        peak = peak_of(subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL))
        records = map(json.loads, (Path(folder) / "run" / "metrics.jsonl").read_text().splitlines())
        found = [(r["step"], r["perf/memory_host_mib"] * 2**20 / 1e9) for r in records]
    print(f"peak, checkpoint included: {peak:.2f} GB")
    for step, held in found[:: max(1, len(found) // 8)]:
        print(f"held at step {step:5}: {held:.2f} GB")
    later = found[len(found) // 2 :]
    if len(later) > 1:
        slope = np.polyfit(*zip(*later, strict=True), 1)[0]
        print(f"growth in the second half: {1e6 * slope:.1f} MB in 1,000 steps")


if __name__ == "__main__":
    main()
