"""Where the parts of the check run: on one device, or on each core of a TPU."""

from __future__ import annotations

import copy

import tensorflow as tf

from tffold.config import Config
from tffold.train.strategy import Cluster, build_cluster


def accelerator() -> str | None:
    """``TPU``, ``GPU`` or None: what this process should compute on."""
    for kind in ("TPU", "GPU"):
        if tf.config.list_logical_devices(kind):
            return kind
    return None


def one_each(config: Config) -> tuple[Cluster, Config]:
    """A cluster that needs no other process, and the configuration with one example a replica.

    One device; only a TPU's cores come together.
    """
    config = copy.deepcopy(config)
    if config.train.strategy != "tpu":
        config.train.strategy, config.train.batch_size = "single", 1
        return build_cluster(config.train), config
    config.train.batch_size = 1 << 20  # divides over any TPU
    cluster = build_cluster(config.train)
    config.train.batch_size = cluster.num_replicas
    return cluster, config
