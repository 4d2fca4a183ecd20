"""From a data set that is a function of (seed, step) to one batch per replica and step."""

from __future__ import annotations

import contextlib
import re
import time
from collections.abc import Callable, Iterator
from typing import Protocol

import numpy as np
import tensorflow as tf

from records.errors import InputError
from tffold.train.strategy import Cluster

CHAIN_ID, DAMAGED = "chain_id", "damaged"


class DatasetFactory(Protocol):
    """Makes the endless data set whose first element is that of ``start_step``.

    Elements are dictionaries of this shard's examples [B / num_shards, C, ...], with the chains'
    names under ``chain_id`` [B / num_shards]; shard ``i`` holds the ``i``-th part of the global
    batch. ``skipped`` counts the damaged records that were passed over so far: those that
    ``report`` was told of, from what elements hold under ``damaged``, if anything.
    ``check_shards`` raises ``InputError`` where a shard was replaced since it was opened.
    """

    skipped: int

    def report(self, damaged: np.ndarray) -> None: ...

    def check_shards(self) -> None: ...

    def __call__(
        self, *, start_step: int, num_shards: int = 1, shard_index: int = 0
    ) -> tf.data.Dataset: ...


class Feed:
    """Iterates over device-ready batches and measures how long each was waited for.

    Names of chains stay behind (accelerators hold no strings); ``chains`` finds those of a step
    again, because the data are a function of the step.
    """

    def __init__(self, factory: DatasetFactory, cluster: Cluster) -> None:
        self.factory = factory
        self.cluster = cluster
        self.wait_seconds: float | None = None
        self._made: tuple[int, tf.data.Dataset] | None = None  # by ``spec``, not yet read

    def spec(self, start_step: int) -> dict[str, tf.TensorSpec]:
        """What a replica's batches look like, where there is but one; to be read from this step."""
        if self._made is None or self._made[0] != start_step:
            self._made = (start_step, self._distributed(start_step))
        spec = self._made[1].element_spec
        return {name: value for name, value in spec.items() if name != DAMAGED}

    def batches(self, start_step: int) -> Iterator[object]:
        """Batches from ``start_step`` on; ``wait_seconds`` holds the last one's waiting time.

        Where hosts are other processes, what comes for each step is the data set's iterator, and
        the step takes its batch from it there: being told of every tensor of a batch would cost
        this process some milliseconds. How long a step waits is not known there
        (``wait_seconds`` is None); for what goes wrong there is ``errors``.
        """
        made, self._made = self._made, None
        ready = made is not None and made[0] == start_step
        iterator = iter(made[1] if ready else self._distributed(start_step))
        while self.cluster.is_remote:
            yield iterator
        while True:
            start = time.perf_counter()
            with self.errors():
                batch = next(iterator)
            self.report(batch.pop(DAMAGED, None))
            self.wait_seconds = time.perf_counter() - start
            yield batch

    def report(self, damaged: object) -> None:
        """Tells of the records that a batch passed over: what the replicas have of them."""
        if damaged is not None:
            parts = self.cluster.from_replicas(damaged)
            self.factory.report(np.concatenate([np.ravel(part) for part in parts]))

    def errors(self) -> contextlib.AbstractContextManager[None]:
        """``input_errors`` of these data."""
        return input_errors(lambda: self.factory.check_shards())

    def chains(self, step: int) -> list[str]:
        """The chains in the global batch of one step, in order."""
        element = next_element(iter(self.factory(start_step=step)))
        return [name.decode() for name in element[CHAIN_ID].numpy().tolist()]

    def _distributed(self, start_step: int) -> tf.data.Dataset:
        return self.cluster.distribute(
            lambda context: self._per_replica(
                start_step,
                context.num_input_pipelines,
                context.input_pipeline_id,
                context.num_replicas_in_sync // context.num_input_pipelines,
            )
        )

    def _per_replica(
        self, start_step: int, num_shards: int, shard_index: int, replicas: int
    ) -> tf.data.Dataset:
        """One worker's examples, in turn for each of its replicas."""

        @tf.autograph.experimental.do_not_convert  # plain graph code: spares tracing time
        def without_names(element: dict[str, tf.Tensor]) -> dict[str, tf.Tensor]:
            return {name: value for name, value in element.items() if name != CHAIN_ID}

        def part(value: tf.Tensor) -> tf.Tensor:
            # [replicas * b, ...] -> [replicas, b, ...]
            size = value.shape[0]
            return tf.reshape(value, [replicas, size // replicas, *value.shape[1:]])

        @tf.autograph.experimental.do_not_convert
        def split(element: dict[str, tf.Tensor]) -> dict[str, tf.Tensor]:
            return {name: part(value) for name, value in element.items()}

        dataset = self.factory(
            start_step=start_step, num_shards=num_shards, shard_index=shard_index
        ).map(without_names)
        if replicas > 1:
            dataset = dataset.map(split).unbatch()
        return dataset.prefetch(replicas)


@contextlib.contextmanager
def input_errors(check_shards: Callable[[], None] = lambda: None) -> Iterator[None]:
    """An ``InputError`` raised inside a data set comes out of this block as one.

    ``check_shards`` is called first, to raise another where a replaced shard would be why.
    """
    try:
        yield
    except tf.errors.OpError as error:
        found = re.search(r"(?:InputError|CorruptRecordError): (.*)", error.message)
        if found is None:
            raise
        check_shards()
        raise InputError(found.group(1)) from None


def next_element(
    iterator: Iterator, *default: object, check_shards: Callable[[], None] = lambda: None
) -> object:
    """``next`` with ``input_errors``."""
    with input_errors(check_shards):
        return next(iterator, *default)
