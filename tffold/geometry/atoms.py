"""Atoms of a residue packed (atom14) and by name (atom37) (supplement 1.2.1, 1.8.2)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from keras import ops

from records import chemistry

Tensor = Any

# [21, 14]: the slot whose atom a slot's name means after renaming.
_SWAPPED_SLOT = chemistry.RENAMING_MATRICES.argmax(axis=-1).astype(np.int32)


def lookup(table: np.ndarray, aatype: Tensor) -> Tensor:
    """Rows of a [21, ...] chemistry table for residue types [...] in 0..20."""
    return ops.take(ops.convert_to_tensor(table), aatype, axis=0)


def _pick(values: Tensor, index: Tensor) -> Tensor:
    """values [..., R, n(, 3)] at index [..., R, m] along the atom axis."""
    if len(values.shape) == len(index.shape):
        return ops.take_along_axis(values, index, axis=-1)
    return ops.take_along_axis(values, index[..., None], axis=-2)


def make_atom14_masks(aatype: Tensor) -> dict[str, Tensor]:
    """Which atoms a residue type has and how the two numberings map (aatype [..., R]).

    Returns `atom14_atom_exists` [..., R, 14] and `atom37_atom_exists` [..., R, 37]
    float32, `residx_atom14_to_atom37` [..., R, 14] and `residx_atom37_to_atom14`
    [..., R, 37] int32 (0 where there is no atom).
    """
    return {
        "atom14_atom_exists": lookup(chemistry.RESTYPE_ATOM14_MASK, aatype),
        "residx_atom14_to_atom37": lookup(chemistry.RESTYPE_ATOM14_TO_ATOM37, aatype),
        "residx_atom37_to_atom14": lookup(chemistry.RESTYPE_ATOM37_TO_ATOM14, aatype),
        "atom37_atom_exists": lookup(chemistry.RESTYPE_ATOM37_MASK, aatype),
    }


def make_atom14_positions(aatype: Tensor, positions: Tensor, mask: Tensor) -> dict[str, Tensor]:
    """True atom14 positions under both namings (supplement 1.8.5, Algorithm 26's input).

    Args:
        aatype: [..., R]; positions: [..., R, 37, 3] Å; mask: [..., R, 37].

    Returns `atom14_gt_positions`, `atom14_alt_gt_positions` [..., R, 14, 3],
    `atom14_gt_exists`, `atom14_alt_gt_exists`, `atom14_atom_is_ambiguous` [..., R, 14].
    """
    to_37 = lookup(chemistry.RESTYPE_ATOM14_TO_ATOM37, aatype)
    exists = lookup(chemistry.RESTYPE_ATOM14_MASK, aatype)
    exists = exists * _pick(ops.cast(mask, "float32"), to_37)
    truth = _pick(positions, to_37) * exists[..., None]
    swapped = lookup(_SWAPPED_SLOT, aatype)
    return {
        "atom14_gt_exists": exists,
        "atom14_gt_positions": truth,
        "atom14_alt_gt_exists": _pick(exists, swapped),
        "atom14_alt_gt_positions": _pick(truth, swapped),
        "atom14_atom_is_ambiguous": lookup(chemistry.ATOM14_AMBIGUOUS, aatype),
    }


def atom14_to_atom37(values: Tensor, batch: Mapping[str, Tensor]) -> Tensor:
    """Spread atom14 values [..., R, 14(, 3)] to atom37, zero where an atom does not exist.

    `batch` holds `residx_atom37_to_atom14` and `atom37_atom_exists`.
    """
    exists = ops.cast(batch["atom37_atom_exists"], values.dtype)
    picked = _pick(values, batch["residx_atom37_to_atom14"])
    return picked * (exists if len(picked.shape) == len(exists.shape) else exists[..., None])


def pseudo_beta(aatype: Tensor, positions: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
    """Cβ, or Cα for glycine: positions [..., R, 3] in Å and mask [..., R].

    Args:
        aatype: [..., R]; positions: [..., R, 37, 3]; mask: [..., R, 37].
    """
    ca, cb = chemistry.ATOM_ORDER["CA"], chemistry.ATOM_ORDER["CB"]
    is_glycine = ops.equal(aatype, chemistry.RESTYPE_ORDER["G"])
    beta = ops.where(is_glycine[..., None], positions[..., ca, :], positions[..., cb, :])
    return beta, ops.cast(ops.where(is_glycine, mask[..., ca], mask[..., cb]), "float32")
