"""What the paper's whole schedule would take on 128 TPU cores: an estimate on paper.

    python benchmarks/paper_schedule.py             # from the plans kept in plans.json
    python benchmarks/paper_schedule.py --compile   # plan both stages anew first: half an hour

Ten million samples of initial training and 1.5 million of fine-tuning, 128 at a time, one example
a core. A step takes as long as its arithmetic at the chip's published peak or its memory traffic
at the published bandwidth, whichever is longer, both counted in the programs that libtpu compiled
for a v5e. Input and everything that keeps a real program from the peaks are left out, so these
are lower bounds. The row of TPU v3, on which AlphaFold took 11 days, tells how low. What the sums
of gradients over the cores take at the published peaks of the links is told apart.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

ROOT = Path(__file__).parents[1]
PLANS = Path(__file__).parent / "plans.json"
FINETUNING = ["model.bfloat16=true"]
STAGES = {"initial_training": (10_000_000, []), "finetuning": (1_500_000, FINETUNING)}
CORES = 128
SIZES = (8, 128, 1024)  # cores that sum their gradients
PARAMETERS = 93_229_082
V3 = (123e12 / 2, 900e9 / 2)  # operations and bytes a second of one core


def compile_plans() -> None:
    """Plans both stages and keeps what the estimate needs."""
    from tffold.config_file import load_config
    from tffold.plan.report import make_plan
    from tffold.train.task import alphafold_task

    kept = {}
    for stage, (_, overrides) in STAGES.items():
        settings = ["train.batch_size=1", *overrides]
        config = load_config(ROOT / "configs" / f"{stage}.yaml", settings)
        plan = make_plan(config, alphafold_task(), "v5e:2x2")
        kept[stage] = {"flops": plan.flops, "bytes": plan.moved, **plan.compiled}
    PLANS.write_text(json.dumps(kept, indent=1) + "\n")


def days(plans: dict[str, dict], peak: float, bandwidth: float) -> dict[str, float]:
    """Days of each stage on ``CORES`` cores."""
    return {
        stage: samples
        / CORES
        * max(plans[stage]["flops"] / peak, plans[stage]["bytes"] / bandwidth)
        / 86_400
        for stage, (samples, _) in STAGES.items()
    }


def main() -> None:
    from tffold.plan.report import CHIPS

    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--compile", action="store_true", help="plan both stages anew")
    options = parser.parse_args()
    if options.compile:
        compile_plans()
    plans = json.loads(PLANS.read_text())
    kinds = {"v3": V3} | {name: (chip.flops, chip.bandwidth) for name, chip in CHIPS.items()}
    print("| 128 cores of | initial training | fine-tuning | together |\n|-|-|-|-|")
    for kind, figures in kinds.items():
        found = days(plans, *figures)
        first, second = found.values()
        print(f"| TPU {kind} | {first:.1f} days | {second:.1f} days | {first + second:.1f} days |")
    print("\n| summing the gradients, ms a step |" + "".join(f" {n} cores |" for n in SIZES))
    print("|-|" + len(SIZES) * "-|")
    for kind, chip in CHIPS.items():
        for precision, size in (("float32", 4), ("bfloat16", 2)):
            times = (chip.sum_seconds(size * PARAMETERS, n) for n in SIZES)
            print(f"| TPU {kind}, {precision} |" + "".join(f" {1e3 * t:.1f} |" for t in times))


if __name__ == "__main__":
    main()
