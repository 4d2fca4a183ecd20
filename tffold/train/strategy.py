"""Where training runs: one device, several, several machines, or a TPU."""

from __future__ import annotations

from collections.abc import Sequence

import keras
import tensorflow as tf

from records.errors import InputError
from tffold.config import TrainConfig


def build_strategy(config: TrainConfig) -> tf.distribute.Strategy:
    """The ``tf.distribute`` strategy that ``train.strategy`` names.

    ``multi_worker`` reads ``TF_CONFIG`` and must come before any other TensorFlow operation.

    Raises:
      InputError: the global batch does not divide over the replicas.
    """
    if config.strategy == "single":
        strategy = tf.distribute.get_strategy()
    elif config.strategy == "mirrored":
        # By default all GPUs, or the first CPU; without GPUs all logical CPU devices.
        devices = tf.config.list_logical_devices("GPU") or tf.config.list_logical_devices("CPU")
        strategy = tf.distribute.MirroredStrategy([device.name for device in devices])
    elif config.strategy == "multi_worker":
        strategy = tf.distribute.MultiWorkerMirroredStrategy()
    else:
        resolver = tf.distribute.cluster_resolver.TPUClusterResolver(tpu=config.tpu)
        tf.config.experimental_connect_to_cluster(resolver)
        tf.tpu.experimental.initialize_tpu_system(resolver)
        strategy = tf.distribute.TPUStrategy(resolver)
    replicas = strategy.num_replicas_in_sync
    if config.batch_size % replicas:
        raise InputError(
            f"'train.batch_size' ({config.batch_size}) must be a multiple of the number of "
            f"replicas ({replicas})"
        )
    return strategy


def is_chief(strategy: tf.distribute.Strategy) -> bool:
    """Whether this process writes checkpoints and logs."""
    resolver = strategy.cluster_resolver
    if not isinstance(strategy, tf.distribute.MultiWorkerMirroredStrategy) or resolver is None:
        return True
    return resolver.task_type in (None, "chief") or (
        resolver.task_type == "worker"
        and resolver.task_id == 0
        and "chief" not in resolver.cluster_spec().jobs
    )


def write_variables(variables: Sequence[keras.Variable], values: Sequence[tf.Tensor]) -> None:
    """Assigns in replica context: each replica writes its own copy of what all computed alike."""

    def write(strategy: tf.distribute.Strategy, *values: object) -> None:
        for variable, value in zip(variables, values, strict=True):
            strategy.extended.update(
                variable.value, lambda copy, new: copy.assign(new), args=(value,), group=False
            )

    tf.__internal__.distribute.interim.maybe_merge_call(
        write, tf.distribute.get_strategy(), *values
    )
