"""pLDDT, aligned error and predicted TM-score, by hand."""

import numpy as np
import pytest
import tensorflow as tf
from points import sure

from tffold import metrics
from tffold.config import HeadsConfig

HEADS = HeadsConfig()


def test_predicted_lddt_is_the_mean_of_its_bins():
    np.testing.assert_allclose(
        metrics.predicted_lddt(sure([0, 25, 49], 50)), [1, 51, 99], rtol=1e-5
    )
    flat = metrics.predicted_lddt(tf.zeros([2, 50]))
    np.testing.assert_allclose(flat, [50, 50], rtol=1e-5)


def test_predicted_error_and_tm_by_hand():
    logits = sure(np.array([[0, 3], [63, 1]]), 64)
    np.testing.assert_allclose(
        metrics.predicted_aligned_error(logits, HEADS), [[0.25, 1.75], [31.75, 0.75]], rtol=1e-5
    )
    num = 100
    d0 = 1.24 * 85 ** (1 / 3) - 1.8
    labels = np.full((num, num), 63)
    labels[4, :50] = 0
    mask = np.ones(num, "float32")
    near, far = (1 / (1 + (error / d0) ** 2) for error in (0.25, 31.75))
    found = metrics.predicted_tm_score(sure(labels, 64), mask, HEADS)
    assert float(found) == pytest.approx((near + far) / 2, rel=1e-4)
    # Residues that are not there are neither counted nor chosen.
    mask[4] = 0
    found = metrics.predicted_tm_score(sure(labels, 64), mask, HEADS)
    d0 = 1.24 * 84 ** (1 / 3) - 1.8
    assert float(found) == pytest.approx(1 / (1 + (31.75 / d0) ** 2), rel=1e-4)


def test_calibration_by_hand():
    found = metrics.confidence_calibration(
        np.array([50.0, 70, 90, 0]), np.array([0.4, 0.7, 1.0, 1.0]), np.array([1, 1, 1, 0])
    )
    assert found["plddt"] == pytest.approx(70)
    assert found["plddt_error"] == pytest.approx(20 / 3)
    assert found["plddt_correlation"] == pytest.approx(1.0)
    flat = metrics.confidence_calibration(np.ones(2), np.array([0.1, 0.9]), np.ones(2))
    assert "plddt_correlation" not in flat


def test_interface_score_by_hand():
    """Each residue's mean is over other chains' residues, their number its own."""
    num = 30
    chain = np.array([1] * 20 + [2] * 10)
    labels = np.full((num, num), 63)
    labels[:20, :20] = 0  # sure within chain 1, which does not count
    labels[22, :15] = 0
    mask = np.ones(num, "float32")
    d0 = 1.24 * 15 ** (1 / 3) - 1.8
    near, far = (1 / (1 + (error / d0) ** 2) for error in (0.25, 31.75))
    found = metrics.predicted_tm_score(sure(labels, 64), mask, HEADS, tf.constant(chain))
    assert float(found) == pytest.approx((15 * near + 5 * far) / 20, rel=1e-4)
    alone = metrics.predicted_tm_score(sure(labels, 64), mask, HEADS, tf.ones([num]))
    assert float(alone) == 0.0
    assert metrics.ranking_score(ptm=0.5, iptm=1.0) == pytest.approx(0.9)
