"""Frames, torsions and atoms: reference labels, chemistry, round trips, symmetry."""

import numpy as np
import pytest
import tensorflow as tf
from reference import CASES, load_batch, load_expected

from records import chemistry
from tffold import geometry
from tffold.geometry import rigid
from tffold.geometry.rigid import Rigid

ALL_TYPES = np.arange(21, dtype=np.int32)


@pytest.fixture
def rng():
    return np.random.default_rng(1)


def random_backbone(rng, num_res):
    quat = rng.standard_normal((num_res, 4)).astype("float32")
    trans = (rng.standard_normal((num_res, 3)) * 20).astype("float32")
    return rigid.quat_affine(quat, trans).as_rigid()


def random_structure(rng, aatype):
    """Backbone, torsions (sin, cos) and atom14 positions of residues in random places."""
    backbone = random_backbone(rng, len(aatype))
    angle = rng.uniform(-np.pi, np.pi, (len(aatype), 7)).astype("float32")
    sin_cos = np.stack([np.sin(angle), np.cos(angle)], axis=-1)
    frames = geometry.torsion_angles_to_frames(aatype, backbone, sin_cos)
    return backbone, sin_cos, np.asarray(geometry.frames_to_atom14_positions(aatype, frames))


def to_atom37(aatype, positions14):
    masks = geometry.make_atom14_masks(aatype)
    return np.asarray(geometry.atom14_to_atom37(positions14, masks)), np.asarray(
        masks["atom37_atom_exists"]
    )


@pytest.mark.parametrize("case", CASES)
def test_labels_equal_reference(case):
    batch = load_batch(case)
    aatype, positions, mask = (
        batch[name] for name in ("aatype", "all_atom_positions", "all_atom_mask")
    )
    labels = dict(geometry.make_atom14_masks(aatype))
    labels |= geometry.make_atom14_positions(aatype, positions, mask)
    labels |= geometry.atom37_to_frames(aatype, positions, mask)
    labels["backbone_affine_mask"] = labels["rigidgroups_gt_exists"][..., 0]
    labels["pseudo_beta"], labels["pseudo_beta_mask"] = geometry.pseudo_beta(
        aatype, positions, mask
    )
    torsions = geometry.atom37_to_torsion_angles(aatype, positions, mask)
    labels["chi_angles"], labels["chi_mask"] = geometry.chi_angles(torsions)
    affine = np.array(geometry.backbone_affine(labels["rigidgroups_gt_frames"]))
    # A quaternion and its negative are the same rotation.
    same = np.sum(affine[..., :4] * batch["backbone_affine_tensor"][..., :4], axis=-1)
    affine[..., :4] *= np.sign(same)[..., None]
    labels["backbone_affine_tensor"] = affine
    for name, value in labels.items():
        assert value.shape == batch[name].shape, name
        np.testing.assert_allclose(value, batch[name], atol=1e-5, err_msg=name)


@pytest.mark.parametrize("case", CASES)
def test_structure_equals_reference(case):
    batch = {name: value[-1] for name, value in load_batch(case).items()}
    expected = load_expected(case)
    frames = geometry.torsion_angles_to_frames(
        batch["aatype"],
        rigid.from_tensor_7(expected["structure_module/traj"]),
        expected["structure_module/sidechains/angles_sin_cos"],
    )
    atom14 = geometry.frames_to_atom14_positions(batch["aatype"], frames)[-1]
    np.testing.assert_allclose(
        atom14, expected["structure_module/final_atom14_positions"], atol=1e-5
    )
    np.testing.assert_allclose(
        geometry.atom14_to_atom37(atom14, batch),
        expected["structure_module/final_atom_positions"],
        atol=1e-5,
    )


def test_built_residues_have_literature_bonds_and_angles(rng):
    """Whatever the torsions, but for proline's ring, which closes only at its own."""
    ring = {"N", "CD"}
    _, _, positions = random_structure(rng, ALL_TYPES)
    for residue, name in enumerate(chemistry.RESTYPE_NAMES):
        place = dict(zip(chemistry.ATOM14_NAMES[name], positions[residue], strict=True))
        for bond in chemistry.BONDS[name]:
            if ring <= {bond.atom1, bond.atom2}:
                continue
            length = np.linalg.norm(place[bond.atom1] - place[bond.atom2])
            assert length == pytest.approx(bond.length, abs=0.05), (name, bond)
        for angle in chemistry.ANGLES[name]:
            if ring <= {angle.atom1, angle.atom2, angle.atom3}:
                continue
            a, b = (place[x] - place[angle.atom2] for x in (angle.atom1, angle.atom3))
            cos = a @ b / np.linalg.norm(a) / np.linalg.norm(b)
            assert np.arccos(cos) == pytest.approx(angle.angle, abs=0.09), (name, angle)


def test_torsions_round_trip(rng):
    aatype = ALL_TYPES[:20]
    _, sin_cos, positions = random_structure(rng, aatype)
    torsions = geometry.atom37_to_torsion_angles(aatype, *to_atom37(aatype, positions))
    mask = np.asarray(torsions["torsion_angles_mask"])
    np.testing.assert_array_equal(mask[:, 3:], chemistry.CHI_MASK[:20])
    assert mask[0].tolist()[:3] == [0, 0, 1] and mask[1:, :2].all()
    found = np.asarray(torsions["torsion_angles_sin_cos"])[:, 2:]
    # Table coordinates are rounded to 0.001 Å.
    np.testing.assert_allclose(
        found * mask[:, 2:, None], sin_cos[:, 2:] * mask[:, 2:, None], atol=5e-3
    )
    turned = np.asarray(torsions["alt_torsion_angles_sin_cos"])[:, 3:]
    sign = 1 - 2 * chemistry.CHI_PI_PERIODIC[:20, :, None]
    np.testing.assert_allclose(turned, found[:, 1:] * sign)


def test_backbone_torsions_by_hand():
    """A planar zigzag N CA C N CA C: all torsions are pi; psi's O lies opposite to N."""
    atoms = np.array([[i, i % 2, 0] for i in range(6)], "float32")
    positions = np.zeros((2, 37, 3), "float32")
    mask = np.zeros((2, 37), "float32")
    n, ca, c, o = (chemistry.ATOM_ORDER[name] for name in ("N", "CA", "C", "O"))
    for i in range(2):
        positions[i, [n, ca, c]] = atoms[3 * i : 3 * i + 3]
        positions[i, o] = atoms[3 * i + 2] + [0, 1 if i else -1, 0]
        mask[i, [n, ca, c, o]] = 1
    aatype = np.array([0, 20], np.int32)
    torsions = geometry.atom37_to_torsion_angles(aatype, positions, mask)
    np.testing.assert_array_equal(
        torsions["torsion_angles_mask"], [[0, 0, 1, 0, 0, 0, 0], [1, 1, 1, 0, 0, 0, 0]]
    )
    # sin 0, cos -1 for omega and phi; O is cis to N, so psi is 0 before the sign turns it to pi.
    np.testing.assert_allclose(torsions["torsion_angles_sin_cos"][1, :3, 1], [-1] * 3, atol=1e-4)
    # Where an angle is undefined, (sin, cos) = (1, 0): not the rounding of zeros.
    np.testing.assert_array_equal(torsions["torsion_angles_sin_cos"][0, 3:], [[1, 0]] * 4)
    mask[0, c] = 0
    missing = geometry.atom37_to_torsion_angles(aatype, positions, mask)
    for name in ("torsion_angles_sin_cos", "alt_torsion_angles_sin_cos"):
        np.testing.assert_array_equal(missing[name][0, 1:3], [[1, 0]] * 2)
    np.testing.assert_array_equal(missing["torsion_angles_mask"][:, :3], [[0, 0, 0], [0, 0, 1]])


def test_frames_of_built_residues_are_the_frames_they_were_built_from(rng):
    aatype = ALL_TYPES[:20]
    backbone, sin_cos, positions = random_structure(rng, aatype)
    frames = geometry.torsion_angles_to_frames(aatype, backbone, sin_cos)
    labels = geometry.atom37_to_frames(aatype, *to_atom37(aatype, positions))
    truth = rigid.from_tensor_12(labels["rigidgroups_gt_frames"])
    exists = np.asarray(labels["rigidgroups_gt_exists"])
    np.testing.assert_array_equal(exists, chemistry.RIGID_GROUP_EXISTS[:20])
    for got, want in ((truth.rot, frames.rot), (truth.trans, frames.trans)):
        assert np.abs(np.asarray(got - want))[exists > 0].max() < 0.01
    affine = rigid.from_tensor_7(geometry.backbone_affine(labels["rigidgroups_gt_frames"]))
    np.testing.assert_allclose(affine.rot, backbone.rot, atol=0.005)
    # An ambiguous group's other frame is half a turn about its own x axis.
    other = rigid.from_tensor_12(labels["rigidgroups_alt_gt_frames"])
    turn = np.asarray(rigid.compose(rigid.invert(truth), other).rot)
    ambiguous = chemistry.RIGID_GROUP_AMBIGUOUS[:20] > 0
    half_turn = np.broadcast_to(np.diag([1, -1, -1]), turn[ambiguous].shape)
    np.testing.assert_allclose(turn[ambiguous], half_turn, atol=1e-4)
    plain = (exists > 0) & ~ambiguous
    np.testing.assert_allclose(
        turn[plain], np.broadcast_to(np.eye(3), turn[plain].shape), atol=1e-4
    )


def test_missing_atoms_unmake_their_frames(rng):
    aatype = np.array([chemistry.RESTYPE_ORDER["L"]] * 2, np.int32)
    _, _, positions = random_structure(rng, aatype)
    positions37, mask = to_atom37(aatype, positions)
    mask = mask.copy()
    mask[0, chemistry.ATOM_ORDER["CB"]] = 0
    labels = geometry.atom37_to_frames(aatype, positions37, mask)
    np.testing.assert_array_equal(
        labels["rigidgroups_gt_exists"],
        [[1, 0, 0, 1, 0, 0, 0, 0], [1, 0, 0, 1, 1, 1, 0, 0]],
    )
    atoms = geometry.make_atom14_positions(aatype, positions37, mask)
    np.testing.assert_array_equal(np.asarray(atoms["atom14_gt_exists"])[:, 4], [0, 1])
    assert not np.asarray(atoms["atom14_gt_positions"])[0, 4].any()


def test_alternative_names_swap_positions(rng):
    aatype = np.array([chemistry.RESTYPE_ORDER["D"]], np.int32)
    _, _, positions = random_structure(rng, aatype)
    positions37, mask = to_atom37(aatype, positions)
    mask = mask.copy()
    mask[0, chemistry.ATOM_ORDER["OD2"]] = 0
    atoms = {
        k: np.asarray(v)[0]
        for k, v in geometry.make_atom14_positions(aatype, positions37, mask).items()
    }
    od1, od2 = (chemistry.ATOM14_NAMES["ASP"].index(name) for name in ("OD1", "OD2"))
    assert atoms["atom14_gt_exists"][[od1, od2]].tolist() == [1, 0]
    assert atoms["atom14_alt_gt_exists"][[od1, od2]].tolist() == [0, 1]
    np.testing.assert_array_equal(
        atoms["atom14_alt_gt_positions"][od2], atoms["atom14_gt_positions"][od1]
    )
    assert atoms["atom14_atom_is_ambiguous"].sum() == 2


def test_pseudo_beta():
    positions = np.arange(2 * 37 * 3, dtype="float32").reshape(2, 37, 3)
    mask = np.ones((2, 37), np.uint8)
    mask[0, chemistry.ATOM_ORDER["CA"]] = 0
    glycine_alanine = np.array([chemistry.RESTYPE_ORDER["G"], chemistry.RESTYPE_ORDER["A"]])
    beta, seen = geometry.pseudo_beta(glycine_alanine, positions, mask)
    np.testing.assert_array_equal(beta, [positions[0, 1], positions[1, 3]])
    np.testing.assert_array_equal(seen, [0, 1])


def test_structure_turns_with_its_frames(rng):
    backbone, sin_cos, positions = random_structure(rng, ALL_TYPES)
    motion = rigid.expand(random_backbone(rng, 1))
    moved = rigid.compose(Rigid(motion.rot[0], motion.trans[0]), backbone)
    frames = geometry.torsion_angles_to_frames(ALL_TYPES, moved, sin_cos)
    again = np.asarray(geometry.frames_to_atom14_positions(ALL_TYPES, frames))
    exists = chemistry.RESTYPE_ATOM14_MASK[..., None]
    expected = np.asarray(rigid.apply(motion, positions)) * exists
    np.testing.assert_allclose(again, expected, atol=1e-4)
    assert not again[20].any()


def test_labels_in_tf_data_with_unknown_length():
    batch = load_batch(CASES[0])
    arrays = tuple(batch[k][0] for k in ("aatype", "all_atom_positions", "all_atom_mask"))
    signature = (
        tf.TensorSpec([None], tf.int32),
        tf.TensorSpec([None, 37, 3]),
        tf.TensorSpec([None, 37]),
    )
    data = tf.data.Dataset.from_generator(lambda: iter([arrays]), output_signature=signature)

    def labels(*args):
        torsions = geometry.atom37_to_torsion_angles(*args)
        frames = geometry.atom37_to_frames(*args)
        return {
            "chi_angles": geometry.chi_angles(torsions)[0],
            "rigidgroups_gt_frames": frames["rigidgroups_gt_frames"],
            **geometry.make_atom14_positions(*args),
            **geometry.make_atom14_masks(args[0]),
        }

    for name, value in next(iter(data.map(labels))).items():
        np.testing.assert_allclose(value, batch[name][0], atol=1e-5, err_msg=name)
