"""Distances, lDDT and superposition."""

import numpy as np
import pytest
import tensorflow as tf
from Bio.SVDSuperimposer import SVDSuperimposer

from tffold import geometry
from tffold.geometry import rigid


@pytest.fixture
def rng():
    return np.random.default_rng(2)


def line(*x):
    """Points on the x axis."""
    return np.stack([np.array(x, "float32"), *[np.zeros(len(x), "float32")] * 2], axis=-1)


def test_distances_and_bins():
    points = line(0, 3, 7)
    np.testing.assert_array_equal(
        geometry.pairwise_distances_sq(points), [[0, 9, 49], [9, 0, 16], [49, 16, 0]]
    )
    edges = np.array([2.0, 4.0, 6.0])
    bins = geometry.bin_index(np.array([1.0, 2.0, 2.1, 5.0, 99.0]), edges)
    assert np.asarray(bins).tolist() == [0, 0, 1, 2, 3]
    dgram = np.asarray(geometry.dgram(points, 2.0, 6.0, 3))  # edges 2, 4, 6
    assert dgram[0, 1].tolist() == [1, 0, 0] and dgram[1, 2].tolist() == [0, 0, 0]
    assert dgram[0, 2].tolist() == [0, 0, 1] and not dgram[0, 0].any()


def test_distance_gradient_of_coinciding_points_is_finite():
    points = tf.zeros([3, 3])
    with tf.GradientTape() as tape:
        tape.watch(points)
        total = tf.reduce_sum(geometry.pairwise_distances(points))
    assert np.isfinite(tape.gradient(total, points)).all()


def test_lddt_by_hand():
    true = line(0, 10, 30)
    # Pairs in reach: (0, 1) only; its distance is off by 1.5: 2 of 4 thresholds hold.
    predicted = line(0, 11.5, 30)
    ones = np.ones(3, "float32")
    assert float(geometry.lddt(predicted, true, ones)) == pytest.approx(0.5)
    per_residue = geometry.lddt_per_residue(predicted, true, ones)
    np.testing.assert_allclose(per_residue, [0.5, 0.5, 1.0])  # the last has no pair
    # With a longer reach (0, 2) is exact and (1, 2) off by 1.5.
    np.testing.assert_allclose(
        geometry.lddt_per_residue(predicted, true, ones, cutoff=50.0), [0.75, 0.5, 0.75]
    )
    mask = np.array([1, 0, 1], "float32")
    assert float(geometry.lddt(predicted, true, mask, cutoff=50.0)) == pytest.approx(1.0)
    for error, score in ((0.4, 1.0), (0.6, 0.75), (3.0, 0.25), (5.0, 0.0)):
        found = geometry.lddt(line(0, 10 + error), line(0, 10), ones[:2])
        assert float(found) == pytest.approx(score, abs=1e-6)


def test_superposition_equals_biopython(rng):
    a = (rng.standard_normal((15, 3)) * 10).astype("float32")
    for target in (a + rng.standard_normal((15, 3)), -a, rng.standard_normal((15, 3)) * 5):
        target = target.astype("float32")
        other = SVDSuperimposer()
        other.set(target, a)
        other.run()
        rot, trans = other.get_rotran()
        motion = geometry.superpose(a, target, np.ones(15, "float32"))
        np.testing.assert_allclose(motion.rot, rot.T, atol=1e-4)
        np.testing.assert_allclose(motion.trans, trans, atol=1e-3)
        rmsd = geometry.superposed_rmsd(a, target, np.ones(15, "float32"))
        assert float(rmsd) == pytest.approx(other.get_rms(), rel=1e-4)


def test_superposition_leaves_masked_points_out_and_undoes_any_motion(rng):
    quat = rng.standard_normal((4, 4)).astype("float32")
    trans = (rng.standard_normal((4, 3)) * 50).astype("float32")
    motion = rigid.quat_affine(quat, trans).as_rigid()
    a = (rng.standard_normal((4, 9, 3)) * 10).astype("float32")
    b = np.array(rigid.apply(rigid.expand(motion), a))
    mask = np.ones((4, 9), "float32")
    b[:, 3] += 100
    mask[:, 3] = 0
    found = tf.function(geometry.superpose, jit_compile=True)(a, b, mask)
    np.testing.assert_allclose(found.rot, motion.rot, atol=1e-4)
    np.testing.assert_allclose(geometry.superposed_rmsd(a, b, mask), np.zeros(4), atol=1e-3)
    assert (np.asarray(geometry.rmsd(a, b, mask)) > 1).all()
    nothing = geometry.superposed_rmsd(a, b, np.zeros((4, 9), "float32"))
    np.testing.assert_array_equal(nothing, np.zeros(4))


def test_rmsd_by_hand():
    ones = np.ones(2, "float32")
    assert float(geometry.rmsd(line(0, 4), line(0, 0), ones)) == pytest.approx(np.sqrt(8))
    # After superposition the two distances, 4 and 2, differ by one at either end.
    assert float(geometry.superposed_rmsd(line(0, 4), line(7, 9), ones)) == pytest.approx(1.0)
