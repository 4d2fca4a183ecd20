"""Writes a training crop of a bundled chain as the batch file that every trainer is given.

    python make_batch.py BATCH.npz --crop 64 --msa 32 --extra 64

Features have DeepMind's names, with one recycling pass in front: those that tffold's batches hold,
and those that other trainers read beside them, derived from the same arrays.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import numpy as np

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "benchmarks"))


def others_read(batch: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """What DeepMind's and OpenFold's batches hold beside ours, of the same crop."""
    ambiguous = np.any(batch["atom14_atom_is_ambiguous"] > 0, axis=-1, keepdims=True)
    return {
        "extra_msa_row_mask": batch["extra_msa_mask"].max(axis=-1),
        "is_distillation": np.zeros_like(batch["resolution"]),
        "rigidgroups_group_exists": batch["rigidgroups_gt_exists"],
        "rigidgroups_group_is_ambiguous": ambiguous * batch["rigidgroups_gt_exists"],
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("output", type=Path)
    parser.add_argument("--crop", type=int, default=64)
    parser.add_argument("--msa", type=int, default=32)
    parser.add_argument("--extra", type=int, default=64)
    options = parser.parse_args()
    from train_step import bundled_batch, of_size

    from tffold.config_file import load_config

    overrides = {
        "model.template.enabled": False,
        **of_size(options.crop, options.msa, options.extra),
    }
    settings = [f"{name}={value}" for name, value in overrides.items()]
    batch = bundled_batch(load_config(ROOT / "configs" / "initial_training.yaml", settings))
    np.savez(options.output, **batch, **others_read(batch))


if __name__ == "__main__":
    main()
