"""Every loss, part and violation against the reference numbers, compiled by XLA."""

import dataclasses

import numpy as np
import pytest
import tensorflow as tf
from reference import CASES, load_batch, load_expected, nest
from structures import structure_outputs

from tffold import losses
from tffold.config import HeadsConfig, LossConfig

CONFIG = LossConfig(
    violation_weight=1.0, experimentally_resolved_weight=0.01, scale_by_sqrt_length=False
)


def outputs_from(batch, expected, traj):
    """The reference's answer as the model's output, with what the file leaves out rebuilt."""
    outputs = nest({name: tf.constant(value) for name, value in expected.items()})
    angles = nest(expected)["structure_module"]["sidechains"]
    outputs["structure_module"] |= structure_outputs(
        batch, traj, angles["angles_sin_cos"], angles["unnormalized_angles_sin_cos"]
    )
    return outputs


def load(case):
    batch = {name: tf.constant(value[-1]) for name, value in load_batch(case).items()}
    return batch, load_expected(case)


@pytest.mark.parametrize("case", CASES)
def test_losses_equal_reference(case):
    batch, expected = load(case)
    has_pae = "predicted_aligned_error/loss" in expected
    config = dataclasses.replace(CONFIG, predicted_aligned_error_weight=0.1 if has_pae else 0.0)

    @tf.function(jit_compile=True)
    def run(traj):
        outputs = outputs_from(batch, expected, traj)
        return losses.compute_losses(outputs, batch, config, HeadsConfig())

    total, parts = run(tf.constant(expected["structure_module/traj"]))
    wanted = {
        name: value
        for name, value in expected.items()
        if value.ndim == 0 and name not in ("grad_global_norm", "total_loss")
    }
    assert len(wanted) >= 18
    for name, value in wanted.items():
        # The reference's diagonal of the aligned error is rounding (measured: 8e-5 of this loss).
        rtol = 2e-4 if name == "predicted_aligned_error/loss" else 2e-6
        np.testing.assert_allclose(parts[name], value, rtol=rtol, err_msg=name)
    np.testing.assert_allclose(total, expected["total_loss"], rtol=5e-6 if has_pae else 2e-6)
    assert parts["total_loss"] == total


@pytest.mark.parametrize("case", CASES)
def test_violations_and_renaming_equal_reference(case):
    batch, expected = load(case)
    positions = expected["structure_module/final_atom14_positions"]
    found = losses.find_violations(batch, tf.constant(positions), CONFIG)
    found = {f"violations/{name}": value for name, value in found.items()}
    found |= losses.rename_ground_truth(batch, tf.constant(positions))
    names = {f"structure_module/{name}": name for name in found}
    of_violations = {n for n in expected if n.startswith("structure_module/violations/")}
    assert of_violations <= names.keys()
    ours_alone = {n for n in names if n not in expected}
    assert all("between_residues/" in n and n.endswith("_violations") for n in ours_alone)
    for key in names.keys() - ours_alone:
        name = names[key]
        np.testing.assert_allclose(found[name], expected[key], rtol=1e-6, atol=1e-6, err_msg=name)
    names = {name.removeprefix("structure_module/") for name in expected}
    assert {name for name in names if name.startswith(("violations/", "renamed"))} <= set(found)


def test_weights_are_the_published_ones():
    """The total is the weighted sum of the terms; weights as DeepMind's configuration has them."""
    batch, expected = load("case_a")
    outputs = outputs_from(batch, expected, tf.constant(expected["structure_module/traj"]))
    config = dataclasses.replace(CONFIG, predicted_aligned_error_weight=0.1)
    total, parts = losses.compute_losses(outputs, batch, config, HeadsConfig())
    structure = {
        "backbone_fape": 0.5,
        "sidechain_fape": 0.5,
        "chi_loss": 0.5,
        "angle_norm_loss": 0.01,
        "violation": 1.0,
    }
    by_hand = sum(w * float(parts[f"structure_module/{name}"]) for name, w in structure.items())
    assert float(parts["structure_module/loss"]) == pytest.approx(by_hand, rel=1e-6)
    head = {
        "structure_module": 1.0,
        "distogram": 0.3,
        "masked_msa": 2.0,
        "predicted_lddt": 0.01,
        "predicted_aligned_error": 0.1,
        "experimentally_resolved": 0.01,
    }
    assert set(head) == set(losses.HEAD_WEIGHTS) == {term.head for term in losses.LOSS_TERMS}
    by_hand = sum(weight * float(parts[f"{name}/loss"]) for name, weight in head.items())
    assert float(total) == pytest.approx(by_hand, rel=1e-6)
    for name, weight in head.items():
        weighted = float(parts[f"{name}/weighted"])
        assert weighted == pytest.approx(weight * float(parts[f"{name}/loss"]), rel=1e-6)
