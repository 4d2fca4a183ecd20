"""Labels against DeepMind's numbers, and atoms rebuilt from them."""

from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

from records import chemistry
from tffold import geometry
from tffold.data import targets
from tffold.geometry.rigid import from_tensor_7, from_tensor_12

GOLDEN = Path(__file__).parents[1] / "golden"


@pytest.mark.parametrize("case", ["a", "b"])
def test_labels_are_deepminds(case):
    batch = {k: v[0] for k, v in np.load(GOLDEN / f"case_{case}.batch.npz").items()}
    aatype = tf.constant(batch["aatype"])
    labels = targets.structure_labels(
        aatype, tf.constant(batch["all_atom_positions"]), tf.constant(batch["all_atom_mask"])
    )
    labels |= geometry.make_atom14_masks(aatype)
    for name, value in labels.items():
        expected, actual = batch[name], value.numpy()
        assert actual.dtype == expected.dtype and actual.shape == expected.shape, name
        if name == "backbone_affine_tensor":  # q and -q are one rotation
            sign = np.sign(np.sum(actual[:, :4] * expected[:, :4], axis=-1, keepdims=True))
            actual[:, :4] *= sign
        difference = np.abs(actual - expected)
        if name == "chi_angles":
            difference = np.minimum(difference, 2 * np.pi - difference)
        assert difference.max() < 1e-5, name


@pytest.fixture(scope="module")
def ideal():
    """Every residue type with ideal geometry, random backbone frame and torsions."""
    rng = np.random.default_rng(0)
    aatype = np.repeat(np.arange(20, dtype=np.int32), 5)
    quaternion = rng.normal(size=(100, 4)).astype(np.float32)
    place = rng.normal(scale=20.0, size=(100, 3)).astype(np.float32)
    backbone = from_tensor_7(
        tf.constant(np.concatenate([quaternion, place], axis=-1)), normalize=True
    )
    angle = rng.uniform(-np.pi, np.pi, (100, 7))
    torsions = tf.constant(np.stack([np.sin(angle), np.cos(angle)], axis=-1), tf.float32)
    frames = geometry.torsion_angles_to_frames(tf.constant(aatype), backbone, torsions)
    atoms = geometry.frames_to_atom14_positions(tf.constant(aatype), frames)
    masks = geometry.make_atom14_masks(tf.constant(aatype))
    positions = geometry.atom14_to_atom37(atoms, masks)
    labels = targets.structure_labels(tf.constant(aatype), positions, masks["atom37_atom_exists"])
    return aatype, angle, atoms.numpy(), labels


def test_frames_rebuild_ideal_atoms(ideal):
    aatype, _, atoms, labels = ideal
    frames = from_tensor_12(labels["rigidgroups_gt_frames"])
    rebuilt = geometry.frames_to_atom14_positions(tf.constant(aatype), frames).numpy()
    group = chemistry.ATOM14_TO_RIGID_GROUP[aatype]
    known = np.take_along_axis(labels["rigidgroups_gt_exists"].numpy(), group, axis=1)
    known *= chemistry.RESTYPE_ATOM14_MASK[aatype]
    assert known.sum() == chemistry.RESTYPE_ATOM14_MASK[aatype].sum()
    error = np.linalg.norm(rebuilt - atoms, axis=-1) * known
    assert error.max() < 0.05  # Å


def test_torsions_rebuild_ideal_side_chains(ideal):
    aatype, angle, atoms, labels = ideal
    chi, mask = labels["chi_angles"].numpy(), labels["chi_mask"].numpy()
    np.testing.assert_array_equal(mask, chemistry.CHI_MASK[aatype])
    torsions = np.stack([np.sin(angle), np.cos(angle)], axis=-1)
    torsions[:, 3:] = np.stack([np.sin(chi), np.cos(chi)], axis=-1)
    frames = geometry.torsion_angles_to_frames(
        tf.constant(aatype),
        from_tensor_7(labels["backbone_affine_tensor"]),
        tf.constant(torsions, tf.float32),
    )
    rebuilt = geometry.frames_to_atom14_positions(tf.constant(aatype), frames).numpy()
    exists = chemistry.RESTYPE_ATOM14_MASK[aatype]
    assert (np.linalg.norm(rebuilt - atoms, axis=-1) * exists).max() < 0.05  # Å
    difference = np.abs(chi - angle[:, 3:]) % (2 * np.pi) * mask
    assert np.minimum(difference, 2 * np.pi - difference).max() < 0.01


def test_labels_need_no_residue_outside_the_crop():
    """The crop's labels are those of the crop: its first residue has no predecessor."""
    batch = {k: v[0] for k, v in np.load(GOLDEN / "case_a.batch.npz").items()}
    arguments = [batch[k] for k in ("aatype", "all_atom_positions", "all_atom_mask")]
    whole = targets.structure_labels(*(tf.constant(a) for a in arguments))
    part = targets.structure_labels(*(tf.constant(a[5:20]) for a in arguments))
    for name in whole:
        np.testing.assert_allclose(part[name], whole[name][5:20], atol=1e-5, err_msg=name)


def test_only_predicted_structures_lose_uncertain_residues():
    mask = np.array([[1, 0], [1, 1], [1, 1]], np.uint8)
    confidence = tf.constant([50.0, 50.1, 20.0])
    predicted = targets.confident_atoms(mask, confidence, tf.constant(1, tf.uint8), 50.0)
    np.testing.assert_array_equal(predicted, [[0, 0], [1, 1], [0, 0]])
    measured = targets.confident_atoms(mask, confidence, tf.constant(0, tf.uint8), 50.0)
    np.testing.assert_array_equal(measured, mask)
