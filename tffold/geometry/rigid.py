"""Rigid transforms and quaternions (supplement 1.8, Algorithms 21 and 23).

Every product here is an elementwise multiplication and a sum, never a matrix
product: TF32 on GPUs and bfloat16 on TPUs would otherwise round coordinates of
100 Å to a tenth of an Å.  XLA fuses the pieces.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from keras import ops

Tensor = Any


class Rigid(NamedTuple):
    """x -> rot x + trans; `rot` [..., 3, 3] maps local to global axes, `trans` [..., 3] in Å."""

    rot: Tensor
    trans: Tensor

    def as_rigid(self) -> Rigid:
        """Itself: as a `QuatAffine` is asked."""
        return self


class QuatAffine(NamedTuple):
    """A backbone frame kept as quaternion `quat` [..., 4] (w, x, y, z), `rot` and `trans`."""

    quat: Tensor
    rot: Tensor
    trans: Tensor

    def as_rigid(self) -> Rigid:
        """The transform without its quaternion."""
        return Rigid(self.rot, self.trans)


def rotate(rot: Tensor, points: Tensor) -> Tensor:
    """rot [..., 3, 3] times points [..., 3]; the leading axes broadcast."""
    return ops.sum(rot * points[..., None, :], axis=-1)


def unrotate(rot: Tensor, points: Tensor) -> Tensor:
    """The transpose of rot [..., 3, 3] times points [..., 3]; the leading axes broadcast."""
    return ops.sum(rot * points[..., :, None], axis=-2)


def compose_rotations(a: Tensor, b: Tensor) -> Tensor:
    """Product of rotations [..., 3, 3]; the leading axes broadcast."""
    # [..., x, y, 1] * [..., 1, y, z] -> [..., x, z]
    return ops.sum(a[..., :, :, None] * b[..., None, :, :], axis=-2)


def identity(shape: Sequence[int] = ()) -> Rigid:
    """Identity transforms with leading axes `shape`."""
    rot = ops.broadcast_to(ops.eye(3, dtype="float32"), (*shape, 3, 3))
    return Rigid(rot, ops.zeros((*shape, 3), "float32"))


def compose(a: Rigid, b: Rigid) -> Rigid:
    """First `b`, then `a`: apply(compose(a, b), x) == apply(a, apply(b, x))."""
    return Rigid(compose_rotations(a.rot, b.rot), rotate(a.rot, b.trans) + a.trans)


def invert(r: Rigid) -> Rigid:
    """The inverse transform."""
    return Rigid(ops.swapaxes(r.rot, -1, -2), -unrotate(r.rot, r.trans))


def apply(r: Rigid, points: Tensor) -> Tensor:
    """Local points [..., 3] in global coordinates; r's axes broadcast against the leading ones."""
    return rotate(r.rot, points) + r.trans


def invert_apply(r: Rigid, points: Tensor) -> Tensor:
    """Global points [..., 3] in r's local coordinates; see `apply`."""
    return unrotate(r.rot, points - r.trans)


def expand(r: Rigid, num_axes: int = 1) -> Rigid:
    """Append axes of length one to the leading axes, to broadcast over points [..., p, 3]."""
    rot, trans = r
    for _ in range(num_axes):
        rot, trans = rot[..., None, :, :], trans[..., None, :]
    return Rigid(rot, trans)


def _normalize(vector: Tensor, epsilon: float = 1e-8) -> Tensor:
    """Unit vector [..., 3]; zero stays zero, with a finite gradient."""
    norm_sq = ops.sum(ops.square(vector), axis=-1, keepdims=True)
    return vector * ops.rsqrt(norm_sq + epsilon)


def cross(a: Tensor, b: Tensor) -> Tensor:
    """Cross product of [..., 3] vectors."""
    ax, ay, az = (a[..., i] for i in range(3))
    bx, by, bz = (b[..., i] for i in range(3))
    return ops.stack([ay * bz - az * by, az * bx - ax * bz, ax * by - ay * bx], axis=-1)


def from_3_points(point_on_neg_x_axis: Tensor, origin: Tensor, point_on_xy_plane: Tensor) -> Rigid:
    """Frames from three points [..., 3] each (Algorithm 21).

        v_1 = x_3 - x_2                                                 (1)
        v_2 = x_1 - x_2                                                 (2)
        e_1 = v_1 / |v_1|                                               (3)
        u_2 = v_2 - e_1 (e_1 · v_2)                                     (4)
        e_2 = u_2 / |u_2|                                               (5)
        e_3 = cross(e_1, e_2)                                           (6)
        R = concat(e_1, e_2, e_3)                                       (7)
        t = x_2                                                         (8)

    DISCREPANCY: as in DeepMind's code the first point lies on the negative x
    axis: x_3 is its mirror image in the origin x_2, and x_1 the third point.
    Coinciding points give a zero rotation, not NaN.
    """
    e0 = _normalize(origin - point_on_neg_x_axis)
    in_plane = point_on_xy_plane - origin
    e1 = _normalize(in_plane - e0 * ops.sum(in_plane * e0, axis=-1, keepdims=True))
    return Rigid(ops.stack([e0, e1, cross(e0, e1)], axis=-1), origin)


def quat_to_rot(quat: Tensor) -> Tensor:
    """Rotation [..., 3, 3] of a unit quaternion [..., 4] (Algorithm 23, line 3).

    It is not normalised here.
    """
    w, x, y, z = (quat[..., i] for i in range(4))
    rows = [
        [w * w + x * x - y * y - z * z, 2.0 * (x * y - w * z), 2.0 * (x * z + w * y)],
        [2.0 * (x * y + w * z), w * w - x * x + y * y - z * z, 2.0 * (y * z - w * x)],
        [2.0 * (x * z - w * y), 2.0 * (y * z + w * x), w * w - x * x - y * y + z * z],
    ]
    return ops.stack([ops.stack(row, axis=-1) for row in rows], axis=-2)


def rot_to_quat(rot: Tensor) -> Tensor:
    """Unit quaternion [..., 4] with w >= 0 of a rotation [..., 3, 3].

    The outer product 4 q q^T is linear in the rotation; its row with the
    largest diagonal element is q times a number that is safe to divide by.
    A zero rotation (an undefined frame) gives the identity.
    """
    xx, xy, xz, yx, yy, yz, zx, zy, zz = (rot[..., i, j] for i in range(3) for j in range(3))
    rows = [
        [1.0 + xx + yy + zz, zy - yz, xz - zx, yx - xy],
        [zy - yz, 1.0 + xx - yy - zz, xy + yx, xz + zx],
        [xz - zx, xy + yx, 1.0 - xx + yy - zz, yz + zy],
        [yx - xy, xz + zx, yz + zy, 1.0 - xx - yy + zz],
    ]
    diagonal = ops.stack([rows[i][i] for i in range(4)], axis=-1)
    outer = ops.stack([ops.stack(row, axis=-1) for row in rows], axis=-2)
    best = ops.one_hot(ops.argmax(diagonal, axis=-1), 4, dtype=outer.dtype)
    quat = ops.sum(outer * best[..., :, None], axis=-2)
    quat = quat * ops.rsqrt(ops.sum(ops.square(quat), axis=-1, keepdims=True))
    return ops.where(quat[..., :1] < 0.0, -quat, quat)


def to_tensor_7(r: Rigid | QuatAffine) -> Tensor:
    """[..., 7]: quaternion, then translation."""
    quat = r.quat if isinstance(r, QuatAffine) else rot_to_quat(r.rot)
    return ops.concatenate([quat, r.trans], axis=-1)


def from_tensor_7(tensor: Tensor, normalize: bool = False) -> Rigid:
    """Inverse of `to_tensor_7`; `normalize` rescales the quaternions to length one."""
    return quat_affine(tensor[..., :4], tensor[..., 4:], normalize).as_rigid()


def to_tensor_12(r: Rigid) -> Tensor:
    """[..., 12]: the rotation row by row, then the translation."""
    # [..., 3, 3] -> [..., 9]
    flat = ops.reshape(r.rot, (*ops.shape(r.rot)[:-2], 9))
    return ops.concatenate([flat, r.trans], axis=-1)


def from_tensor_12(tensor: Tensor) -> Rigid:
    """Inverse of `to_tensor_12`."""
    # [..., 9] -> [..., 3, 3]
    rot = ops.reshape(tensor[..., :9], (*ops.shape(tensor)[:-1], 3, 3))
    return Rigid(rot, tensor[..., 9:])


def quat_affine(quat: Tensor, trans: Tensor, normalize: bool = True) -> QuatAffine:
    """Frame from quaternion [..., 4] and translation [..., 3]."""
    if normalize:
        quat = quat * ops.rsqrt(ops.sum(ops.square(quat), axis=-1, keepdims=True))
    return QuatAffine(quat, quat_to_rot(quat), trans)


def quat_affine_identity(shape: Sequence[int]) -> QuatAffine:
    """All residues at the origin, unrotated: the "black hole" start (Algorithm 20, line 4)."""
    one = ops.broadcast_to(ops.convert_to_tensor([1.0, 0.0, 0.0, 0.0]), (*shape, 4))
    return quat_affine(one, ops.zeros((*shape, 3), "float32"), normalize=False)


def pre_compose(affine: QuatAffine, update: Tensor) -> QuatAffine:
    """Compose a frame with a small local update (Algorithm 23; Algorithm 20, line 10).

        (a, b, c, d) <- (1, b, c, d) / sqrt(1 + b² + c² + d²)           (23: 2)
        R = quat_to_rot(a, b, c, d)                                     (23: 3)
        T <- T ∘ (R, t)                                                 (23: 4, 20: 10)

    ``update`` [..., 6] holds b, c, d and t.
    The update's quaternion is (1, b, c, d) before normalisation, b, c, d its
    first three numbers; the last three translate along the frame's own axes.
    """
    w, x, y, z = (affine.quat[..., i] for i in range(4))
    b, c, d = (update[..., i] for i in range(3))
    product = [
        -x * b - y * c - z * d,
        w * b + y * d - z * c,
        w * c + z * b - x * d,
        w * d + x * c - y * b,
    ]
    quat = affine.quat + ops.stack(product, axis=-1)
    return quat_affine(quat, affine.trans + rotate(affine.rot, update[..., 3:]))


def compose_update(frame: Rigid, update: Tensor) -> Rigid:
    """`pre_compose` of a frame kept as a rotation matrix (Algorithm 23; Algorithm 20, line 10)."""
    one = ops.ones_like(update[..., :1])
    small = quat_affine(ops.concatenate([one, update[..., :3]], axis=-1), update[..., 3:])
    return compose(frame, small.as_rigid())


def stop_rotation_gradient(affine: QuatAffine | Rigid) -> QuatAffine | Rigid:
    """No gradient through orientations between iterations (Algorithm 20, lines 19 to 21)."""
    orientation = {n: ops.stop_gradient(x) for n, x in affine._asdict().items() if n != "trans"}
    return affine._replace(**orientation)
