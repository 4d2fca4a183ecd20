"""A tiny AlphaFold and five made-up chains to evaluate; as a script, on two mirrored devices.

Usage: python evaluate_tiny.py FOLDER OUT
"""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import tensorflow as tf
from listening import listening
from synthetic import chain, write_shard
from tiny import tiny_config

from tffold.config import Config
from tffold.train.evaluation import ChainEvaluation
from tffold.train.run import build_trainer
from tffold.train.strategy import build_cluster
from tffold.train.task import alphafold_task
from tffold.train.trainer import AlphaFoldTrainer

LENGTHS = {"short_A": 30, "middle_A": 36, "blind_A": 38, "large_A": 50, "long_A": 60}


@dataclass
class Run:
    """What evaluation needs, and what it said."""

    config: Config
    trainer: AlphaFoldTrainer
    evaluation: ChainEvaluation
    said: list[str]


def made(shard: Path, strategy: str = "single", replicas: int = 1) -> Config:
    config = Config()
    config.model = tiny_config()
    config.model.evoformer.num_block = config.model.extra_msa_stack.num_block = 1
    config.model.structure_module.num_layer = 1
    config.model.template.enabled = False
    config.loss.predicted_aligned_error_weight = 0.1
    config.data.validation = [str(shard)]
    config.data.size_buckets = [40, 64]
    config.data.max_msa_clusters = config.data.max_extra_msa = 4
    config.validation.max_length, config.validation.num_recycle = 55, 1
    config.validation.draw_chains = ["middle_A"]
    config.train.strategy, config.train.batch_size = strategy, replicas
    return config


def tiny_run(folder: Path, strategy: str = "single", replicas: int = 1) -> Run:
    """A trainer whose averaged weights differ from its weights, on any number of devices."""
    chains = [chain(size, chain_id=name, seed=size) for name, size in LENGTHS.items()]
    chains[2]["all_atom_mask"] = np.zeros_like(chains[2]["all_atom_mask"])
    config = made(write_shard(folder / "chains.tfrecord", chains), strategy, replicas)
    trainer = build_trainer(config, alphafold_task(), build_cluster(config.train))
    rng = np.random.default_rng(0)
    for variable in trainer.state_variables.average:
        noise = rng.standard_normal(variable.shape).astype("float32")
        variable.assign(variable.numpy() + 0.02 * noise)
    with listening() as said:
        return Run(config, trainer, ChainEvaluation(config, trainer), said)


def main(folder: str, out: str) -> None:
    cpu = tf.config.list_physical_devices("CPU")[0]
    tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)
    run = tiny_run(Path(folder), "mirrored", 2)
    results = run.evaluation.evaluate(range(3), draw=False)
    Path(out).write_text(json.dumps([(r.chain_id, r.numbers) for r in results]))


if __name__ == "__main__":
    main(*sys.argv[1:])
