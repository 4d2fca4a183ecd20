"""BERT-like masking of the cluster centres (supplement 1.2.7, step 2)."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf

from records.chemistry import MSA_MASK_INDEX
from tffold.data import keys
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
