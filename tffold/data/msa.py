"""Which rows of the alignment a pass sees (supplement 1.2.6, 1.2.7; Algorithm 1).

Row 0 is the query; it is never dropped and is always the first cluster centre.
Row numbers are int32 throughout; nothing is copied until the rows are chosen.
"""

from __future__ import annotations

from typing import Any

import tensorflow as tf

from tffold.data import keys
from tffold.data.keys import Draw

Tensor = Any


def deleted_blocks(num_rows: Tensor, block_rows: Tensor, starts: Tensor) -> Tensor:
    """Which rows [N] the blocks cover: ``block_rows`` rows from each start, clipped at the end."""
    # Count the blocks that begin and end at each row: no [blocks, N] table.
    ones = tf.ones_like(starts)
    edges = tf.tensor_scatter_nd_add(tf.zeros([num_rows + 1], tf.int32), starts[:, None], ones)
    ends = tf.minimum(starts + block_rows, num_rows)
    edges = tf.tensor_scatter_nd_sub(edges, ends[:, None], ones)
    return tf.cumsum(edges)[:num_rows] > 0


def block_deletion(
    num_rows: Tensor, key: Tensor, cycle: Tensor | int, *, num_blocks: int, fraction: float
) -> Tensor:
    """Rows that are left after deleting blocks of neighbours (Algorithm 1).

        block_size = floor(0.3 N_all_seq)                                      (1)
        to_delete = {}                                                         (2)
        for all j in 1 to 5:                                                   (3)
            block_start = uniform(1, N_all_seq)                                (4)
            to_delete <- to_delete ∪ {block_start, ..., + block_size - 1}      (5)
        keep = {1, ..., N_all_seq} without to_delete                                 (7)

    ``num_blocks`` blocks of floor(fraction x N) rows start uniformly over the
    rows below the query; they may overlap and are clipped at the last row.

    Returns: increasing row numbers, the query's 0 first.
    """
    block_rows = tf.cast(tf.floor(fraction * tf.cast(num_rows, tf.float64)), tf.int32)
    others = tf.maximum(num_rows - 1, 1)  # an alignment of the query alone loses nothing
    starts = 1 + keys.integers([num_blocks], key, Draw.BLOCKS, cycle, others)
    return tf.cast(tf.where(~deleted_blocks(num_rows, block_rows, starts))[:, 0], tf.int32)


def subsample(rows: Tensor, key: Tensor, cycle: Tensor | int, *, max_rows: int) -> Tensor:
    """The query and ``max_rows`` - 1 random others (supplement 1.3, for distillation)."""
    order = keys.permutation(tf.size(rows) - 1, key, Draw.DISTILLATION_ROWS, cycle)
    others = tf.sort(tf.gather(rows[1:], order[: max_rows - 1]))
    return tf.concat([rows[:1], others], axis=0)


def choose_centres(
    rows: Tensor, key: Tensor, cycle: Tensor | int, *, num_centres: int
) -> tuple[Tensor, Tensor]:
    """Cluster centres and the rest, both in random order (supplement 1.2.7, step 1).

    Returns:
        The query and up to ``num_centres`` - 1 random rows; all other rows.  As
        these are shuffled, their first E are a uniform choice of extra rows.
    """
    order = keys.permutation(tf.size(rows) - 1, key, Draw.ROWS, cycle)
    shuffled = tf.concat([rows[:1], tf.gather(rows[1:], order)], axis=0)
    return shuffled[:num_centres], shuffled[num_centres:]


def noisy_order(bias: Tensor, noise: Tensor) -> Tensor:
    """The rows of a complex in the order in which they are taken (DeepMind's ``sample_msa``).

    In descending order of 10^6 x bias + noise: rows with a bias of 1 first, both parts in
    random order.  The first S are cluster centres, the next E extra rows.

    Args:
        bias: [N] float32, 0 or 1; noise: [N] float32, Gumbel's.
    """
    return tf.argsort(1e6 * bias + noise, direction="DESCENDING", stable=True)
