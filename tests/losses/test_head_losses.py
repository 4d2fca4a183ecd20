"""The heads' losses by hand."""

import dataclasses

import numpy as np
import pytest
import tensorflow as tf
from points import line
from structures import random_protein, structure_outputs

from tffold.config import HeadsConfig, LossConfig
from tffold.geometry import rigid
from tffold.losses import common, heads

CONFIG = LossConfig()
HEADS = HeadsConfig()
CA = 1


def sure(labels, num_classes, strength=50.0):
    """Logits that all but assert `labels`."""
    return tf.constant(np.eye(num_classes, dtype="float32")[labels] * strength)


def test_cross_entropies_by_hand():
    logits = np.log(np.array([[0.7, 0.2, 0.1]], "float32"))
    for label, p in enumerate((0.7, 0.2, 0.1)):
        found = common.softmax_cross_entropy(tf.constant(logits + 3), tf.constant([label]))
        assert float(found[0]) == pytest.approx(-np.log(p), rel=1e-5)
    logit = float(np.log(0.8 / 0.2))
    for label, p in ((1.0, 0.8), (0.0, 0.2)):
        found = common.sigmoid_cross_entropy(tf.constant([logit]), tf.constant([label]))
        assert float(found[0]) == pytest.approx(-np.log(p), rel=1e-5)
    huge = common.sigmoid_cross_entropy(tf.constant([-1e4, 1e4]), tf.constant([0.0, 1.0]))
    assert not np.asarray(huge).any()
    half = common.softmax_cross_entropy(tf.constant(logits, tf.bfloat16), tf.constant([0]))
    assert half.dtype == tf.float32


def test_distogram_by_hand():
    # Distances 2.2 (below the first edge, 2.3125), 30 (beyond the last) and 27.8.
    true_bin = np.array([[0, 0, 63], [0, 0, 63], [63, 63, 0]])
    batch = {
        "pseudo_beta": tf.constant(line(0, 2.2, 30)),
        "pseudo_beta_mask": tf.ones([3]),
    }

    def loss(labels):
        outputs = {"distogram": {"logits": sure(labels, 64)}}
        return float(heads.distogram_loss(outputs, batch, CONFIG, HEADS)["loss"])

    assert loss(true_bin) == pytest.approx(0, abs=1e-6)
    wrong = true_bin.copy()
    wrong[0, 2] = 5
    assert loss(wrong) == pytest.approx(50 / 9, rel=1e-4)
    batch["pseudo_beta_mask"] = tf.constant([1.0, 1.0, 0.0])
    assert loss(wrong) == pytest.approx(0, abs=1e-6)
    batch["pseudo_beta_mask"] = tf.zeros([3])
    assert loss(wrong) == 0.0


def test_masked_msa_counts_only_masked_cells():
    true = np.array([[3, 21], [0, 20]])
    wrong = np.array([[3, 20], [0, 1]])
    outputs = {"masked_msa": {"logits": sure(wrong, 23, 8.0)}}
    batch = {"true_msa": tf.constant(true), "bert_mask": tf.constant([[1.0, 0.0], [1.0, 1.0]])}
    found = float(heads.masked_msa_loss(outputs, batch, CONFIG, HEADS)["loss"])
    base = np.log(np.exp(8) + 22)
    assert found == pytest.approx((2 * (base - 8) + base) / 3, rel=1e-4)


@pytest.mark.parametrize("resolution, kept", [(2.0, 1), (0.1, 1), (3.0, 1), (3.01, 0), (0.0, 0)])
def test_confidence_heads_learn_from_good_structures_only(resolution, kept):
    batch = {"resolution": tf.constant(resolution)}
    assert float(common.resolution_filter(batch, CONFIG)) == kept


def confident(batch, seed=0):
    rng = np.random.default_rng(seed)
    traj = np.array(batch["true_traj"])
    traj[..., 4:] += rng.standard_normal(traj[..., 4:].shape).astype("float32") * 3
    traj = tf.constant(traj)
    return traj, {"structure_module": structure_outputs(batch, traj, batch["true_angles"])}


def test_predicted_lddt_by_hand():
    positions = np.zeros([3, 37, 3], "float32")
    positions[:, CA] = line(0, 10, 100)
    predicted = np.zeros([3, 37, 3], "float32")
    predicted[:, CA] = line(0, 11.5, 100)
    mask = np.zeros([3, 37], "float32")
    mask[:, CA] = [1, 1, 0]
    batch = {
        "all_atom_positions": tf.constant(positions),
        "all_atom_mask": tf.constant(mask),
        "resolution": tf.constant(2.0),
    }
    outputs = {
        "structure_module": {"final_atom_positions": tf.constant(predicted)},
        # lDDT 0.5: bin 25 of 50; the last residue is unknown.
        "predicted_lddt": {"logits": sure(np.array([25, 25, 7]), 50)},
    }
    loss = heads.predicted_lddt_loss(outputs, batch, CONFIG, HEADS)["loss"]
    assert float(loss) == pytest.approx(0, abs=1e-6)
    outputs["predicted_lddt"]["logits"] = sure(np.array([25, 24, 7]), 50)
    loss = heads.predicted_lddt_loss(outputs, batch, CONFIG, HEADS)["loss"]
    assert float(loss) == pytest.approx(25, rel=1e-4)
    # A perfect residue belongs to the last bin.
    outputs["structure_module"]["final_atom_positions"] = tf.constant(positions)
    outputs["predicted_lddt"]["logits"] = sure(np.array([49, 49, 0]), 50)
    loss = heads.predicted_lddt_loss(outputs, batch, CONFIG, HEADS)["loss"]
    assert float(loss) == pytest.approx(0, abs=1e-6)
    batch["resolution"] = tf.constant(5.0)
    outputs["predicted_lddt"]["logits"] = sure(np.array([0, 0, 0]), 50)
    assert float(heads.predicted_lddt_loss(outputs, batch, CONFIG, HEADS)["loss"]) == 0.0


def test_aligned_error_by_hand():
    # Unrotated frames on a line; the second residue is 3.2 Å off.
    def affine(*x):
        quat = np.tile(np.array([1, 0, 0, 0], "float32"), [len(x), 1])
        return tf.constant(np.concatenate([quat, line(*x)], axis=-1))

    def layers(*x):
        return rigid.from_tensor_7(affine(*x)[None])

    batch = {
        "backbone_affine_tensor": affine(0, 10, 20),
        "backbone_affine_mask": tf.constant([1.0, 1.0, 0.0]),
        "resolution": tf.constant(2.0),
    }
    # 3.2 lies between 3.0 and 3.5; no error at all counts as one below 0.5.
    true_bin = np.array([[1, 7, 9], [7, 1, 9], [9, 9, 9]])

    def loss(labels, config=CONFIG):
        outputs = {
            "structure_module": {"backbone": layers(0, 13.2, 50)},
            "predicted_aligned_error": {"logits": sure(labels, 64)},
        }
        return float(heads.predicted_aligned_error_loss(outputs, batch, config, HEADS)["loss"])

    assert loss(true_bin) == pytest.approx(0, abs=1e-6)
    apart = dataclasses.replace(CONFIG, zero_error_bin=True)
    assert loss(true_bin * (1 - np.eye(3, dtype=int)), apart) == pytest.approx(0, abs=1e-6)
    assert loss(true_bin, apart) == pytest.approx(25, rel=1e-4)  # two of four pairs by 50
    assert loss(np.full((3, 3), 7)) == pytest.approx(25, rel=1e-4)
    batch["resolution"] = tf.constant(0.0)
    assert loss(np.zeros((3, 3), int)) == 0.0


def test_experimentally_resolved_by_hand():
    mask = np.zeros([2, 37], "float32")
    mask[0, :2] = 1
    exists = np.zeros([2, 37], "float32")
    exists[:, :2] = 1
    logits = np.where(mask > 0, 50.0, -50.0).astype("float32")
    logits[1, 0] = 50
    logits[:, 5] = 50  # atoms that the residue cannot have
    batch = {
        "all_atom_mask": tf.constant(mask),
        "atom37_atom_exists": tf.constant(exists),
        "resolution": tf.constant(2.0),
    }
    outputs = {"experimentally_resolved": {"logits": tf.constant(logits)}}
    found = heads.experimentally_resolved_loss(outputs, batch, CONFIG, HEADS)["loss"]
    assert float(found) == pytest.approx(50 / 4, rel=1e-4)


def test_confidence_targets_have_no_gradient():
    batch = random_protein()
    rng = np.random.default_rng(0)
    traj, _ = confident(batch)
    logits = {
        "predicted_lddt": tf.constant(rng.standard_normal((12, 50)).astype("float32")),
        "predicted_aligned_error": tf.constant(rng.standard_normal((12, 12, 64)).astype("float32")),
    }
    with tf.GradientTape(persistent=True) as tape:
        tape.watch([traj, *logits.values()])
        outputs = {name: {"logits": value} for name, value in logits.items()}
        outputs["structure_module"] = structure_outputs(batch, traj, batch["true_angles"])
        found = {
            "predicted_lddt": heads.predicted_lddt_loss(outputs, batch, CONFIG, HEADS),
            "predicted_aligned_error": heads.predicted_aligned_error_loss(
                outputs, batch, CONFIG, HEADS
            ),
        }
        losses = {name: value["loss"] for name, value in found.items()}
    for name, loss in losses.items():
        assert tape.gradient(loss, traj) is None
        assert np.abs(tape.gradient(loss, logits[name])).max() > 0


def test_bins_follow_the_configuration():
    batch = {"pseudo_beta": tf.constant(line(0, 5)), "pseudo_beta_mask": tf.ones([2])}
    config = dataclasses.replace(
        HEADS, distogram_first_break=4.0, distogram_last_break=6.0, distogram_num_bins=3
    )
    outputs = {"distogram": {"logits": sure(np.array([[0, 1], [1, 0]]), 3)}}
    found = heads.distogram_loss(outputs, batch, CONFIG, config)["loss"]
    assert float(found) == pytest.approx(0, abs=1e-6)
