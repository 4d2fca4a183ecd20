"""Prediction by tffold beside DeepMind's code: the same features, in turn, in one run.

    python benchmarks/peers/predict.py                                    # 1,024 residues, model_1
    python benchmarks/peers/predict.py --residues 512 --evoformer-blocks 4 --extra-msa-blocks 1

``model_1`` (512 + 5,120 rows, four templates), two passes, float32, made-up features. A pass of all
48 + 4 blocks over 1,024 residues takes an hour of two cores; fewer blocks tell the peak, which does
not grow with them but for their weights, and nearly the same ratio of time. Processes of their own
take turns. Printed are the first pass, which compiles, the second, the peak of the process, and the
ratios of that very run. Leave the machine alone meanwhile.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from pathlib import Path

import numpy as np

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "benchmarks"), str(HERE)]
FIGURES = {"first pass": "first_seconds", "a pass": "pass_seconds", "peak memory": "peak_gb"}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--residues", type=int, default=1024)
    parser.add_argument("--extra", type=int, default=5120)
    parser.add_argument("--evoformer-blocks", type=int, default=48)
    parser.add_argument("--extra-msa-blocks", type=int, default=4)
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--environments", type=Path, default=ROOT / ".peers")
    options = parser.parse_args()
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    from environments import deepmind_python
    from long_chain import made_up_features
    from run import table, take_turns

    from tffold.config_file import load_config

    config = load_config(ROOT / "configs" / "model_1.yaml", [f"data.max_extra_msa={options.extra}"])
    with tempfile.TemporaryDirectory() as folder:
        batch = Path(folder) / "batch.npz"
        np.savez(batch, **made_up_features(config, options.residues))
        python = deepmind_python(options.environments / "deepmind")
        programs = {
            "tffold": [sys.executable, str(HERE / "tffold_predict.py"), str(batch)],
            "DeepMind": [python, str(HERE / "deepmind_predict.py"), str(batch)],
        }
        arguments = [
            f"--evoformer-blocks={options.evoformer_blocks}",
            f"--extra-msa-blocks={options.extra_msa_blocks}",
        ]
        runs = take_turns(programs, arguments, options.rounds)
    sizes = {result["parameters"] for results in runs.values() for result in results}
    if len(sizes) > 1:
        raise SystemExit(f"not the same network: {sorted(sizes)} parameters")
    print("\n".join(table(runs, ["tffold"], FIGURES)))


if __name__ == "__main__":
    main()
