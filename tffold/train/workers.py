"""Several processes at once: who this one is, and what all of them know together."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import tensorflow as tf


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
