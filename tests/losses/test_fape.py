"""Frame aligned point error, by hand and by symmetry."""

import numpy as np
import pytest
import tensorflow as tf
from structures import random_protein, structure_outputs

from tffold.config import HeadsConfig, LossConfig
from tffold.geometry import rigid
from tffold.losses.fape import backbone_fape, frame_aligned_point_error, sidechain_fape
from tffold.losses.renaming import rename_ground_truth

HEADS = HeadsConfig()


def frames(*shape, seed=0):
    rng = np.random.default_rng(seed)
    quat = rng.standard_normal((*shape, 4)).astype("float32")
    trans = (rng.standard_normal((*shape, 3)) * 8).astype("float32")
    return rigid.quat_affine(quat, trans).as_rigid()


def points(*shape, seed=1):
    return (np.random.default_rng(seed).standard_normal((*shape, 3)) * 8).astype("float32")


def by_definition(frame, x, true_frame, true_x, frame_mask, x_mask, clamp):
    """Algorithm 28 with loops, in double precision."""
    total = 0.0
    for i in range(len(frame_mask)):
        for p in range(len(x_mask)):
            local, true = (
                np.asarray(f.rot[i], float).T @ (y[p].astype(float) - np.asarray(f.trans[i]))
                for f, y in ((frame, x), (true_frame, true_x))
            )
            distance = np.sqrt(((local - true) ** 2).sum() + 1e-4)
            total += min(distance, clamp) / 5.0 * frame_mask[i] * x_mask[p]
    return total / (frame_mask.sum() * x_mask.sum() + 1e-4)


def test_one_frame_one_point_by_hand():
    here = rigid.identity((1,))
    one = np.ones(1, "float32")

    def fape(offset, **options):
        x = np.array([[1.0, 2.0, 3.0]], "float32")
        moved = x + np.array(offset, "float32")
        return float(frame_aligned_point_error(here, moved, here, x, one, one, 10.0, **options))

    assert fape([0, 0, 0], clamp_distance=10.0) == pytest.approx(0.01 / 10, rel=1e-3)
    assert fape([3, 0, 4], clamp_distance=10.0) == pytest.approx(0.5, rel=1e-3)
    assert fape([30, 0, 40], clamp_distance=10.0) == pytest.approx(1.0, rel=1e-3)
    for share, value in ((0.0, 5.0), (1.0, 1.0), (0.25, 4.0)):
        clamped = tf.constant(share)
        assert fape([30, 0, 40], clamp_distance=10.0, clamped=clamped) == pytest.approx(
            value, rel=1e-3
        )
    with pytest.raises(ValueError, match="clamped"):
        fape([0, 0, 0], clamp_distance=10.0, clamped=0.0)


@pytest.mark.parametrize("clamp", [6.0, 1000.0])
def test_equals_the_definition(clamp):
    frame, true_frame = frames(4, seed=0), frames(4, seed=2)
    x, true_x = points(6, seed=1), points(6, seed=3)
    frame_mask = np.array([1, 0, 1, 1], "float32")
    x_mask = np.array([1, 1, 0, 1, 0, 1], "float32")
    args = (frame, x, true_frame, true_x, frame_mask, x_mask)
    found = frame_aligned_point_error(*args, length_scale=5.0, clamp_distance=clamp)
    assert float(found) == pytest.approx(by_definition(*args, clamp), rel=1e-5)


def test_gradient_equals_finite_differences():
    """In double precision; some of the pairs are clamped."""
    double = [np.asarray(rigid.to_tensor_7(frames(3, seed=i)), float) for i in (0, 2)]
    seven, true_frame = tf.constant(double[0]), rigid.from_tensor_7(double[1])
    x, true_x = points(4, seed=1).astype(float), points(4, seed=3).astype(float)
    masks = np.array([1.0, 0, 1]), np.array([1.0, 1, 0, 1])

    def fape(seven, x):
        frame = rigid.from_tensor_7(seven, normalize=True)
        return frame_aligned_point_error(frame, x, true_frame, true_x, *masks, 10.0, 15.0)

    x = tf.constant(x)
    with tf.GradientTape() as tape:
        tape.watch([seven, x])
        value = fape(seven, x)
    gradients = tape.gradient(value, [seven, x])
    rng = np.random.default_rng(5)
    for which, gradient in enumerate(gradients):
        step = rng.standard_normal(gradient.shape) * 1e-5
        args = [[seven, x], [seven, x]]
        args[0][which], args[1][which] = (
            (seven, x)[which] + step / 2,
            (seven, x)[which] - step / 2,
        )
        slope = float(fape(*args[0]) - fape(*args[1]))
        assert slope == pytest.approx(float(tf.reduce_sum(gradient * step)), rel=1e-4)


def test_mirror_image_is_told_apart():
    """Unlike distances: what FAPE is for."""
    x = points(6)
    frame = frames(6)
    mirrored = x * np.array([1, 1, -1], "float32")
    one = np.ones(6, "float32")
    flip = np.diag([1.0, 1.0, -1.0]).astype("float32")
    # A mirrored structure's frames: reflect the axes, then turn z back to be right-handed.
    mirrored_frame = rigid.Rigid(flip @ frame.rot @ flip, frame.trans @ flip)
    found = frame_aligned_point_error(
        mirrored_frame, mirrored, frame, x, one, one, length_scale=10.0, clamp_distance=10.0
    )
    assert float(found) > 0.3


@pytest.fixture
def protein():
    return random_protein(seed=3)


def disturbed(batch, seed=4, layers=3):
    rng = np.random.default_rng(seed)
    num_res = batch["aatype"].shape[0]
    traj = np.repeat(batch["true_traj"], layers, axis=0)
    traj[..., 4:] += rng.standard_normal((layers, num_res, 3)) * 4
    angle = rng.uniform(-3, 3, (layers, num_res, 7))
    angles = np.stack([np.sin(angle), np.cos(angle)], axis=-1).astype("float32")
    return structure_outputs(batch, tf.constant(traj.astype("float32")), tf.constant(angles))


def test_backbone_is_the_mean_over_layers(protein):
    config = LossConfig()
    structure = disturbed(protein)
    found = backbone_fape({"structure_module": structure}, protein, config, HEADS)
    backbone = structure["backbone"]
    layers = [
        backbone_fape(
            {"structure_module": {"backbone": rigid.Rigid(*(x[i : i + 1] for x in backbone))}},
            protein,
            config,
            HEADS,
        )
        for i in range(3)
    ]
    values = [float(layer["loss"]) for layer in layers]
    assert len(set(values)) == 3
    assert float(found["loss"]) == pytest.approx(np.mean(values), rel=1e-5)
    assert float(found["fape"]) == pytest.approx(values[-1], rel=1e-5)
    unclamped = protein | {"use_clamped_fape": tf.constant(0.0)}
    higher = backbone_fape({"structure_module": structure}, unclamped, config, HEADS)
    assert float(higher["loss"]) > float(found["loss"])


def test_sidechain_uses_the_last_layer_and_is_always_clamped(protein):
    config = LossConfig()
    structure = disturbed(protein)
    outputs = {"structure_module": structure}
    found = float(sidechain_fape(outputs, protein, config, HEADS)["loss"])
    last = disturbed(protein)
    last["sidechains"] = {
        **last["sidechains"],
        "frames": rigid.Rigid(*(x[-1:] for x in structure["sidechains"]["frames"])),
        "atom_pos": structure["sidechains"]["atom_pos"][-1:],
    }
    again = sidechain_fape({"structure_module": last}, protein, config, HEADS)["loss"]
    assert float(again) == pytest.approx(found, rel=1e-6)
    unclamped = protein | {"use_clamped_fape": tf.constant(0.0)}
    assert float(sidechain_fape(outputs, unclamped, config, HEADS)["loss"]) == found
    assert 0.05 < found <= 1.0


def test_renaming_prefers_the_prediction(protein):
    """Turning an ambiguous chi by pi changes nothing: truth is renamed with it."""
    aatype = np.array([3, 6, 13, 18, 0, 9, 10, 3], np.int32)  # D E F Y A I L D
    batch = random_protein(seed=7, aatype=aatype)
    last_chi = {3: 4, 6: 5, 13: 4, 18: 4}
    angles = np.array(batch["true_angles"])
    turned = [0, 2, 3]
    for i in turned:
        angles[0, i, last_chi[aatype[i]]] *= -1
    structure = structure_outputs(batch, batch["true_traj"], tf.constant(angles))
    renamed = rename_ground_truth(batch, structure["final_atom14_positions"])
    expected = np.zeros(8)
    expected[turned] = 1
    np.testing.assert_array_equal(renamed["alt_naming_is_better"], expected)
    np.testing.assert_allclose(
        renamed["renamed_atom14_gt_positions"], structure["final_atom14_positions"], atol=0.05
    )
    fape = sidechain_fape({"structure_module": structure}, batch, LossConfig(), HEADS)
    assert float(fape["loss"]) == pytest.approx(0.001, abs=0.0005)


def test_renaming_swaps_existence_with_positions():
    batch = random_protein(seed=8, aatype=[3, 0, 0])
    exists = np.array(batch["atom14_gt_exists"])
    exists[0, 6] = 0  # OD1 is missing, OD2 known
    alt_exists = np.array(batch["atom14_alt_gt_exists"])
    alt_exists[0, 7] = 0
    batch |= {
        "atom14_gt_exists": tf.constant(exists),
        "atom14_alt_gt_exists": tf.constant(alt_exists),
    }
    # The prediction's OD2 lies where truth's OD1 does.
    renamed = rename_ground_truth(batch, batch["atom14_alt_gt_positions"])
    assert float(renamed["alt_naming_is_better"][0]) == 1.0
    assert np.asarray(renamed["renamed_atom14_gt_exists"])[0, 6:8].tolist() == [1, 0]


def of_chains(batch, chain, **settings):
    config = LossConfig(by_chain=True, **settings)
    batch = batch | {"asym_id": tf.constant(chain, tf.int32)}
    structure = disturbed(batch)
    found = backbone_fape({"structure_module": structure}, batch, config, HEADS)
    return {name: float(value) for name, value in found.items()}, structure


def test_chains_and_interfaces_have_their_own_clamps_and_units(protein):
    """By the definition, pair by pair; no share of the examples is unclamped."""
    chain = np.array([1] * 5 + [2] * 4 + [3] * 3)
    unclamped = protein | {"use_clamped_fape": tf.constant(0.0)}
    found, structure = of_chains(unclamped, chain, interface_fape_clamp_distance=25.0)
    true = rigid.from_tensor_7(protein["backbone_affine_tensor"])
    total, count = np.zeros((2, 3)), np.zeros(2)
    for i in range(12):
        for j in range(12):
            apart = int(chain[i] != chain[j])
            count[apart] += 1
            for layer in range(3):
                rot, trans = (np.asarray(x[layer], float) for x in structure["backbone"])
                local = rot[i].T @ (trans[j] - trans[i])
                true_rot, true_trans = (np.asarray(x, float) for x in true)
                distance = np.linalg.norm(local - true_rot[i].T @ (true_trans[j] - true_trans[i]))
                total[apart, layer] += min(distance, (10.0, 25.0)[apart]) / (10.0, 20.0)[apart]
    intra_chain, interface = total / count[:, None]
    assert found["intra_chain_backbone_fape"] == pytest.approx(intra_chain.mean(), rel=1e-3)
    assert found["interface_backbone_fape"] == pytest.approx(interface.mean(), rel=1e-3)
    assert found["intra_chain_fape"] == pytest.approx(intra_chain[-1], rel=1e-3)
    assert found["interface_fape"] == pytest.approx(interface[-1], rel=1e-3)
    assert found["loss"] == pytest.approx((intra_chain + interface).mean(), rel=1e-3)


def test_one_chain_has_no_interface(protein):
    found, _ = of_chains(protein, np.ones(12))
    assert found["interface_fape"] == found["interface_backbone_fape"] == 0.0
    assert found["loss"] == found["intra_chain_backbone_fape"] > 0.0
