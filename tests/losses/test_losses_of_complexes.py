"""The losses of complexes against the reference numbers, near a native structure."""

from __future__ import annotations

import dataclasses
import zlib

import numpy as np
import pytest
import tensorflow as tf
from golden import COMPLEXES_FOLDER, cases

from tffold import geometry, losses
from tffold.config import HeadsConfig
from tffold.geometry import Rigid
from tffold.losses.chains import chain_center_loss
from tffold.losses.fape import backbone_fape

HEADS = HeadsConfig(predicted_aligned_error=True)
HEAD_LOGITS = {"predicted_lddt": 50, "predicted_aligned_error": 64}
# Names of the file's that differ from ours.
PARTS = {
    "loss": "loss",
    "bb_loss": "backbone_fape",
    "fape": "fape",
    "intra_chain_bb_loss": "intra_chain_backbone_fape",
    "intra_chain_fape": "intra_chain_fape",
    "interface_bb_loss": "interface_backbone_fape",
    "interface_fape": "interface_fape",
    "sidechain_fape": "sidechain_fape",
    "chi_loss": "chi_loss",
    "angle_norm_loss": "angle_norm_loss",
    "violation_loss": "violation",
}


def frames_of(matrices):
    """[..., 3, 4] -> frames."""
    return Rigid(matrices[..., :3], matrices[..., 3])


def as_motions(gradient, frames):
    """Gradients [..., 3, 4] of frames by small turns and shifts, [..., 6].

    What a matrix' gradient says of changes that leave no rotation, no prediction can follow: there
    formulas that agree on rotations differ.
    """
    turned = np.einsum("...xy,...xz->...yz", frames[..., :3], gradient[..., :3])
    turns = [turned[..., i, j] - turned[..., j, i] for i, j in ((0, 1), (0, 2), (1, 2))]
    return np.concatenate([np.stack(turns, axis=-1), gradient[..., 3]], axis=-1)


class Prediction:
    """A case's near-native structure, its losses, and the gradient of their sum."""

    def __init__(self, case):
        self.batch = {k: tf.constant(v[-1]) for k, v in case.batch().items()}
        self.config = dataclasses.replace(
            case.config().loss,
            distogram_weight=0.0,
            masked_msa_weight=0.0,
            experimentally_resolved_weight=0.0,
        )
        self.arrays = case.arrays("losses")
        self.inputs = {
            name.removeprefix("in/"): tf.constant(value)
            for name, value in self.arrays.items()
            if name.startswith("in/")
        }
        num_res = self.batch["aatype"].shape[0]
        self.logits = {}
        for head, size in HEAD_LOGITS.items():
            shape = (num_res, size) if head == "predicted_lddt" else (num_res, num_res, size)
            random = np.random.RandomState(zlib.crc32(f"{head}/logits".encode()))
            self.logits[head] = tf.constant(random.standard_normal(shape).astype(np.float32))

    def outputs(self, inputs):
        positions = inputs["atom_pos"]
        return {
            "structure_module": {
                "backbone": frames_of(inputs["traj"]),
                "final_atom_positions": geometry.atom14_to_atom37(
                    inputs["final_atom14_positions"], self.batch
                ),
                "sidechains": {
                    "angles_sin_cos": inputs["angles_sin_cos"],
                    "unnormalized_angles_sin_cos": inputs["unnormalized_angles_sin_cos"],
                    "frames": frames_of(inputs["frames"]),
                    "atom_pos": positions,
                },
            },
            **{head: {"logits": logits} for head, logits in self.logits.items()},
        }

    def losses(self):
        @tf.function(autograph=False, jit_compile=True)
        def run(inputs):
            with tf.GradientTape() as tape:
                tape.watch(inputs)
                outputs = self.outputs(inputs)
                _, parts = losses.compute_losses(outputs, self.batch, self.config, HEADS)
            return parts, tape.gradient(parts["structure_module/loss"], inputs)

        return run(self.inputs)


@pytest.fixture(scope="module", params=cases(COMPLEXES_FOLDER), ids=lambda case: case.name)
def prediction(request):
    return Prediction(request.param)


@pytest.fixture(scope="module")
def found(prediction):
    return prediction.losses()


def test_losses_equal_the_reference(prediction, found):
    parts, _ = found
    for name, ours in PARTS.items():
        expected = prediction.arrays[f"out/{name}"]
        value = parts[f"structure_module/{ours}"]
        np.testing.assert_allclose(value, expected, rtol=1e-5, err_msg=name)
    metrics = [name for name in prediction.arrays if name.startswith("out/metrics/")]
    assert len(metrics) == 5
    for name in metrics:
        value = parts[f"structure_module/{name.removeprefix('out/')}"]
        np.testing.assert_allclose(value, prediction.arrays[name], rtol=1e-5, err_msg=name)
    for head in HEAD_LOGITS:
        expected = prediction.arrays[f"out/{head}/loss"]
        np.testing.assert_allclose(parts[f"{head}/loss"], expected, rtol=1e-5, err_msg=head)


def test_gradients_equal_the_reference(prediction, found):
    _, gradients = found
    # Ours have one array of atoms: the last layer's are the final ones.
    expected = {k: prediction.arrays[f"grad/{k}"].copy() for k in prediction.inputs}
    expected["atom_pos"][-1] += expected.pop("final_atom14_positions")
    assert gradients.pop("final_atom14_positions") is None
    for name, value in expected.items():
        got = np.asarray(gradients[name])
        if name in ("traj", "frames"):
            got, value = (as_motions(g, prediction.arrays[f"in/{name}"]) for g in (got, value))
        error = np.abs(got - value).max()
        assert error < 1e-4 * np.abs(value).max(), name


def test_papers_clamp_equals_the_reference(prediction):
    """30 Å between chains, where the published configuration has 1000."""
    config = dataclasses.replace(prediction.config, interface_fape_clamp_distance=30.0)
    outputs = prediction.outputs(prediction.inputs)
    fape = backbone_fape(outputs, prediction.batch, config, HEADS)
    for name, ours in {"bb_loss": "interface_backbone_fape", "fape": "interface_fape"}.items():
        expected = prediction.arrays[f"out/interface_clamp30_{name}"]
        np.testing.assert_allclose(fape[ours], expected, rtol=1e-5)


def test_chain_centers_equal_the_reference(prediction):
    outputs = prediction.outputs(prediction.inputs)
    loss = chain_center_loss(outputs, prediction.batch, prediction.config, HEADS)["loss"]
    np.testing.assert_allclose(loss, prediction.arrays["paper/chain_center_of_mass"], rtol=1e-4)


def test_violations_and_renaming_equal_the_reference(prediction):
    positions = prediction.inputs["final_atom14_positions"]
    values = losses.find_violations(prediction.batch, positions, prediction.config)
    values = {f"violations/{name}": value for name, value in values.items()}
    values |= losses.rename_ground_truth(prediction.batch, positions)
    names = [n for n in prediction.arrays if n.startswith(("out/violations/", "out/renamed"))]
    assert len(names) >= 12
    for name in [*names, "out/alt_naming_is_better"]:
        np.testing.assert_allclose(
            values[name.removeprefix("out/")],
            prediction.arrays[name],
            rtol=1e-5,
            atol=1e-5,
            err_msg=name,
        )
