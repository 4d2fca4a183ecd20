"""Where training runs: one device, several, several machines, or a TPU.

The one file that knows of ``tf.distribute``'s strategies. To add one, write a function that makes
its ``Cluster`` and name it in ``_CLUSTERS`` (and in the setting's choices, ``STRATEGIES``).
"""

from __future__ import annotations

import functools
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from records.errors import InputError
from tffold import logs
from tffold.config import TrainConfig


@dataclass(frozen=True)
class Cluster:
    """The processes and replicas that train together, as this process sees them.

    ``strategy`` runs a function on every replica; ``process`` is this process's number, the
    chief's being 0, and ``num_processes`` how many there are. ``is_one_device``: there is but one
    replica, whose batches are plain tensors. ``is_remote``: the hosts are other processes, which
    this one directs; a step then asks for its batch there (see ``Feed.batches``).
    """

    strategy: tf.distribute.Strategy
    process: int
    num_processes: int
    is_one_device: bool = False
    is_remote: bool = False

    @property
    def is_chief(self) -> bool:
        """Whether this process writes checkpoints and logs."""
        return self.process == 0

    @property
    def num_replicas(self) -> int:
        """Replicas of all processes."""
        return self.strategy.num_replicas_in_sync

    @property
    def local_replicas(self) -> int:
        """Replicas that this process feeds."""
        return self.num_replicas // self.num_processes

    def distribute(
        self, make: Callable[[tf.distribute.InputContext], tf.data.Dataset]
    ) -> tf.data.Dataset:
        """A data set whose every element is one element of ``make``'s for each local replica."""
        return self.strategy.distribute_datasets_from_function(make)

    def to_replicas(self, values: list[Any]) -> Any:
        """One nest of tensors for each local replica, as ``strategy.run`` takes them."""
        if len(values) == 1:
            return values[0]
        return self.strategy.experimental_distribute_values_from_function(
            lambda context: values[context.replica_id_in_sync_group % len(values)]
        )

    def from_replicas(self, nest: Any) -> list[Any]:
        """What each local replica returned, as one nest for each."""
        local = self.strategy.experimental_local_results
        leaves = [local(leaf) for leaf in tf.nest.flatten(nest)]
        return [tf.nest.pack_sequence_as(nest, list(one)) for one in zip(*leaves, strict=True)]

    def gather_json(self, value: Any) -> list[Any]:
        """Every process's ``value`` (JSON), in the processes' order; all of them must call it."""
        count = self.num_processes
        if count == 1:
            return [value]
        data = np.frombuffer(json.dumps(value).encode(), np.uint8).astype(np.int32)
        sizes = np.zeros(count, np.int32)
        sizes[self.process] = len(data)
        sizes = self._sum(sizes)
        width = 1 << int(sizes.max()).bit_length()  # few different shapes
        table = np.zeros((count, width), np.int32)
        table[self.process, : len(data)] = data
        table = self._sum(table)
        rows = (row[:size] for row, size in zip(table, sizes, strict=True))
        return [json.loads(row.astype(np.uint8).tobytes()) for row in rows]

    def _sum(self, value: np.ndarray) -> np.ndarray:
        """The sum of one array of each process."""

        def add(value: tf.Tensor) -> tf.Tensor:
            context = tf.distribute.get_replica_context()
            first = tf.equal(context.replica_id_in_sync_group % self.local_replicas, 0)
            value = tf.where(first, value, tf.zeros_like(value))
            return context.all_reduce(tf.distribute.ReduceOp.SUM, value)

        run = tf.function(lambda x: self.strategy.run(add, (x,)), autograph=False)
        return self.from_replicas(run(tf.constant(value)))[0].numpy()


def sum_over_replicas(
    gradient: tf.Tensor, scalars: Any, in_bfloat16: bool = False
) -> tuple[tf.Tensor, Any]:
    """Both summed over all replicas; in replica context, with the same result on each.

    ``in_bfloat16``: the gradient travels so. Each replica's is rounded to 8 significant bits (a
    relative error of 2^-9 at most), and so is each partial sum, in the order in which the
    devices add; scalars stay as they are. One replica alone rounds nothing.

    It comes after the whole backward pass: an example's gradient is clipped by the norm of all of
    it, so no part of it is known before the last one is.
    """
    context = tf.distribute.get_replica_context()
    add = functools.partial(context.all_reduce, tf.distribute.ReduceOp.SUM)
    if in_bfloat16 and context.num_replicas_in_sync > 1:
        # Apart: TensorFlow puts what is summed together into one array.
        return tf.cast(add(tf.cast(gradient, tf.bfloat16)), gradient.dtype), add(scalars)
    return add((gradient, scalars))


def has_accelerators() -> bool:
    """Whether TensorFlow sees anything but CPUs here."""
    return any(device.device_type != "CPU" for device in tf.config.list_physical_devices())


def build_cluster(config: TrainConfig) -> Cluster:
    """The cluster that ``train.strategy`` names; what is logged is the chief's from now on.

    ``multi_worker`` reads ``TF_CONFIG`` and must come before any other TensorFlow operation.

    Raises:
      InputError: an unknown strategy, or a global batch that does not divide over the replicas.
    """
    if config.strategy not in _CLUSTERS:
        raise InputError(
            f"'train.strategy' must be one of {', '.join(_CLUSTERS)}, not '{config.strategy}'"
        )
    cluster = _CLUSTERS[config.strategy](config)
    logs.set_chief(cluster.is_chief)
    if config.batch_size % cluster.num_replicas:
        raise InputError(
            f"'train.batch_size' ({config.batch_size}) must be a multiple of the number of "
            f"replicas ({cluster.num_replicas})"
        )
    return cluster


def _single(config: TrainConfig) -> Cluster:
    return Cluster(tf.distribute.get_strategy(), 0, 1, not tf.distribute.has_strategy())


def _mirrored(config: TrainConfig) -> Cluster:
    # By default all GPUs, or the first CPU; without GPUs all logical CPU devices.
    devices = tf.config.list_logical_devices("GPU") or tf.config.list_logical_devices("CPU")
    return Cluster(tf.distribute.MirroredStrategy([device.name for device in devices]), 0, 1)


def _multi_worker(config: TrainConfig) -> Cluster:
    strategy = tf.distribute.MultiWorkerMirroredStrategy()
    resolver = strategy.cluster_resolver
    if resolver is None or resolver.task_type is None:  # without TF_CONFIG: this process alone
        return Cluster(strategy, 0, 1)
    jobs = resolver.cluster_spec().as_dict()
    chiefs, workers = (len(jobs.get(job, ())) for job in ("chief", "worker"))
    # Without a chief the first worker is.
    process = resolver.task_id + (chiefs if resolver.task_type == "worker" else 0)
    return Cluster(strategy, process, chiefs + workers)


def _tpu(config: TrainConfig) -> Cluster:
    resolver = tf.distribute.cluster_resolver.TPUClusterResolver(tpu=config.tpu)
    tf.config.experimental_connect_to_cluster(resolver)
    tf.tpu.experimental.initialize_tpu_system(resolver)
    # However many machines the TPU has, one process directs them.
    return Cluster(tf.distribute.TPUStrategy(resolver), 0, 1, is_remote=config.tpu != "local")


_CLUSTERS: dict[str, Callable[[TrainConfig], Cluster]] = {
    "single": _single,
    "mirrored": _mirrored,
    "multi_worker": _multi_worker,
    "tpu": _tpu,
}


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
