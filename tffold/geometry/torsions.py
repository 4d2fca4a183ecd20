"""Torsion angles from coordinates (supplement 1.8.4; template features 1.7.1)."""

from __future__ import annotations

from typing import Any

import numpy as np
from keras import ops

from records import chemistry
from tffold.geometry.atoms import lookup

Tensor = Any

_N, _CA, _C, _O = (chemistry.ATOM_ORDER[name] for name in ("N", "CA", "C", "O"))
# What stands for the sine and cosine of an angle whose atoms are not all known.
_UNDEFINED = np.array([1.0, 0.0], np.float32)
# psi is measured with O, which lies opposite to the next N.
_SIGN = np.array([1, 1, -1, 1, 1, 1, 1], np.float32)


def _shift(values: Tensor) -> Tensor:
    """Each residue's predecessor's values [..., R, d], zero before the first."""
    return ops.concatenate([ops.zeros_like(values[..., :1, :]), values[..., :-1, :]], axis=-2)


def _unit(vector: Tensor) -> Tensor:
    return vector * ops.rsqrt(ops.sum(ops.square(vector), axis=-1, keepdims=True) + 1e-8)


def _dihedral_sin_cos(a: Tensor, b: Tensor, c: Tensor, d: Tensor) -> Tensor:
    """Sine and cosine [..., 2] of the torsion about b-c, of four points [..., 3]."""
    e0 = _unit(c - b)
    in_plane = a - c
    e1 = _unit(in_plane - ops.sum(in_plane * e0, axis=-1, keepdims=True) * e0)
    e2 = ops.cross(e0, e1)
    # In the frame (e0, e1, e2) with origin c, the fourth atom's y and z are cosine and sine.
    cosine, sine = (ops.sum(axis * (d - c), axis=-1) for axis in (e1, e2))
    return _unit(ops.stack([sine, cosine], axis=-1))


def atom37_to_torsion_angles(aatype: Tensor, positions: Tensor, mask: Tensor) -> dict[str, Tensor]:
    """The seven torsion angles pre-omega, phi, psi, chi1-4 of every residue.

    DISCREPANCY: as in DeepMind's code a residue's predecessor is its left
    neighbour in the array, whatever their residue indices.

    Args:
        aatype: [..., R], values above 20 count as unknown; positions: [..., R, 37, 3] Å;
        mask: [..., R, 37].

    Returns `torsion_angles_sin_cos` and `alt_torsion_angles_sin_cos` [..., R, 7, 2]
    (the second with ambiguous chi angles turned by pi), `torsion_angles_mask` [..., R, 7].
    """
    aatype = ops.minimum(aatype, chemistry.UNKNOWN_INDEX)
    mask = ops.cast(mask, "float32")

    def backbone(values: Tensor) -> tuple[tuple[Tensor, ...], ...]:
        """The four atoms of pre-omega, phi and psi; values [..., R, 37, d]."""
        n, ca, c, o = (values[..., atom, :] for atom in (_N, _CA, _C, _O))
        previous_ca, previous_c = _shift(ca), _shift(c)
        return (previous_ca, previous_c, n, ca), (previous_c, n, ca, c), (n, ca, c, o)

    index = lookup(chemistry.CHI_ATOM_INDICES, aatype)
    # [..., R, 4 angles, 4 atoms] -> [..., R, 16]
    flat = ops.reshape(index, (*ops.shape(index)[:-2], 16))
    chi_points = ops.take_along_axis(positions, flat[..., None], axis=-2)
    # [..., R, 16, 3] -> [..., R, 4, 4, 3]
    chi_points = ops.reshape(chi_points, (*ops.shape(index), 3))
    chi_seen = ops.reshape(ops.take_along_axis(mask, flat, axis=-1), ops.shape(index))
    chi_mask = lookup(chemistry.CHI_MASK, aatype) * ops.prod(chi_seen, axis=-1)

    backbone_points = ops.stack([ops.stack(p, axis=-2) for p in backbone(positions)], axis=-3)
    backbone_seen = [a * b * c * d for a, b, c, d in backbone(mask[..., None])]
    backbone_mask = ops.concatenate(backbone_seen, axis=-1)
    points = ops.concatenate([backbone_points, chi_points], axis=-3)  # [..., R, 7, 4, 3]
    angle_mask = ops.concatenate([backbone_mask, chi_mask], axis=-1)

    sin_cos = _dihedral_sin_cos(*(points[..., i, :] for i in range(4)))
    sin_cos = sin_cos * _SIGN[:, None]

    turn = lookup(1.0 - 2.0 * chemistry.RIGID_GROUP_AMBIGUOUS[:, 1:], aatype)
    alternative = sin_cos * turn[..., None]
    defined = angle_mask[..., None] > 0
    sin_cos, alternative = (ops.where(defined, x, _UNDEFINED) for x in (sin_cos, alternative))
    return {
        "torsion_angles_sin_cos": sin_cos,
        "alt_torsion_angles_sin_cos": alternative,
        "torsion_angles_mask": angle_mask,
    }


def chi_angles(torsions: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
    """`chi_angles` (radians, 0 where undefined) and `chi_mask`, both [..., R, 4].

    Args:
        torsions: what `atom37_to_torsion_angles` returned.
    """
    sin_cos = torsions["torsion_angles_sin_cos"][..., 3:, :]
    mask = torsions["torsion_angles_mask"][..., 3:]
    return ops.arctan2(sin_cos[..., 0], sin_cos[..., 1]) * mask, mask
