"""Assigning the remaining rows to cluster centres (supplement 1.2.7, steps 3 and 4)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import tensorflow as tf

from records.chemistry import GAP_INDEX

Tensor = Any

NUM_LETTERS = 23  # 20 amino acids, X, gap, mask
_COLUMNS, _ROWS = 16, 512  # of one compiled loop
_AT_ONCE = 14  # blocks of columns: as many as can agree and be counted in a byte
_BYTES = 2  # so many bytes' columns at a time: most chains' all
_NOBODY = np.uint8(255)
_GROUPS, _GROUP_ROWS, _WIDTH = 64, 32, 256  # groups, their rows, columns: summed up at a time


def assign(centres: Tensor, rows: Tensor, *, num_centres: int) -> Tensor:
    """The centre that each row agrees with in most columns; the first of equals: [n] int32."""
    return _in_blocks(centres, rows, num_centres, _first_of_most, tf.TensorSpec([_ROWS], tf.int32))


def _in_blocks(
    centres: Tensor,
    rows: Tensor,
    num_centres: int,
    choose: Callable[[Tensor], Tensor],
    chosen: tf.TensorSpec,
) -> Tensor:
    """What ``choose`` makes of the agreement [S, r] int32 of all centres with r rows, for all rows.

    Agreement counts the columns with the same letter, gaps and masked cells
    excepted: what the product of one-hot encodings gives, without the product.
    The comparisons of a block of rows and columns with all centres are summed
    up in bytes by one compiled loop, which reads and writes nothing in between;
    about a fiftieth of the product's time and none of its memory.

    Args:
        centres: [S', R] uint8 in 0..22, masked; rows: [n, R] uint8 in 0..21.
        num_centres: S >= S'; with those that are missing nothing agrees.
        chosen: the result's shape for one block, [r, ...].

    Returns: [n, ...].
    """
    num_rows, num_res = tf.shape(rows)[0], tf.shape(rows)[1]
    wide = _BYTES * _AT_ONCE * _COLUMNS
    # Gaps and masked cells become a letter that no row has, and so do missing centres and columns.
    known = tf.where(centres < GAP_INDEX, centres, _NOBODY)
    missing = [[0, num_centres - tf.shape(centres)[0]], [0, -num_res % wide]]
    known = tf.pad(known, missing, constant_values=_NOBODY)
    # [S, K * w] -> [K, w, S]
    known = tf.reshape(tf.transpose(known), [-1, wide, num_centres])
    num_blocks = tf.shape(known)[0]
    rows = tf.pad(rows, [[0, -num_rows % _ROWS], [0, -num_res % wide]])

    def of_block(block: Tensor) -> Tensor:
        """The number of a block of rows -> [r, ...]"""
        place = block * _ROWS

        def count(number: Tensor, counts: Tensor) -> tuple[Tensor, Tensor]:
            left = -(-(num_res - number * wide) // _COLUMNS)
            centres = tf.ensure_shape(known[number], [wide, num_centres])
            letters = tf.slice(rows, [place, number * wide], [_ROWS, wide])
            return number + 1, _counted(counts, centres, _turned(letters), left)

        counts = tf.zeros([num_centres, _ROWS], tf.int32)
        _, counts = tf.while_loop(lambda number, _: number < num_blocks, count, (0, counts))
        return choose(counts)

    blocks = tf.map_fn(of_block, tf.range(tf.shape(rows)[0] // _ROWS), fn_output_signature=chosen)
    # [m, r, ...] -> [m * r, ...]
    return tf.reshape(blocks, [-1, *chosen.shape[1:]])[:num_rows]


@tf.function(jit_compile=True, autograph=False)
def _turned(rows: Tensor) -> Tensor:
    """[r, w] -> [w, r]: compiled and by blocks, which stay in the cache, half of the time."""
    return tf.transpose(rows)


@tf.function(jit_compile=True, autograph=False)
def _counted(counts: Tensor, centres: Tensor, rows: Tensor, num_blocks: Tensor) -> Tensor:
    """``counts`` [S, r] and in how many columns they agree: centres [w, S], rows [w, r].

    Only the first ``num_blocks`` blocks of columns are looked at.
    """
    # [w, n] -> [blocks, c, n]
    centres = tf.reshape(centres, [_BYTES * _AT_ONCE, _COLUMNS, -1])
    rows = tf.reshape(rows, [_BYTES * _AT_ONCE, _COLUMNS, -1])

    def add(block: Tensor, agreements: Tensor) -> tuple[Tensor, Tensor]:
        some, others = centres[block], rows[block]
        same = [
            tf.cast(some[column][:, None] == others[column][None, :], tf.uint8)
            for column in range(_COLUMNS)
        ]
        return block + 1, agreements + tf.add_n(same)

    for first in range(0, _BYTES * _AT_ONCE, _AT_ONCE):
        last = tf.minimum(num_blocks, first + _AT_ONCE)
        agreements = (first, tf.zeros(counts.shape, tf.uint8))
        _, agreements = tf.while_loop(lambda block, _, last=last: block < last, add, agreements)
        counts += tf.cast(agreements, tf.int32)
    return counts


@tf.function(jit_compile=True, autograph=False)
def _first_of_most(counts: Tensor) -> Tensor:
    """The first row that holds each column's largest number: [S, r] -> [r] int32."""
    size = counts.shape[0]
    order = tf.range(size - 1, -1, -1)[:, None]
    # One number for count and centre: of equal counts the first centre's is the largest.
    return size - 1 - tf.reduce_max(counts * size + order, axis=0) % size


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
    deletions = tf.concat([centre_deletions, row_deletions], axis=0)
    letters = tf.concat([centres, rows], axis=0)
    counts, total = _sums(letters, deletions, members, num_centres)
    # DeepMind's guard against empty clusters, kept for equal numbers.
    size = 1e-6 + tf.math.bincount(
        members, minlength=num_centres, maxlength=num_centres, dtype=tf.float32
    )
    missing = [[0, 0], [0, num_res - tf.shape(centres)[1]]]
    profile = tf.pad(counts / size[:, None, None], [*missing, [0, 0]])
    return profile, tf.pad(total / size[:, None], missing)


def _sums(
    letters: Tensor, deletions: Tensor, members: Tensor, num_clusters: Tensor | int
) -> tuple[Tensor, Tensor]:
    """How often each letter stands in a cluster's rows [n, R'], and their deletions added up.

    Args:
        letters: [n, R'] uint8; deletions: [n, R'] uint8; members: [n] int32, their clusters.

    Returns: [clusters, R', 23] and [clusters, R'] float32, whole numbers.
    """
    # Of few rows, groups would be mostly empty.
    return tf.cond(
        tf.size(members) > 10 * num_clusters,
        lambda: _sums_of_groups(letters, deletions, members, num_clusters),
        lambda: _histograms(letters, deletions, members, num_clusters),
    )


def _histograms(
    letters: Tensor, deletions: Tensor, members: Tensor, num_clusters: Tensor | int
) -> tuple[Tensor, Tensor]:
    """``_sums``, row by row."""
    # A histogram for each residue: one that is small enough to stay in the cache.
    cell = members[None, :] * NUM_LETTERS + tf.cast(tf.transpose(letters), tf.int32)
    counts = tf.raw_ops.DenseBincount(
        input=cell, size=num_clusters * NUM_LETTERS, weights=tf.zeros([0]), binary_output=False
    )
    # [R', S * 23] -> [R', S, 23] -> [S, R', 23]
    counts = tf.transpose(tf.reshape(counts, [-1, num_clusters, NUM_LETTERS]), [1, 0, 2])
    deletions = tf.cast(deletions, tf.float32)
    return counts, tf.math.unsorted_segment_sum(deletions, members, num_clusters)


def _sums_of_groups(
    letters: Tensor, deletions: Tensor, members: Tensor, num_clusters: Tensor | int
) -> tuple[Tensor, Tensor]:
    """``_sums`` of many rows.

    Those of a cluster are laid together in groups, filled up with rows of nothing; a
    compiled loop counts a group's in bytes.
    """
    size = _GROUP_ROWS
    num_rows, num_res = tf.shape(letters)[0], tf.shape(letters)[1]
    order = tf.argsort(members, stable=True)
    count = tf.math.bincount(members, minlength=num_clusters, maxlength=num_clusters)
    groups = -(-count // size)
    num_groups = tf.reduce_sum(groups)
    # A row's place: its group begins where those of the clusters before end.
    first = tf.cumsum(groups, exclusive=True) * size - tf.cumsum(count, exclusive=True)
    place = tf.gather(first, tf.gather(members, order)) + tf.range(num_rows)
    empty = tf.fill([num_groups * size], num_rows)
    rows = tf.tensor_scatter_nd_update(empty, place[:, None], order)
    missing = [[0, 1], [0, -num_res % _WIDTH]]
    # [n + 1, T * w] -> [(n + 1) * T, w]: the last row is of nothing
    letters = tf.reshape(tf.pad(letters, missing, constant_values=_NOBODY), [-1, _WIDTH])
    deletions = tf.reshape(tf.pad(deletions, missing), [-1, _WIDTH])
    tiles = -(-num_res // _WIDTH)
    # [N * k] -> [N, 1, k] -> [N, T, k] -> [N * T, k]
    rows = tf.reshape(rows, [-1, 1, size]) * tiles + tf.range(tiles)[:, None]
    rows = tf.reshape(rows, [-1, size])
    missing = [[0, -num_groups * tiles % _GROUPS], [0, 0]]
    rows = tf.pad(rows, missing, constant_values=num_rows * tiles)
    # [m * g, k] -> [m, g * k]
    rows = tf.reshape(rows, [-1, _GROUPS * size])

    def of_block(rows: Tensor) -> tuple[Tensor, Tensor]:
        # [g * k, w] -> [g, k, w]
        shape = [_GROUPS, size, _WIDTH]
        return _of_groups(
            *(tf.reshape(tf.gather(values, rows), shape) for values in (letters, deletions))
        )

    found = (
        tf.TensorSpec([_GROUPS, NUM_LETTERS, _WIDTH], tf.uint8),
        tf.TensorSpec([_GROUPS, _WIDTH], tf.int32),
    )
    counts, deleted = tf.map_fn(of_block, rows, fn_output_signature=found)
    cluster = tf.repeat(tf.range(num_clusters), groups)

    def of_clusters(values: Tensor, width: int) -> Tensor:
        """[m, g, ...] -> [clusters, T * width]"""
        values = tf.reshape(values, [-1, width])[: num_groups * tiles]
        values = tf.reshape(tf.cast(values, tf.float32), [num_groups, tiles * width])
        values = tf.math.segment_sum(values, cluster)
        return tf.pad(values, [[0, num_clusters - tf.shape(values)[0]], [0, 0]])

    counts = of_clusters(counts, NUM_LETTERS * _WIDTH)
    # [clusters, T * 23 * w] -> [clusters, T, 23, w] -> [clusters, T, w, 23]
    counts = tf.reshape(counts, [num_clusters, tiles, NUM_LETTERS, _WIDTH])
    counts = tf.transpose(counts, [0, 1, 3, 2])
    # [clusters, T, w, 23] -> [clusters, T * w, 23]
    counts = tf.reshape(counts, [num_clusters, tiles * _WIDTH, NUM_LETTERS])
    return counts[:, :num_res], of_clusters(deleted, _WIDTH)[:, :num_res]


@tf.function(jit_compile=True, autograph=False)
def _of_groups(letters: Tensor, deletions: Tensor) -> tuple[Tensor, Tensor]:
    """Letters of groups of rows [g, k, w], counted, and deletions, added: [g, 23, w], [g, w]."""
    of_table = tf.cast(tf.range(NUM_LETTERS), tf.uint8)[:, None]
    rows = range(letters.shape[1])
    counts = [tf.cast(letters[:, None, row] == of_table, tf.uint8) for row in rows]
    deleted = [tf.cast(deletions[:, row], tf.int32) for row in rows]
    return tf.add_n(counts), tf.add_n(deleted)


def summarize_shared(
    centres: Tensor,
    centre_deletions: Tensor,
    rows: Tensor,
    row_deletions: Tensor,
    *,
    num_centres: int,
    num_res: Tensor | int,
) -> tuple[Tensor, Tensor]:
    """``summarize`` as AlphaFold-Multimer does it: rows are shared among their nearest centres.

    A row counts R' times in all (DeepMind's code weights it by its residues), split evenly
    among the centres with which it agrees in most columns; a centre counts once.

    Args:
        centres, centre_deletions: [S', R'] uint8, the centres masked; rows, row_deletions:
            [n, R'] uint8, none unless S' = S.

    Returns: ``cluster_profile`` [S, R, 23] and ``cluster_deletion_mean`` [S, R] float32.
    """

    def nearest(count: Tensor) -> Tensor:
        """The first nearest centre, and how many are as near: [r, 2]."""
        best = tf.reduce_max(count, axis=0)
        equals = tf.reduce_sum(tf.cast(count == best, tf.int32), axis=0)
        return tf.stack([tf.argmax(count, axis=0, output_type=tf.int32), equals], axis=1)

    def equals(count: Tensor) -> Tensor:
        """Which centres are nearest: [r, S]."""
        return tf.transpose(count == tf.reduce_max(count, axis=0))

    block = tf.TensorSpec([_ROWS, 2], tf.int32)
    first, ties = tf.unstack(_in_blocks(centres, rows, num_centres, nearest, block), axis=1)
    # Two clusters more: of rows that all centres share, like those without letters, and of
    # rows that some share.
    everybody, some = num_centres, num_centres + 1
    members = tf.where(ties == 1, first, tf.where(ties == num_centres, everybody, some))
    counts, deletions = _sums(rows, row_deletions, members, num_centres + 2)
    size = tf.math.bincount(
        members, minlength=num_centres + 2, maxlength=num_centres + 2, dtype=tf.float32
    )

    shared = tf.where(members == some)[:, 0]
    letters, length = tf.gather(rows, shared), tf.shape(rows)[1]
    block = tf.TensorSpec([_ROWS, num_centres], tf.bool)
    share = tf.cast(_in_blocks(centres, letters, num_centres, equals, block), tf.float32)
    share /= tf.cast(tf.gather(ties, shared), tf.float32)[:, None]
    # A row is a line of R' ones among R' * 23 columns.
    column = tf.range(length) * NUM_LETTERS + tf.cast(letters, tf.int32)
    line = tf.zeros_like(column) + tf.range(tf.size(shared))[:, None]
    places = tf.cast(tf.reshape(tf.stack([line, column], axis=2), [-1, 2]), tf.int64)
    width = tf.cast(tf.stack([tf.size(shared), length * NUM_LETTERS]), tf.int64)
    one_hot = tf.SparseTensor(places, tf.ones(tf.shape(places)[:1]), width)
    shared_counts = tf.sparse.sparse_dense_matmul(one_hot, share, adjoint_a=True)
    # [R' * 23, S] -> [S, R', 23]
    shared_counts = tf.reshape(tf.transpose(shared_counts), [num_centres, length, NUM_LETTERS])
    deleted = tf.cast(tf.gather(row_deletions, shared), tf.float32)
    shared_deletions = tf.matmul(share, deleted, transpose_a=True)

    def total(own: Tensor, of_rows: Tensor, of_shared: Tensor) -> Tensor:
        own = tf.pad(own, [[0, num_centres - tf.shape(own)[0]]] + [[0, 0]] * (len(own.shape) - 1))
        of_rows = of_rows[:num_centres] + of_rows[everybody] / num_centres + of_shared
        return own + tf.cast(length, tf.float32) * of_rows

    size = total(tf.ones(tf.shape(centres)[:1]), size, tf.reduce_sum(share, axis=0))
    # A centre that is missing has no rows either.
    size = tf.maximum(size, 1.0)
    counts = total(tf.one_hot(tf.cast(centres, tf.int32), NUM_LETTERS), counts, shared_counts)
    deletions = total(tf.cast(centre_deletions, tf.float32), deletions, shared_deletions)
    missing = [[0, 0], [0, num_res - length]]
    profile = tf.pad(counts / size[:, None, None], [*missing, [0, 0]])
    return profile, tf.pad(deletions / size[:, None], missing)
