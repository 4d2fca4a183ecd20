"""What the model reads: target, MSA, extra-MSA and template features (supplement 1.2.9)."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import tensorflow as tf

from records.chemistry import MAP_HHBLITS_TO_RESTYPE, MSA_MASK_INDEX
from tffold import geometry
from tffold.data.clusters import NUM_LETTERS

Tensor = Any

# A letter's number in AlphaFold's order for each in HHblits' order, and back; the mask is 22.
_TO_RESTYPE = np.append(MAP_HHBLITS_TO_RESTYPE, MSA_MASK_INDEX).astype(np.uint8)
_TO_HHBLITS = np.argsort(_TO_RESTYPE).astype(np.uint8)


def hhblits_to_restype(letters: Tensor) -> Tensor:
    """Letters in HHblits' order (uint8, any shape), in AlphaFold's."""
    return tf.gather(_TO_RESTYPE, tf.cast(letters, tf.int32))


@tf.function(jit_compile=True, autograph=False)
def many_to_restype(letters: Tensor) -> Tensor:
    """``hhblits_to_restype``, compiled for each shape: a tenth of the time."""
    found = tf.zeros_like(letters)
    for old, new in enumerate(_TO_RESTYPE):
        found = tf.where(letters == np.uint8(old), new, found)
    return found


def restype_to_hhblits(letters: Tensor) -> Tensor:
    """Letters in AlphaFold's order (uint8, any shape), in HHblits'."""
    return tf.gather(_TO_HHBLITS, tf.cast(letters, tf.int32))


def columns_to_restype(values: Tensor) -> Tensor:
    """A table [..., 23] with a column for each letter in HHblits' order, in AlphaFold's."""
    # A product with a permutation is exact, and much faster than to gather single numbers.
    return tf.tensordot(values, np.eye(len(_TO_HHBLITS), dtype=np.float32)[:, _TO_HHBLITS], 1)


def has_deletion(deletions: Tensor) -> Tensor:
    """1 where residues were deleted, else 0."""
    return tf.cast(deletions > 0, tf.float32)


def deletion_value(deletions: Tensor) -> Tensor:
    """Deletion counts squeezed into [0, 1): 2/π·atan(d / 3)."""
    return tf.atan(tf.cast(deletions, tf.float32) / 3.0) * (2.0 / math.pi)


def target_features(aatype: Tensor, between_segment_residues: Tensor) -> Tensor:
    """``target_feat`` [R, 22]: whether a segment break lies here, one-hot residue type (21)."""
    # DISCREPANCY: the paper's target_feat has 21 columns; DeepMind's code puts the break first.
    has_break = tf.clip_by_value(tf.cast(between_segment_residues, tf.float32), 0.0, 1.0)
    return tf.concat([has_break[:, None], tf.one_hot(aatype, 21)], axis=-1)


def msa_features(
    masked: Tensor, deletions: Tensor, profile: Tensor, deletion_mean: Tensor
) -> Tensor:
    """``msa_feat`` [..., S, R, 49] of the cluster centres.

    Args:
        masked: [..., S, R] letters after masking, 0..22; deletions: [..., S, R];
        profile: [..., S, R, 23]; deletion_mean: [..., S, R].
    """
    return tf.concat(
        [
            tf.one_hot(tf.cast(masked, tf.int32), NUM_LETTERS),
            has_deletion(deletions)[..., None],
            deletion_value(deletions)[..., None],
            profile,
            deletion_value(deletion_mean)[..., None],
        ],
        axis=-1,
    )


def template_features(aatype: Tensor, positions: Tensor, masks: Tensor) -> dict[str, Tensor]:
    """The template features of T templates on R residues (without the padding).

    Args:
        aatype: [T, R] in 0..21; positions: [T, R, 37, 3] Å; masks: [T, R, 37].
    """
    aatype = tf.cast(aatype, tf.int32)
    masks = tf.cast(masks, tf.float32)
    beta, beta_mask = geometry.pseudo_beta(aatype, positions, masks)
    return {
        "template_aatype": aatype,
        "template_mask": tf.ones(tf.shape(aatype)[:1]),
        "template_all_atom_positions": positions,
        "template_all_atom_masks": masks,
        "template_pseudo_beta": beta,
        "template_pseudo_beta_mask": beta_mask,
    }
