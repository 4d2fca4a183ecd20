"""Assigning the remaining rows to cluster centres (supplement 1.2.7, steps 3 and 4)."""

from __future__ import annotations

from typing import Any

import numpy as np
import tensorflow as tf

from records.chemistry import GAP_INDEX
from tffold.data.python_op import python_op

Tensor = Any

NUM_LETTERS = 23  # 20 amino acids, X, gap, mask
_CHUNK_ROWS = 8192  # bit planes of this many rows stay in the second-level cache


class _Counter:
    """Bit-sliced counters: bit b of every counter lies in plane b.

    Adding one bit to each of 64 counters per word costs a few word operations;
    a full adder turns three planes of one weight into a sum and a carry.
    """

    def __init__(self) -> None:
        self._waiting: list[list[np.ndarray]] = []

    def add(self, bits: np.ndarray, weight: int = 0) -> None:
        """Add ``bits`` x 2^weight."""
        if weight == len(self._waiting):
            self._waiting.append([])
        waiting = self._waiting[weight]
        waiting.append(bits)
        if len(waiting) == 3:
            a, b, c = waiting
            half = a ^ b
            waiting[:] = [half ^ c]
            self.add((a & b) | (half & c), weight + 1)

    def planes(self) -> list[np.ndarray]:
        """The counters' bits, least significant first; nothing may be added afterwards."""
        weight = 0
        while weight < len(self._waiting):
            waiting = self._waiting[weight]
            if len(waiting) == 2:
                a, b = waiting
                waiting[:] = [a ^ b]
                self.add(a & b, weight + 1)
            weight += 1
        return [waiting[0] for waiting in self._waiting]


def _centre_bits(centres: np.ndarray) -> np.ndarray:
    """[R, 23, W] uint64: the set of centres, 64 to a word, with a letter in a column.

    Gaps and masked cells belong to no set: they never count as agreement.
    """
    num_centres, num_res = centres.shape
    words = -(-num_centres // 64)
    table = np.zeros((num_res, NUM_LETTERS, words * 64), np.uint8)
    table[np.arange(num_res)[None, :], centres, np.arange(num_centres)[:, None]] = 1
    table[:, GAP_INDEX:] = 0
    return np.packbits(table, axis=-1, bitorder="little").view(np.uint64)


def assign(centres: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """The centre that each row agrees with in most columns; the first of equals.

    Agreement counts the columns with the same letter, gaps and masked cells
    excepted: what the product of one-hot encodings gives, without the product.
    For every column a row's letter looks up the *set* of centres that share it,
    as bits; bit-sliced counters add these sets up, and the largest count is
    found from the highest bit plane down.  About a tenth of the time of the
    dense product and none of its memory.

    Args:
        centres: [S, R] uint8 in 0..22, masked; rows: [n, R] uint8 in 0..21.

    Returns: [n] int32.
    """
    table = _centre_bits(centres)
    num_res, _, words = table.shape
    assignment = np.empty(len(rows), np.int32)
    for first in range(0, len(rows), _CHUNK_ROWS):
        # [n, R] -> [R, n]: a column's letters side by side
        letters = np.ascontiguousarray(rows[first : first + _CHUNK_ROWS].T)
        counter = _Counter()
        for column in range(num_res):
            counter.add(table[column].take(letters[column], axis=0))
        # Bits beyond the last centre count nothing, and the first centre beats them.
        best = np.full((letters.shape[1], words), ~np.uint64(0))
        for plane in reversed(counter.planes()):
            better = best & plane
            np.copyto(best, better, where=better.any(axis=1, keepdims=True))
        # [n, W] words -> [n, W * 64] bits, the lowest centre first
        bits = np.unpackbits(best.view(np.uint8), axis=1, bitorder="little")
        assignment[first : first + _CHUNK_ROWS] = bits.argmax(axis=1)
    return assignment


def assign_op(centres: Tensor, rows: Tensor) -> Tensor:
    """``assign`` inside a graph."""
    assignment = python_op(assign, [centres, rows], tf.int32, stateful=False)
    return tf.ensure_shape(assignment, [None])


def summarize(
    centres: Tensor,
    centre_deletions: Tensor,
    rows: Tensor,
    row_deletions: Tensor,
    assignment: Tensor,
    *,
    num_centres: Tensor | int,
    num_res: Tensor | int,
) -> tuple[Tensor, Tensor]:
    """Each cluster's letter distribution and mean deletion count, the centre included.

    Args:
        centres: [S', R'] uint8, masked; centre_deletions: [S', R'] uint8;
        rows, row_deletions: [n, R'] uint8; assignment: [n] int32.
        num_centres, num_res: S >= S' and R >= R', the size of the result, which
            is zero where there is no centre or residue.

    Returns: ``cluster_profile`` [S, R, 23] and ``cluster_deletion_mean`` [S, R] float32.
    """
    members = tf.concat([tf.range(tf.shape(centres)[0]), assignment], axis=0)
    letters = tf.cast(tf.concat([centres, rows], axis=0), tf.int32)
    deletions = tf.concat([centre_deletions, row_deletions], axis=0)
    # The number of each cell's (centre, residue): [S' + n, R']
    cell = members[:, None] * num_res + tf.range(tf.shape(centres)[1])[None, :]

    def histogram(index: Tensor, size: Tensor | int, weights: Tensor | None = None) -> Tensor:
        return tf.math.bincount(index, weights, minlength=size, maxlength=size, dtype=tf.float32)

    flat = tf.reshape(cell * NUM_LETTERS + letters, [-1])
    counts = histogram(flat, num_centres * num_res * NUM_LETTERS)
    # [S * R * 23] -> [S, R, 23]
    counts = tf.reshape(counts, [num_centres, num_res, NUM_LETTERS])
    # Few cells have deletions: add up those alone.
    where = tf.where(deletions > 0)
    weights = tf.cast(tf.gather_nd(deletions, where), tf.float32)
    total = histogram(tf.gather_nd(cell, where), num_centres * num_res, weights)
    # [S * R] -> [S, R]
    total = tf.reshape(total, [num_centres, num_res])
    # DeepMind's guard against empty clusters, kept for equal numbers.
    size = histogram(members, num_centres) + 1e-6
    return counts / size[:, None, None], total / size[:, None]
