"""Which chain stands at which position of the endless training sequence (supplement 1.2.5, 1.3).

The sequence is a pure function of (seed, position): the source of a position
is drawn first (predicted structures in 75 % of the cases); within a source,
every epoch is a fresh permutation of its chains from which each is accepted
with the probability of its length and cluster.  All of it is computed from the
shards' indices, so that going to any position reads no record.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence

import numpy as np

from records.errors import InputError
from tffold.config import FilterConfig
from tffold.data.keys import Draw, generator
from tffold.data.reader import RecordSet

_BLOCK = 1 << 16  # draws made at once


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

    def __init__(self) -> None:
        self._totals = np.zeros(1, np.int64)

    def before(self, block: int, count: object) -> int:
        """The total of ``count(b)`` over the blocks before ``block``."""
        while len(self._totals) <= block:
            new = [count(b) for b in range(len(self._totals) - 1, 2 * len(self._totals))]
            self._totals = np.append(self._totals, self._totals[-1] + np.cumsum(new))
        return int(self._totals[block])

    def find(self, rank: int, count: object) -> tuple[int, int]:
        """The block that holds the item of this rank, and its rank there."""
        while self._totals[-1] <= rank:
            self.before(len(self._totals), count)
        block = int(np.searchsorted(self._totals, rank, side="right")) - 1
        return block, rank - int(self._totals[block])


class Epochs:
    """The accepted records of one source, epoch after epoch.

    Small sources are drawn many epochs at a time: a block holds whole epochs.
    """

    def __init__(self, seed: int, source: int, probability: np.ndarray) -> None:
        self._seed, self._source = seed, source
        self.probability = np.asarray(probability, np.float64)
        self._epochs_per_block = max(1, _BLOCK // len(self.probability))
        self._prefix = _Prefix()
        self._drawn: dict[int, np.ndarray] = {}
        self._lock = threading.Lock()

    def _accepted(self, block: int) -> np.ndarray:
        shape = (self._epochs_per_block, len(self.probability))
        random = generator(self._seed, block, Draw.ACCEPTANCE, self._source)
        return random.random(shape) < self.probability

    def _count(self, block: int) -> int:
        return int(self._accepted(block).sum())

    def _sequence(self, block: int) -> np.ndarray:
        """The records that a block accepts, in their epochs' shuffled orders."""
        if block not in self._drawn:
            accepted = self._accepted(block)
            random = generator(self._seed, block, Draw.SHUFFLE, self._source)
            order = np.argsort(random.random(accepted.shape), axis=1, kind="stable")
            chosen = np.take_along_axis(accepted, order, axis=1)
            while len(self._drawn) > 1:  # the reader moves forward: two blocks are enough
                del self._drawn[min(self._drawn)]
            self._drawn[block] = order[chosen].astype(np.int32)
        return self._drawn[block]

    def record(self, rank: int) -> int:
        """The record that is accepted ``rank``-th (from 0)."""
        with self._lock:
            block, place = self._prefix.find(rank, self._count)
            return int(self._sequence(block)[place])

    def substitute(self, position: int, attempt: int) -> int:
        """A record drawn by its acceptance, to stand in for a damaged one."""
        random = generator(self._seed, position, Draw.SUBSTITUTE, attempt)
        edges = np.cumsum(self.probability)
        rank = np.searchsorted(edges, random.random() * edges[-1], side="right")
        return int(min(rank, np.flatnonzero(self.probability)[-1]))


class Schedule:
    """The source and the record at every position.

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
        self._epochs: list[Epochs | None] = []
        for source, (records, rule) in enumerate(zip(self.sets, rules, strict=True)):
            if records is None:
                self._epochs.append(None)
                continue
            probability = acceptance(records, rule)
            if not probability.any():
                raise InputError(
                    f"none of the {len(records)} chains passes the filter",
                    file=records.name,
                    mend="widen data.train_filter or data.distillation_filter",
                )
            self._epochs.append(Epochs(seed, source, probability))
        given = [epochs is not None for epochs in self._epochs]
        if not any(given):
            raise InputError("no training shards", mend="set data.train or data.distillation")
        self._share = distillation_probability if all(given) else float(given[1])
        self._prefix = _Prefix()
        self._lock = threading.Lock()
        self._block: tuple[int, np.ndarray] = (-1, np.zeros(0, bool))

    def _sources(self, block: int) -> np.ndarray:
        """Whether each position of a block is a predicted structure: [_BLOCK] bool."""
        if self._block[0] != block:
            draws = generator(self._seed, block, Draw.SOURCE).random(_BLOCK)
            self._block = (block, draws < self._share)
        return self._block[1]

    def _count(self, block: int) -> int:
        return int(self._sources(block).sum())

    def source(self, position: int) -> tuple[int, int]:
        """The source of a position (0 or 1) and how many earlier ones had the same."""
        block, place = divmod(position, _BLOCK)
        with self._lock:
            predicted_before = self._prefix.before(block, self._count)
            sources = self._sources(block)
            predicted_before += int(sources[:place].sum())
            predicted = int(sources[place])
        return predicted, predicted_before if predicted else position - predicted_before

    def record(self, position: int, attempt: int = 0) -> tuple[int, int]:
        """The source and record at a position; ``attempt`` > 0 asks for a substitute."""
        source, rank = self.source(position)
        epochs = self._epochs[source]
        if attempt:
            return source, epochs.substitute(position, attempt)
        return source, epochs.record(rank)
