"""The eight rigid groups of a residue: labels, and structure from torsions.

Supplement 1.8.2 and 1.8.4, Algorithms 21, 24 and 25.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from keras import ops

from records import chemistry
from tffold.geometry import rigid
from tffold.geometry.atoms import lookup
from tffold.geometry.rigid import Rigid

Tensor = Any

# Per group: the backbone label's x axis points to C, opposite to `from_3_points`.
_GROUP_FLIP = np.tile(np.eye(3, dtype=np.float32), [8, 1, 1])
_GROUP_FLIP[0] = np.diag([-1.0, 1.0, -1.0])

# [21, 8, 3, 3]: half a turn about the torsion axis where it only swaps names.
_HALF_TURN = np.where(
    chemistry.RIGID_GROUP_AMBIGUOUS[..., None, None] > 0,
    np.diag([1.0, -1.0, -1.0]).astype(np.float32),
    np.eye(3, dtype=np.float32),
)

_ATOM14_GROUP_ONE_HOT = np.eye(8, dtype=np.float32)[chemistry.ATOM14_TO_RIGID_GROUP]  # [21, 14, 8]


def atom37_to_frames(aatype: Tensor, positions: Tensor, mask: Tensor) -> dict[str, Tensor]:
    """Label frames of every rigid group (supplement 1.8.4).

    Args:
        aatype: [..., R]; positions: [..., R, 37, 3] Å; mask: [..., R, 37].

    Returns `rigidgroups_gt_frames`, `rigidgroups_alt_gt_frames` [..., R, 8, 12]
    (rotation row by row, then origin in Å; the second with ambiguous groups
    turned by half) and `rigidgroups_gt_exists` [..., R, 8].  A frame that does
    not exist may hold a zero rotation.
    """
    index = lookup(chemistry.RIGID_GROUP_ATOM37_INDICES, aatype)
    # [..., R, 8, 3] -> [..., R, 24]
    flat = ops.reshape(index, (*ops.shape(index)[:-2], 24))
    points = ops.take_along_axis(positions, flat[..., None], axis=-2)
    # [..., R, 24, 3] -> [..., R, 8, 3, 3]
    points = ops.reshape(points, (*ops.shape(index), 3))
    seen = ops.take_along_axis(ops.cast(mask, "float32"), flat, axis=-1)
    seen = ops.prod(ops.reshape(seen, ops.shape(index)), axis=-1)
    frames = rigid.from_3_points(*(points[..., i, :] for i in range(3)))
    frames = frames._replace(rot=rigid.compose_rotations(frames.rot, _GROUP_FLIP))
    turned = rigid.compose_rotations(frames.rot, lookup(_HALF_TURN, aatype))
    return {
        "rigidgroups_gt_frames": rigid.to_tensor_12(frames),
        "rigidgroups_alt_gt_frames": rigid.to_tensor_12(frames._replace(rot=turned)),
        "rigidgroups_gt_exists": seen * lookup(chemistry.RIGID_GROUP_EXISTS, aatype),
    }


def backbone_affine(rigidgroups_gt_frames: Tensor) -> Tensor:
    """`backbone_affine_tensor` [..., R, 7] of the label frames [..., R, 8, 12].

    Its mask is group 0 of `rigidgroups_gt_exists`.
    """
    return rigid.to_tensor_7(rigid.from_tensor_12(rigidgroups_gt_frames[..., 0, :]))


def _rotation_about_x(sin: Tensor, cos: Tensor) -> Tensor:
    """R = [[1, 0, 0], [0, cos, -sin], [0, sin, cos]] (Algorithm 25)."""
    zero, one = ops.zeros_like(sin), ops.ones_like(sin)
    rows = [[one, zero, zero], [zero, cos, -sin], [zero, sin, cos]]
    return ops.stack([ops.stack(row, axis=-1) for row in rows], axis=-2)


def torsion_angles_to_frames(aatype: Tensor, backbone: Rigid, angles_sin_cos: Tensor) -> Rigid:
    """Global frames [..., R, 8] of all rigid groups (Algorithm 24, lines 2 to 10).

        T_i^g = T_i ∘ T^lit_g ∘ makeRotX(α^g),  g = omega, phi, psi, chi1
        T_i^g = T_i^(g-1) ∘ T^lit_g ∘ makeRotX(α^g),  g = chi2, chi3, chi4

    All groups at once; each chi group stands in the frame of the one before.

    Args:
        aatype: [R]; backbone: [..., R] in Å;
        angles_sin_cos: [..., R, 7, 2], unit vectors (sin, cos) of pre-omega, phi, psi, chi1-4.
    """
    sin, cos = angles_sin_cos[..., 0], angles_sin_cos[..., 1]
    # The backbone group turns by zero: [..., R, 7] -> [..., R, 8]
    sin = ops.concatenate([ops.zeros_like(sin[..., :1]), sin], axis=-1)
    cos = ops.concatenate([ops.ones_like(cos[..., :1]), cos], axis=-1)
    default = lookup(chemistry.RIGID_GROUP_DEFAULT_FRAME, aatype)
    rot = rigid.compose_rotations(default[..., :3, :3], _rotation_about_x(sin, cos))
    local = Rigid(rot, ops.broadcast_to(default[..., :3, 3], ops.shape(rot)[:-1]))
    # Groups 0 to 4 are given in the backbone frame, each further chi group in the one before.
    in_backbone = [Rigid(local.rot[..., :5, :, :], local.trans[..., :5, :])]
    parent = Rigid(local.rot[..., 4:5, :, :], local.trans[..., 4:5, :])
    for group in (5, 6, 7):
        child = Rigid(
            local.rot[..., group : group + 1, :, :], local.trans[..., group : group + 1, :]
        )
        parent = rigid.compose(parent, child)
        in_backbone.append(parent)
    groups = Rigid(
        ops.concatenate([r.rot for r in in_backbone], axis=-3),
        ops.concatenate([r.trans for r in in_backbone], axis=-2),
    )
    return rigid.compose(rigid.expand(backbone), groups)


def frames_to_atom14_positions(aatype: Tensor, frames: Rigid) -> Tensor:
    """Atom positions [..., R, 14, 3] in Å of frames [..., R, 8] (Algorithm 24, line 11).

        x_i^a = T_i^g(a) x^lit_a

    Atoms that a residue lacks lie at the origin.
    """
    # A sum over a one-hot mask: exact, and its gradient needs no scatter.
    group = lookup(_ATOM14_GROUP_ONE_HOT, aatype)
    # [..., R, 14, 8, 1, 1] * [..., R, 1, 8, 3, 3] -> [..., R, 14, 3, 3]
    rot = ops.sum(group[..., None, None] * frames.rot[..., None, :, :, :], axis=-3)
    trans = ops.sum(group[..., None] * frames.trans[..., None, :, :], axis=-2)
    ideal = lookup(chemistry.ATOM14_IDEAL_POSITIONS, aatype)
    exists = lookup(chemistry.RESTYPE_ATOM14_MASK, aatype)
    return rigid.apply(Rigid(rot, trans), ideal) * exists[..., None]
