"""Torsion losses by hand."""

import dataclasses

import numpy as np
import pytest
import tensorflow as tf
from structures import random_protein

from records import chemistry
from tffold.config import HeadsConfig, LossConfig
from tffold.losses.torsion import angle_norm_loss, torsion_loss

HEADS = HeadsConfig()
CONFIG = LossConfig()


def outputs(angles, raw=None):
    sidechains = {"angles_sin_cos": tf.constant(angles, tf.float32)}
    if raw is not None:
        sidechains["unnormalized_angles_sin_cos"] = tf.constant(raw, tf.float32)
    return {"structure_module": {"sidechains": sidechains}}


def loss(angles, batch, config=CONFIG):
    return float(torsion_loss(outputs(angles), batch, config, HEADS)["loss"])


def test_chi_by_hand():
    batch = {
        "aatype": tf.constant([chemistry.RESTYPE_ORDER["D"], chemistry.RESTYPE_ORDER["V"]]),
        "chi_angles": tf.zeros([2, 4]),
        "chi_mask": tf.constant([[1.0, 1, 0, 0], [1, 0, 0, 0]]),
    }
    right = np.tile(np.array([0.0, 1.0], "float32"), [2, 2, 7, 1])
    assert loss(right, batch) == pytest.approx(0)
    # Valine's chi1 off by a right angle in one of two layers: 2 among 6 terms.
    wrong = right.copy()
    wrong[0, 1, 3] = [1, 0]
    assert loss(wrong, batch) == pytest.approx(2 / 6)
    # Aspartate's chi2 may be turned by pi, its chi1 may not (squared distance 4).
    wrong = right.copy()
    wrong[:, 0, 4] *= -1
    assert loss(wrong, batch) == pytest.approx(0)
    wrong[:, 0, 3] *= -1
    assert loss(wrong, batch) == pytest.approx(4 / 3)
    # Undefined angles do not count.
    wrong = right.copy()
    wrong[:, :, 5:] = 7
    wrong[:, :, :3] = 7
    assert loss(wrong, batch) == pytest.approx(0)
    batch["chi_mask"] = tf.zeros([2, 4])
    assert loss(wrong, batch) == 0.0


def test_all_angles_is_the_papers_form():
    batch = random_protein(seed=1)
    config = dataclasses.replace(CONFIG, torsion_all_angles=True)
    true = np.asarray(batch["torsion_angles_sin_cos"])[None]
    assert loss(true, batch, config) < 1e-6
    wrong = true.copy()
    wrong[:, :, 2] *= -1  # psi, which only the paper's form sees
    assert loss(wrong, batch) < 1e-6
    counted = np.asarray(chemistry.CHI_MASK)[np.asarray(batch["aatype"])].sum() + 3 * 12 - 2
    assert loss(wrong, batch, config) == pytest.approx(4 * 12 / counted, rel=1e-3)
    # A residue outside the sequence mask does not count.
    seq_mask = np.ones(12, "float32")
    seq_mask[:6] = 0
    half = loss(wrong, batch | {"seq_mask": tf.constant(seq_mask)}, config)
    counted = np.asarray(chemistry.CHI_MASK)[np.asarray(batch["aatype"])[6:]].sum() + 18
    assert half == pytest.approx(4 * 6 / counted, rel=1e-3)


def test_angle_norm_by_hand():
    raw = np.zeros([2, 3, 7, 2], "float32")
    raw[..., 0] = 1.0
    raw[0, 0, 0] = [3.0, 4.0]  # length 5
    raw[:, 2] = 9.0  # padding
    batch = {"seq_mask": tf.constant([1.0, 1.0, 0.0])}
    found = angle_norm_loss(outputs(raw, raw), batch, CONFIG, HEADS)["loss"]
    assert float(found) == pytest.approx(4 / (2 * 2 * 7), rel=1e-4)
