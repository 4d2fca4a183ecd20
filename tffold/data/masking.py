"""BERT-like masking of the cluster centres (supplement 1.2.7, step 2)."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf

from records.chemistry import MSA_MASK_INDEX
from tffold.data import keys
from tffold.data.clusters import NUM_LETTERS
from tffold.data.inputs import hhblits_to_restype
from tffold.data.keys import Draw

Tensor = Any

_NUM_AMINO_ACIDS = 20


class Replacement(NamedTuple):
    """What becomes of the chosen cells; the remainder turns into the mask token."""

    uniform: float  # one of the 20 amino acids, uniformly
    profile: float  # a draw from the column's profile
    same: float  # left as it is


def hhblits_profile(msa: np.ndarray) -> np.ndarray:
    """Share of each of the 22 letters in every column of the full alignment: [R, 22] float32.

    Args:
        msa: [N, R] in 0..21, before any row is dropped.
    """
    num_rows, num_res = msa.shape
    cells = np.arange(num_res) * 22 + msa
    counts = np.bincount(cells.ravel(), minlength=num_res * 22)
    # [R * 22] -> [R, 22]
    return (counts.reshape(num_res, 22) / num_rows).astype(np.float32)


def column_profile(msa: Tensor) -> Tensor:
    """Share of each of the 23 letters in every column of an alignment: [N, R] uint8 -> [R, 23]."""
    cells = tf.cast(tf.transpose(msa), tf.int32)
    counts = tf.raw_ops.DenseBincount(
        input=cells, size=NUM_LETTERS, weights=tf.zeros([0]), binary_output=False
    )
    return counts / tf.cast(tf.shape(msa)[0], tf.float32)


def replace_by_noise(
    centres: Tensor,
    cells: Tensor,
    profile: Tensor,
    noise: Tensor,
    replacement: Replacement,
) -> Tensor:
    """What chosen cells become in a complex (DeepMind's ``make_masked_msa``): [S, R] uint8.

    The letter with the largest log probability + Gumbel noise, each of 23, with the mask
    token's probability what ``replacement`` leaves.  It is the rule of ``mask_centres``, with
    other draws, but that DeepMind adds 10^-6 to each letter's probability.

    Args:
        centres: [S, R] uint8 in 0..21; cells: [n, 2] int32, the chosen ones;
        profile: [R, 23], in the centres' order of letters; noise: [n, 23].
    """
    uniform = np.zeros(NUM_LETTERS, np.float32)
    uniform[:_NUM_AMINO_ACIDS] = replacement.uniform / _NUM_AMINO_ACIDS
    uniform[MSA_MASK_INDEX] = 1.0 - sum(replacement)
    same = tf.one_hot(tf.cast(tf.gather_nd(centres, cells), tf.int32), NUM_LETTERS)
    of_column = tf.gather(profile, cells[:, 1])
    probability = uniform + replacement.profile * of_column + replacement.same * same
    new = tf.argmax(tf.math.log(probability + 1e-6) + noise, axis=1)
    return tf.tensor_scatter_nd_update(centres, cells, tf.cast(new, tf.uint8))


def mask_centres(
    centres: Tensor,
    full_msa: Tensor,
    key: Tensor,
    cycle: Tensor | int,
    *,
    fraction: float,
    replacement: Replacement,
) -> tuple[Tensor, Tensor]:
    """Replace a random share of the cells, query and gaps included.

    Each cell is chosen with probability ``fraction``; a chosen cell becomes a
    uniform amino acid, a letter drawn from the profile of the full alignment's
    column, itself, or the mask token (22).  A letter drawn from the profile is
    the letter of a uniformly random row of the full alignment, which is how it
    is drawn: the profile itself (``hhblits_profile``) need not be computed.

    Args:
        centres: [S, R] uint8 in 0..21; full_msa: [N, R] uint8 in HHblits' order.

    Returns: the masked centres [S, R] uint8 and which cells were chosen [S, R] bool.
    """
    shape = tf.shape(centres)
    chosen = keys.uniform(shape, key, Draw.MASK, cycle) < fraction
    # The other draws are made for the chosen cells alone.
    cells = tf.cast(tf.where(chosen), tf.int32)
    count = tf.shape(cells)[:1]
    kind = keys.uniform(count, key, Draw.REPLACEMENT, cycle)
    letter = keys.integers(count, key, Draw.UNIFORM_LETTER, cycle, _NUM_AMINO_ACIDS)
    row = keys.integers(count, key, Draw.PROFILE_ROW, cycle, tf.shape(full_msa)[0])
    from_profile = tf.gather_nd(full_msa, tf.stack([row, cells[:, 1]], axis=1))
    from_profile = hhblits_to_restype(from_profile)
    same = tf.gather_nd(centres, cells)
    edges = np.cumsum(replacement)
    new = tf.where(
        kind < edges[0],
        tf.cast(letter, tf.uint8),
        tf.where(
            kind < edges[1],
            from_profile,
            tf.where(kind < edges[2], same, tf.constant(MSA_MASK_INDEX, tf.uint8)),
        ),
    )
    return tf.tensor_scatter_nd_update(centres, cells, new), chosen
