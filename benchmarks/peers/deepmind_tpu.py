"""DeepMind's training gradient compiled for a TPU that is not there, counted as ``--plan`` counts.

    python benchmarks/peers/deepmind_tpu.py                 # initial training, float32, for a v5e
    python benchmarks/peers/deepmind_tpu.py --bf16 --config finetuning

One example with 1.5 recycles, of the sizes of a configuration, four templates, everything
recomputed, no optimizer. It is lowered in the environment of ``run.py``, made if it is not there,
and compiled here, with the extra ``[plan]``. A compilation takes a quarter of an hour and 8 GB.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
sys.path[:0] = [str(ROOT), str(HERE)]


def features(config) -> dict[str, tuple[list[int], str]]:
    """Shape and type of one example's features, passes first, under DeepMind's names."""
    from tffold.plan.lower import batch_specs

    found = {
        name: (list(spec.shape[1:]), spec.dtype.name)
        for name, spec in batch_specs(config, local_batch=1).items()
    }
    # What their network reads beside ours (see make_batch.py).
    for name, like in {
        "extra_msa_row_mask": "msa_row_mask",
        "is_distillation": "resolution",
        "rigidgroups_group_exists": "rigidgroups_gt_exists",
        "rigidgroups_group_is_ambiguous": "rigidgroups_gt_exists",
    }.items():
        found[name] = found[like]
    passes, rows, _ = found["extra_msa"][0]
    found["extra_msa_row_mask"] = ([passes, rows], "float32")
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--config", default="initial_training")
    parser.add_argument("--topology", default="v5e:2x2")
    parser.add_argument("--evoformer-blocks", type=int, default=48)
    parser.add_argument("--extra-msa-blocks", type=int, default=4)
    parser.add_argument("--bf16", action="store_true")
    parser.add_argument("--environments", type=Path, default=ROOT / ".peers")
    parser.add_argument("--keep", type=Path, help="keep the compiled program's text there")
    options = parser.parse_args()
    from environments import deepmind_python

    from tffold.config_file import load_config
    from tffold.plan.hlo import Program
    from tffold.plan.report import compile_apart

    config = load_config(ROOT / "configs" / f"{options.config}.yaml")
    with tempfile.TemporaryDirectory() as folder:
        shapes, program = (Path(folder) / name for name in ("shapes", "program"))
        shapes.write_text(json.dumps(features(config)))
        command = [
            deepmind_python(options.environments / "deepmind"),
            str(HERE / "deepmind_lower.py"),
            *(str(shapes), str(program)),
            f"--evoformer-blocks={options.evoformer_blocks}",
            f"--extra-msa-blocks={options.extra_msa_blocks}",
            *(["--bf16"] if options.bf16 else []),
        ]
        subprocess.run(command, check=True)
        compiled, optimized = compile_apart(program.read_bytes(), options.topology, 0)
    if options.keep:
        options.keep.write_text(optimized)
    if optimized:
        cost = Program(optimized, config.model.num_recycle / 2).cost()
        compiled |= {"flops": cost.flops, "bytes": cost.bytes}
    print(json.dumps(compiled, indent=1))


if __name__ == "__main__":
    main()
