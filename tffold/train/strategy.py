"""Where training runs: one device, several, several machines, or a TPU."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
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


def place(strategy: tf.distribute.Strategy) -> tuple[int, int]:
    """This process's number, the chief's being 0, and how many there are."""
    resolver = strategy.cluster_resolver
    if not isinstance(strategy, tf.distribute.MultiWorkerMirroredStrategy) or resolver is None:
        return 0, 1
    jobs = resolver.cluster_spec().as_dict()
    if resolver.task_type is None:
        return 0, 1
    chiefs, workers = (len(jobs.get(job, ())) for job in ("chief", "worker"))
    number = resolver.task_id + (chiefs if resolver.task_type == "worker" else 0)
    return number, chiefs + workers


def local_replicas(strategy: tf.distribute.Strategy) -> int:
    """Replicas that this process feeds."""
    return strategy.num_replicas_in_sync // place(strategy)[1]


def spread(strategy: tf.distribute.Strategy, values: list[Any]) -> Any:
    """One nest of tensors for each local replica, as ``strategy.run`` takes them."""
    if len(values) == 1:
        return values[0]
    return strategy.experimental_distribute_values_from_function(
        lambda context: values[context.replica_id_in_sync_group % len(values)]
    )


def local_values(strategy: tf.distribute.Strategy, nest: Any) -> list[Any]:
    """What each local replica returned, as one nest for each."""
    leaves = [strategy.experimental_local_results(leaf) for leaf in tf.nest.flatten(nest)]
    return [tf.nest.pack_sequence_as(nest, list(one)) for one in zip(*leaves, strict=True)]


def gather_json(strategy: tf.distribute.Strategy, value: Any) -> list[Any]:
    """Every process's ``value`` (JSON), in the processes' order; all of them must call it."""
    number, count = place(strategy)
    if count == 1:
        return [value]
    data = np.frombuffer(json.dumps(value).encode(), np.uint8).astype(np.int32)
    sizes = np.zeros(count, np.int32)
    sizes[number] = len(data)
    sizes = _sum(strategy, sizes)
    width = 1 << int(sizes.max()).bit_length()  # few different shapes
    table = np.zeros((count, width), np.int32)
    table[number, : len(data)] = data
    table = _sum(strategy, table)
    rows = (row[:size] for row, size in zip(table, sizes, strict=True))
    return [json.loads(row.astype(np.uint8).tobytes()) for row in rows]


def _sum(strategy: tf.distribute.Strategy, value: np.ndarray) -> np.ndarray:
    """The sum of one array of each process."""
    local = local_replicas(strategy)

    def add(value: tf.Tensor) -> tf.Tensor:
        context = tf.distribute.get_replica_context()
        first = tf.equal(context.replica_id_in_sync_group % local, 0)
        value = tf.where(first, value, tf.zeros_like(value))
        return context.all_reduce(tf.distribute.ReduceOp.SUM, value)

    total = tf.function(lambda x: strategy.run(add, (x,)), autograph=False)(tf.constant(value))
    return strategy.experimental_local_results(total)[0].numpy()
