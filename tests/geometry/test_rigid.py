"""Rigid transforms and quaternions."""

import numpy as np
import pytest
import tensorflow as tf

from tffold.geometry import rigid
from tffold.geometry.rigid import QuatAffine, Rigid


def random_rigid(rng, *shape, scale=10.0):
    quat = rng.standard_normal((*shape, 4)).astype("float32")
    trans = (rng.standard_normal((*shape, 3)) * scale).astype("float32")
    return rigid.quat_affine(quat, trans).as_rigid()


def close(a, b, atol=1e-5):
    np.testing.assert_allclose(np.asarray(a), np.asarray(b), atol=atol)


@pytest.fixture
def rng():
    return np.random.default_rng(0)


def test_rotation_by_hand():
    # A quarter turn about z takes x to y; then shift by (1, 2, 3).
    half = np.sqrt(0.5).astype("float32")
    turn = rigid.from_tensor_7(np.array([half, 0, 0, half, 1, 2, 3], "float32"))
    close(turn.rot, [[0, -1, 0], [1, 0, 0], [0, 0, 1]], 1e-6)
    close(rigid.apply(turn, np.array([1.0, 0, 0], "float32")), [1, 3, 3])
    close(rigid.invert_apply(turn, np.array([1.0, 3, 3], "float32")), [1, 0, 0])


def test_group_laws(rng):
    a, b, c = (random_rigid(rng, 2, 5) for _ in range(3))
    x = rng.standard_normal((2, 5, 3)).astype("float32")
    close(rigid.apply(rigid.compose(a, b), x), rigid.apply(a, rigid.apply(b, x)))
    left = rigid.compose(rigid.compose(a, b), c)
    right = rigid.compose(a, rigid.compose(b, c))
    close(left.rot, right.rot)
    close(left.trans, right.trans, 1e-4)
    none = rigid.compose(a, rigid.invert(a))
    close(none.rot, rigid.identity((2, 5)).rot)
    close(none.trans, np.zeros((2, 5, 3)), 1e-4)
    close(rigid.invert_apply(a, rigid.apply(a, x)), x)
    close(rigid.apply(rigid.invert(a), x), rigid.invert_apply(a, x), 1e-4)


def test_points_broadcast_over_frames(rng):
    frames = random_rigid(rng, 4)
    points = rng.standard_normal((4, 6, 3)).astype("float32")
    moved = np.asarray(rigid.apply(rigid.expand(frames), points))
    for i in range(4):
        expected = points[i] @ np.asarray(frames.rot[i]).T + np.asarray(frames.trans[i])
        close(moved[i], expected)
    back = rigid.invert_apply(rigid.expand(frames), moved)
    close(back, points)


def test_from_3_points(rng):
    neg_x, origin, xy = (rng.standard_normal((7, 3)).astype("float32") * 5 for _ in range(3))
    frame = rigid.from_3_points(neg_x, origin, xy)
    close(np.linalg.det(frame.rot), np.ones(7))
    local = np.asarray(rigid.invert_apply(frame, neg_x))
    assert (local[:, 0] < 0).all()
    close(local[:, 1:], np.zeros((7, 2)), 1e-4)
    local = np.asarray(rigid.invert_apply(frame, xy))
    assert (local[:, 1] > 0).all()
    close(local[:, 2], np.zeros(7), 1e-4)
    close(rigid.invert_apply(frame, origin), np.zeros((7, 3)))


def test_from_coinciding_points_is_finite():
    points = [tf.zeros([1, 3])] * 3
    with tf.GradientTape() as tape:
        tape.watch(points)
        frame = rigid.from_3_points(*points)
        total = tf.reduce_sum(frame.rot)
    assert not np.asarray(frame.rot).any()
    for gradient in tape.gradient(total, points):
        assert np.isfinite(gradient).all()


def test_quaternions_there_and_back(rng):
    quat = rng.standard_normal((200, 4)).astype("float32")
    quat[:4] = np.eye(4)  # half turns have a zero real part
    quat[4:8] = np.eye(4) + 1e-4
    quat /= np.linalg.norm(quat, axis=-1, keepdims=True)
    rot = rigid.quat_to_rot(quat)
    close(rot @ np.swapaxes(rot, -1, -2), np.broadcast_to(np.eye(3), (200, 3, 3)))
    back = np.asarray(rigid.rot_to_quat(rot))
    assert (back[:, 0] >= 0).all()
    close(np.abs(np.sum(back * quat, axis=-1)), np.ones(200))
    close(rigid.quat_to_rot(back), rot)
    close(rigid.rot_to_quat(np.zeros((3, 3), "float32")), [1, 0, 0, 0])


def test_tensor_round_trips(rng):
    r = random_rigid(rng, 3, 2)
    for there, back in (
        (rigid.to_tensor_7, rigid.from_tensor_7),
        (rigid.to_tensor_12, rigid.from_tensor_12),
    ):
        again = back(there(r))
        close(again.rot, r.rot)
        close(again.trans, r.trans)
    scaled = np.asarray(rigid.to_tensor_7(r)) * np.array([3.0] * 4 + [1.0] * 3, "float32")
    close(rigid.from_tensor_7(scaled, normalize=True).rot, r.rot)
    assert not np.allclose(rigid.from_tensor_7(scaled).rot, r.rot, atol=0.1)


def test_pre_compose_is_a_local_update(rng):
    start = random_rigid(rng, 6)
    affine = rigid.quat_affine(rigid.rot_to_quat(start.rot), start.trans)
    update = rng.standard_normal((6, 6)).astype("float32")
    moved = rigid.pre_compose(affine, update)
    quat = np.concatenate([np.ones((6, 1), "float32"), update[:, :3]], axis=-1)
    local = rigid.quat_affine(quat, update[:, 3:]).as_rigid()
    expected = rigid.compose(start, local)
    close(moved.rot, expected.rot)
    close(moved.trans, expected.trans, 1e-4)
    close(rigid.quat_to_rot(moved.quat), moved.rot)
    close(np.linalg.norm(moved.quat, axis=-1), np.ones(6))


def test_frames_start_at_the_origin():
    start = rigid.quat_affine_identity((3,))
    assert isinstance(start, QuatAffine)
    close(start.rot, np.broadcast_to(np.eye(3), (3, 3, 3)))
    moved = rigid.pre_compose(start, np.array([[0, 0, 0, 1, 2, 3]] * 3, "float32"))
    close(rigid.to_tensor_7(moved), [[1, 0, 0, 0, 1, 2, 3]] * 3)


def test_rotation_gradient_stops_but_translation_flows(rng):
    affine = rigid.quat_affine_identity((2,))
    update = tf.constant(rng.standard_normal((2, 6)).astype("float32"))
    x = rng.standard_normal((2, 3)).astype("float32")
    with tf.GradientTape(persistent=True) as tape:
        tape.watch(update)
        moved = rigid.pre_compose(affine, update)
        free = tf.reduce_sum(rigid.apply(moved.as_rigid(), x) ** 2)
        moved = rigid.stop_rotation_gradient(moved)
        stopped = tf.reduce_sum(rigid.apply(moved.as_rigid(), x) ** 2)
    assert np.abs(tape.gradient(free, update)[:, :3]).min() > 0
    gradient = tape.gradient(stopped, update).numpy()
    assert not gradient[:, :3].any() and np.abs(gradient[:, 3:]).min() > 0


def test_works_compiled_and_in_tf_data(rng):
    r = random_rigid(rng, 4)
    x = rng.standard_normal((4, 3)).astype("float32")
    expected = rigid.to_tensor_7(Rigid(r.rot, rigid.apply(r, x)))

    def f(rot, trans, x):
        return rigid.to_tensor_7(Rigid(rot, rigid.apply(Rigid(rot, trans), x)))

    close(tf.function(f, jit_compile=True)(r.rot, r.trans, x), expected)
    data = tf.data.Dataset.from_tensors((r.rot, r.trans, x)).map(f)
    close(next(iter(data)), expected)
