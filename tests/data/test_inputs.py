"""Input features against DeepMind's numbers."""

import math
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

from records import schema
from tffold.data import inputs

GOLDEN = Path(__file__).parents[1] / "golden"


@pytest.fixture(scope="module")
def golden():
    return np.load(GOLDEN / "clusters_1ubq.npz")


def test_letter_order(golden):
    hhblits = golden["in/raw_msa_hhblits_order"].astype(np.uint8)
    np.testing.assert_array_equal(
        inputs.hhblits_to_restype(hhblits), golden["in/msa_restype_order"]
    )


def test_letters_of_many_cells():
    """Each of them, in any shape; cells that are not there are 0 in both orders."""
    letters = tf.constant(np.arange(46).reshape(1, 2, 23) % 23, tf.uint8)
    found = inputs.many_to_restype(letters)
    np.testing.assert_array_equal(found, inputs.hhblits_to_restype(letters))
    assert len(set(found[0, 0].numpy().tolist())) == 23 and found[0, 0, 0] == 0


def test_msa_features(golden):
    features = inputs.msa_features(
        tf.constant(golden["in/msa"].astype(np.uint8)),
        tf.constant(golden["in/deletion_matrix"].astype(np.uint8)),
        golden["out/cluster_profile"],
        golden["out/cluster_deletion_mean"],
    )
    np.testing.assert_allclose(features, golden["out/msa_feat"], atol=1e-6)


def test_target_features(golden):
    features = inputs.target_features(
        tf.constant(golden["in/aatype"].astype(np.int32)), golden["in/between_segment_residues"]
    )
    np.testing.assert_array_equal(features, golden["out/target_feat"])
    broken = inputs.target_features(tf.constant([3, 20]), np.array([0, 1]))
    assert broken[1, 0] == 1.0 and broken[1, 21] == 1.0 and broken[0, 4] == 1.0
    assert broken.numpy().sum() == 3.0


def test_deletion_features(golden):
    deletions = golden["in/extra_deletion_matrix"][:20]
    np.testing.assert_array_equal(inputs.has_deletion(deletions), golden["out/extra_has_deletion"])
    np.testing.assert_allclose(
        inputs.deletion_value(deletions), golden["out/extra_deletion_value"], atol=1e-6
    )
    by_hand = inputs.deletion_value(tf.constant([0, 3, 255], tf.uint8)).numpy()
    np.testing.assert_allclose(by_hand, [0.0, 0.5, 2 / math.pi * math.atan(85)], rtol=1e-6)


@pytest.mark.parametrize("case", ["a", "b"])
def test_template_features(case):
    batch = np.load(GOLDEN / f"case_{case}.batch.npz")
    count = int(batch["template_mask"][0].sum())
    assert count > 0
    features = inputs.template_features(
        batch["template_aatype"][0, :count],
        tf.constant(batch["template_all_atom_positions"][0, :count]),
        batch["template_all_atom_masks"][0, :count],
    )
    assert set(features) == set(schema.TEMPLATE_FEATURES)
    for name, value in features.items():
        np.testing.assert_array_equal(value, batch[name][0, :count], err_msg=name)


def test_no_templates_give_empty_features():
    features = inputs.template_features(
        np.zeros((0, 5), np.uint8),
        tf.zeros([0, 5, 37, 3]),
        np.zeros((0, 5, 37), np.uint8),
    )
    assert features["template_pseudo_beta"].shape == (0, 5, 3)
    assert features["template_mask"].shape == (0,)
