"""Least-squares superposition (Kabsch 1976, by Horn's quaternions, 1987)."""

from __future__ import annotations

from typing import Any

from keras import ops

from tffold.geometry import rigid
from tffold.geometry.rigid import Rigid

Tensor = Any


def superpose(mobile: Tensor, target: Tensor, weight: Tensor) -> Rigid:
    """The proper rigid motion that moves `mobile` closest to `target`.

    The rotation's quaternion is the leading eigenvector of a symmetric 4x4
    matrix, so there is no mirror image to guard against.  Not meant to be
    differentiated.

    Args:
        mobile, target: [..., i, 3] Å; weight: [..., i], 0 leaves a point out.

    Returns the transforms [...]; with no points the identity or some rotation.
    """
    weight = weight[..., None]
    total = ops.maximum(ops.sum(weight, axis=-2), 1e-6)
    mobile_centre = ops.sum(mobile * weight, axis=-2) / total
    target_centre = ops.sum(target * weight, axis=-2) / total
    a = (mobile - mobile_centre[..., None, :]) * weight
    b = target - target_centre[..., None, :]
    covariance = ops.sum(a[..., :, None] * b[..., None, :], axis=-3) / total[..., None]
    xx, xy, xz, yx, yy, yz, zx, zy, zz = (covariance[..., i, j] for i in range(3) for j in range(3))
    rows = [
        [xx + yy + zz, yz - zy, zx - xz, xy - yx],
        [yz - zy, xx - yy - zz, xy + yx, zx + xz],
        [zx - xz, xy + yx, yy - xx - zz, yz + zy],
        [xy - yx, zx + xz, yz + zy, zz - xx - yy],
    ]
    key = ops.stack([ops.stack(row, axis=-1) for row in rows], axis=-2)
    # Eigenvalues ascend: the last column is the leading eigenvector.
    quat = ops.linalg.eigh(key)[1][..., :, -1]
    rot = rigid.quat_affine(quat, mobile_centre).rot
    return Rigid(rot, target_centre - rigid.rotate(rot, mobile_centre))


def rmsd(predicted: Tensor, true: Tensor, mask: Tensor) -> Tensor:
    """Root mean square deviation [...] in Å of points [..., i, 3], as they lie."""
    deviation_sq = ops.sum(ops.square(predicted - true), axis=-1)
    return ops.sqrt(ops.sum(deviation_sq * mask, axis=-1) / ops.maximum(ops.sum(mask, axis=-1), 1))


def superposed_rmsd(predicted: Tensor, true: Tensor, mask: Tensor) -> Tensor:
    """Smallest root mean square deviation [...] in Å over all rigid motions."""
    motion = rigid.expand(superpose(predicted, true, mask))
    return rmsd(rigid.apply(motion, predicted), true, mask)
