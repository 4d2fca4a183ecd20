"""Superposition, by hand and against Biopython."""

import numpy as np
import pytest
import tensorflow as tf
from Bio.SVDSuperimposer import SVDSuperimposer
from points import line

from tffold import geometry
from tffold.geometry import rigid


@pytest.fixture
def rng():
    return np.random.default_rng(2)


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
