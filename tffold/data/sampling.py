"""Which record stands at which position of the endless training sequence (supplement 1.2.5, 1.3).

The sequence is a pure function of (seed, position): the source of a position
is drawn first (complexes or not, predicted structures in 75 % of the other cases); within a source,
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
from records.example import ENTITY_ID
from tffold.config import FilterConfig
from tffold.data import keys
from tffold.data.keys import Draw
from tffold.data.reader import CLUSTER_SIZE, RecordSet

Tensor = Any

FILTERS = ("train_filter", "distillation_filter", "complex_filter")
RECORDS = ("chains", "chains", "complexes")

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
    kept &= records.num_chains >= rule.min_chains
    if rule.max_length:
        kept &= records.num_res <= rule.max_length
    kept &= records.num_msa >= rule.min_msa_rows
    if rule.max_release_date:
        kept &= records.release_date <= rule.max_release_date
    return kept


def acceptance(records: RecordSet, rule: FilterConfig) -> np.ndarray:
    """The probability that an epoch uses a record: [n] float64 (supplement 1.2.5).

    max(min(L, 512), 256) / 512 for the length L, times 1 / n in a cluster of n
    chains; 0 for what the filter drops.  A complex is used where any of its chains would be:
    1 - Π (1 - 1 / n) over its chains, as in OpenFold.
    """
    probability = passes(records, rule).astype(np.float64)
    if rule.sample_by_length:
        probability *= np.clip(records.num_res, 256, 512) / 512
    if rule.sample_by_cluster:
        chosen = probability.copy()
        probability /= np.maximum(records.cluster_size, 1)
        for record in np.flatnonzero(records.num_chains > 1):
            layout = records.layouts[record]
            sizes = np.maximum(layout[CLUSTER_SIZE], 1)[np.array(layout[ENTITY_ID]) - 1]
            probability[record] = chosen[record] * (1.0 - np.prod(1.0 - 1.0 / sizes))
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
        sets: experimental structures first, predicted ones second, complexes third; any may be
            None.
        rules: their filters.
        distillation_probability: share of predicted structures when there are both, among what
            is not of the third set.
        complex_probability: share of the third set when there is another.

    Raises:
        InputError: there is no set, or a filter leaves nothing of one.
    """

    def __init__(
        self,
        sets: Sequence[RecordSet | None],
        rules: Sequence[FilterConfig],
        *,
        distillation_probability: float,
        complex_probability: float = 0.0,
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
                further = " or raise data.max_assembly_length" if records.layouts else ""
                raise InputError(
                    f"none of the {len(records)} {RECORDS[source]} passes the filter",
                    file=records.name,
                    mend=f"widen data.{FILTERS[source]}{further}",
                )
            self._epochs.append(Epochs(seed, source, probability))
        if not self._epochs:
            raise InputError("no training shards", mend="set data.train or data.distillation")
        # Where each source's numbers begin.
        sizes = [len(records) for records in self.sets if records is not None]
        self._first = np.cumsum([0, *sizes[:-1]])
        there = [records is not None for records in (*self.sets, None)[:3]]
        # Which sources there are is known: where one alone is left, nothing is drawn.
        self._predicted = distillation_probability if there[0] and there[1] else None
        self._complex = complex_probability if there[2] and (there[0] or there[1]) else None
        self._prefixes = [self._prefix(k) for k in range(1, len(self._epochs))]

    def _prefix(self, source: int) -> _Prefix:
        return _Prefix(lambda block: _count(self._sources(block), source))

    def _sources(self, block: Tensor) -> Tensor:
        """Which of the sources each position of a block has: [_BLOCK] int64."""
        source = tf.zeros([_BLOCK], tf.int64)
        if self._predicted is not None:
            draws = keys.doubles(_BLOCK, self._seed, block, Draw.SOURCE)
            source = tf.cast(draws < self._predicted, tf.int64)
        if self._complex is not None:
            draws = keys.doubles(_BLOCK, self._seed, block, Draw.COMPLEX)
            source = tf.where(draws < self._complex, np.int64(len(self._epochs) - 1), source)
        return source

    def numbers(self, position: int) -> tf.data.Dataset:
        """The records' numbers from a position on, for ever."""
        if len(self._epochs) == 1:
            return self._epochs[0].records(position)
        block, place = divmod(position, _BLOCK)
        inside = self._sources(tf.constant(block, tf.int64))[:place]
        ranks = [
            prefix.before(block) + int(_count(inside, source))
            for source, prefix in enumerate(self._prefixes, start=1)
        ]
        ranks.insert(0, position - sum(ranks))
        each = [
            epochs.records(rank).map(lambda number, first=first: number + first)
            for epochs, rank, first in zip(self._epochs, ranks, self._first, strict=True)
        ]
        return tf.data.Dataset.choose_from_datasets(each, _in_blocks(self._sources, block, place))

    def substitute(self, number: Tensor, position: Tensor, attempt: Tensor) -> Tensor:
        """Another record of the same source, for a damaged one."""
        if len(self._epochs) == 1:
            return self._epochs[0].substitute(position, attempt)
        source = tf.searchsorted(self._first, tf.cast(number, tf.int64)[None], side="right")[0] - 1
        branches = [
            lambda epochs=epochs, first=first: epochs.substitute(position, attempt) + first
            for epochs, first in zip(self._epochs, self._first, strict=True)
        ]
        return tf.switch_case(source, branches)


def _count(sources: Tensor, source: int) -> Tensor:
    return tf.math.count_nonzero(tf.equal(sources, source))
