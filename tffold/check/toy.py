"""A network of a few weights with AlphaFold's interfaces: the whole training machinery for nothing.

What is asked of a strategy (are batches dealt out, sums summed, weights kept alike) does not
depend on the network, whose compilation would take minutes on each device.
"""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
import tensorflow as tf

from tffold.config import Config
from tffold.train.step import NUM_RECYCLE
from tffold.train.strategy import Cluster
from tffold.train.trainer import AlphaFoldTrainer

FEATURES, HIDDEN = 16, 32
SEED = 7


class ToyNetwork(keras.layers.Layer):
    """tanh(x W) v of one example."""

    def __init__(self) -> None:
        super().__init__(name="toy", autocast=False)
        random = np.random.default_rng(SEED)
        self.initial = {
            "hidden": random.normal(size=(FEATURES, HIDDEN)) / FEATURES**0.5,
            "out": random.normal(size=(HIDDEN,)) / HIDDEN**0.5,
        }

    def build(self, input_shape: Any = None) -> None:
        for name, value in self.initial.items():
            initializer = keras.initializers.Constant(value.tolist())
            weight = self.add_weight(name=name, shape=value.shape, initializer=initializer)
            setattr(self, name, weight)

    def recycle(self, batch: Any, num_recycle: Any, seed: Any) -> dict[str, Any]:
        return {}

    def one_pass(self, batch: Any, previous: Any, seed: Any) -> dict[str, Any]:
        hidden = tf.tanh(tf.linalg.matvec(self.hidden, batch["x"], transpose_a=True))
        return {"y": tf.reduce_sum(hidden * self.out)}


def toy_config(config: Config, num_replicas: int, local_batch: int) -> Config:
    """``config``'s strategy with a batch and a rate for the toy."""
    toy = Config()
    toy.model.num_recycle = 0
    toy.train.strategy, toy.train.tpu = config.train.strategy, config.train.tpu
    toy.train.batch_size = num_replicas * local_batch
    toy.train.learning_rate, toy.train.warmup_samples = 0.01, 0
    return toy


def toy_trainer(config: Config, cluster: Cluster) -> AlphaFoldTrainer:
    """The real trainer around the toy."""
    with cluster.strategy.scope():
        network = ToyNetwork()
        network.build()
        return AlphaFoldTrainer(
            network,
            config,
            cluster,
            lambda outputs, batch: (tf.square(outputs["y"] - batch["y"]), {}),
            lambda outputs, batch: {},
        )


def toy_batch(size: int, step: int) -> dict[str, np.ndarray]:
    """The global batch of one step, [B, 1 pass, ...]."""
    random = np.random.default_rng([SEED, step])
    x = random.normal(size=(size, 1, FEATURES)).astype(np.float32)
    y = np.sin(2.0 * x.sum(-1)).astype(np.float32)
    return {"x": x, "y": y, NUM_RECYCLE: np.zeros((size, 1), np.int32)}
