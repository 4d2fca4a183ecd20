"""Which chain stands at which position of the endless training sequence (supplement 1.2.5, 1.3).

The sequence is a pure function of (seed, position): the source of a position
is drawn first (predicted structures in 75 % of the cases); within a source,
every epoch is a fresh permutation of its chains from which each is accepted
with the probability of its length and cluster.  All of it is computed from the
shards' indices, so that going to any position reads no record.

The sequence is a data set of numbers that makes itself from a seed and the
records' probabilities: only where to begin is counted out before.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from records.errors import InputError
from tffold.config import FilterConfig
from tffold.data import keys
from tffold.data.keys import Draw
from tffold.data.reader import RecordSet

Tensor = Any

_BLOCK = 1 << 16  # draws made at once
_LAST_BLOCK = 1 << 46


def passes(records: RecordSet, rule: FilterConfig) -> np.ndarray:
    """Which records a filter lets through: [n] bool (supplement 1.2.5).

    A resolution of 0 (unknown, NMR, predicted) passes.
    """
    kept = np.ones(len(records), bool)
    if rule.max_resolution:
        kept &= records.resolution < rule.max_resolution
    kept &= records.max_residue_fraction <= rule.max_single_residue_fraction
    kept &= records.num_res >= max(rule.min_length, 1)
    if rule.max_length:
        kept &= records.num_res <= rule.max_length
    kept &= records.num_msa >= rule.min_msa_rows
    if rule.max_release_date:
        kept &= records.release_date <= rule.max_release_date
    return kept


def acceptance(records: RecordSet, rule: FilterConfig) -> np.ndarray:
    """The probability that an epoch uses a record: [n] float64 (supplement 1.2.5).

    max(min(L, 512), 256) / 512 for the length L, times 1 / n in a cluster of n
    chains; 0 for what the filter drops.
    """
    probability = passes(records, rule).astype(np.float64)
    if rule.sample_by_length:
        probability *= np.clip(records.num_res, 256, 512) / 512
    if rule.sample_by_cluster:
        probability /= np.maximum(records.cluster_size, 1)
    return probability


class _Prefix:
    """Running totals over blocks of the sequence, extended as far as was asked for."""

    def __init__(self, count: Callable[[Tensor], Tensor]) -> None:
        block = tf.TensorSpec([], tf.int64)
        self._count = tf.function(count, autograph=False).get_concrete_function(block)
        self._totals = np.zeros(1, np.int64)

    def before(self, block: int) -> int:
        """The total over the blocks before ``block``."""
        while len(self._totals) <= block:
            blocks = range(len(self._totals) - 1, 2 * len(self._totals))
            new = [int(self._count(tf.constant(b, tf.int64))) for b in blocks]
            self._totals = np.append(self._totals, self._totals[-1] + np.cumsum(new))
        return int(self._totals[block])

    def find(self, rank: int) -> tuple[int, int]:
        """The block that holds the item of this rank, and its rank there."""
        while self._totals[-1] <= rank:
            self.before(len(self._totals))
        block = int(np.searchsorted(self._totals, rank, side="right")) - 1
        return block, rank - int(self._totals[block])


def _in_blocks(make: Callable[[Tensor], Tensor], block: int, place: int) -> tf.data.Dataset:
    """The items of ``make(block)``, ``make(block + 1)`` ... from the first block's ``place`` on."""
    make = tf.autograph.experimental.do_not_convert(make)
    return tf.data.Dataset.range(block, _LAST_BLOCK).map(make).unbatch().skip(place)


class Epochs:
    """The accepted records of one source, epoch after epoch.

    Small sources are drawn many epochs at a time: a block holds whole epochs.
    """

    def __init__(self, seed: int, source: int, probability: np.ndarray) -> None:
        self._seed, self._source = seed, source
        self._probability = tf.constant(probability, tf.float64)
        self._edges = np.cumsum(probability)
        self._last = int(np.flatnonzero(probability)[-1])
        self._shape = (max(1, _BLOCK // len(probability)), len(probability))
        self._prefix = _Prefix(lambda block: tf.math.count_nonzero(self._accepted(block)))

    def _draws(self, block: Tensor, draw: Draw) -> Tensor:
        """[epochs of a block, records]"""
        count = self._shape[0] * self._shape[1]
        return tf.reshape(keys.doubles(count, self._seed, block, draw, self._source), self._shape)

    def _accepted(self, block: Tensor) -> Tensor:
        return self._draws(block, Draw.ACCEPTANCE) < self._probability

    def _sequence(self, block: Tensor) -> Tensor:
        """The records that a block accepts, in their epochs' shuffled orders: [accepted] int64."""
        order = tf.argsort(self._draws(block, Draw.SHUFFLE), axis=1, stable=True)
        chosen = tf.gather(self._accepted(block), order, batch_dims=1)
        return tf.cast(tf.boolean_mask(order, chosen), tf.int64)

    def records(self, rank: int) -> tf.data.Dataset:
        """The records that are accepted ``rank``-th (from 0), next, and so on for ever."""
        return _in_blocks(self._sequence, *self._prefix.find(rank))

    def substitute(self, position: Tensor, attempt: Tensor) -> Tensor:
        """A record drawn by its acceptance, to stand in for a damaged one."""
        draw = keys.doubles(1, self._seed, position, Draw.SUBSTITUTE, attempt)
        rank = tf.searchsorted(self._edges, draw * self._edges[-1], side="right")[0]
        return tf.cast(tf.minimum(rank, self._last), tf.int64)


class Schedule:
    """The record at every position, numbered through all sources' records.

    Args:
        sets: experimental structures first, predicted ones second; either may be None.
        rules: their filters.
        distillation_probability: share of predicted structures when there are both.

    Raises:
        InputError: there is no set, or a filter leaves nothing of one.
    """

    def __init__(
        self,
        sets: Sequence[RecordSet | None],
        rules: Sequence[FilterConfig],
        *,
        distillation_probability: float,
        seed: int,
    ) -> None:
        self.sets = list(sets)
        self._seed = seed
        self._epochs: list[Epochs] = []
        for source, (records, rule) in enumerate(zip(self.sets, rules, strict=True)):
            if records is None:
                continue
            probability = acceptance(records, rule)
            if not probability.any():
                raise InputError(
                    f"none of the {len(records)} chains passes the filter",
                    file=records.name,
                    mend="widen data.train_filter or data.distillation_filter",
                )
            self._epochs.append(Epochs(seed, source, probability))
        if not self._epochs:
            raise InputError("no training shards", mend="set data.train or data.distillation")
        # Where the second source's numbers begin.
        self._first = len(self.sets[0]) if len(self._epochs) > 1 else 0
        self._share = distillation_probability
        self._prefix = _Prefix(lambda block: tf.reduce_sum(self._sources(block)))

    def _sources(self, block: Tensor) -> Tensor:
        """1 where a position of a block is a predicted structure: [_BLOCK] int64."""
        draws = keys.doubles(_BLOCK, self._seed, block, Draw.SOURCE)
        return tf.cast(draws < self._share, tf.int64)

    def numbers(self, position: int) -> tf.data.Dataset:
        """The records' numbers from a position on, for ever."""
        if len(self._epochs) == 1:
            return self._epochs[0].records(position)
        block, place = divmod(position, _BLOCK)
        inside = self._sources(tf.constant(block, tf.int64))[:place]
        predicted = self._prefix.before(block) + int(tf.reduce_sum(inside))
        experimental = self._epochs[0].records(position - predicted)
        both = [experimental, self._epochs[1].records(predicted).map(lambda n: n + self._first)]
        return tf.data.Dataset.choose_from_datasets(both, _in_blocks(self._sources, block, place))

    def substitute(self, number: Tensor, position: Tensor, attempt: Tensor) -> Tensor:
        """Another record of the same source, for a damaged one."""
        if len(self._epochs) == 1:
            return self._epochs[0].substitute(position, attempt)
        return tf.cond(
            number < self._first,
            lambda: self._epochs[0].substitute(position, attempt),
            lambda: self._epochs[1].substitute(position, attempt) + self._first,
        )
