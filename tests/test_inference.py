"""The forward program: equal to the network's own call, averaging an ensemble, stopping early."""

import weakref

import numpy as np
import pytest
from tiny import real_batch, tiny_config

from tffold.inference import ForwardProgram, ca_distance_change
from tffold.model.alphafold import AlphaFold, select_pass

PASSES = 3


@pytest.fixture(scope="module")
def setting():
    network = AlphaFold(tiny_config(), seed=1)
    two = real_batch()
    features = {name: np.concatenate([x, x[:1]]) for name, x in two.items()}
    weights = [v.numpy() for v in network.trainable_variables]
    return network, ForwardProgram(network), weights, features


def test_passes_agree_with_the_networks_own_call(setting):
    network, program, weights, features = setting
    outputs, changes = program.predict(weights, features)
    expected = network(features)
    np.testing.assert_allclose(
        outputs["structure_module"]["final_atom_positions"],
        expected["structure_module"]["final_atom_positions"],
        atol=2e-4,
    )
    assert len(changes) == PASSES
    assert min(changes) > 0.0


def test_weights_are_those_passed_in(setting):
    network, program, weights, features = setting
    ours, _ = program.predict(weights, features, num_recycle=0)
    rng = np.random.default_rng(0)
    other, _ = program.predict(
        [w + 0.1 * rng.standard_normal(w.shape).astype("float32") for w in weights],
        features,
        num_recycle=0,
    )
    name = "single"
    difference = np.abs(ours["representations"][name] - other["representations"][name])
    assert difference.max() > 1e-3


def test_recycling_ends_early_within_the_tolerance(setting):
    _, program, weights, features = setting
    _, all_changes = program.predict(weights, features)
    _, changes = program.predict(weights, features, tolerance=all_changes[1] + 1.0)
    assert changes == all_changes[:2]


def test_a_pass_runs_without_the_outputs_of_the_one_before(setting, monkeypatch):
    """They hold the representations of a long chain: gigabytes."""
    _, program, weights, features = setting
    seen, alive = [], []

    class Outputs(dict):
        pass

    def run(parameters, batch, previous):
        alive.append(sum(reference() is not None for reference in seen))
        outputs = Outputs(number=len(alive))
        seen.append(weakref.ref(outputs))
        return outputs, previous, 1.0

    monkeypatch.setattr(program, "compiled_pass", run)
    outputs, changes = program.predict(weights, features)
    assert (outputs, changes) == ({"number": PASSES}, PASSES * [1.0])
    assert alive == PASSES * [0]


def test_an_ensemble_averages_the_representations(setting):
    network, _, weights, features = setting
    previous = network.first_previous(features["aatype"].shape[1])
    samples = {name: x[:2] for name, x in features.items()}
    outputs = network.ensembled_pass(samples, previous)
    single = [
        network.one_pass(select_pass(samples, i), previous)["representations"] for i in range(2)
    ]
    assert np.abs(single[0]["pair"] - single[1]["pair"]).max() > 1e-3
    for name in ("single", "pair", "msa_first_row"):
        mean = (single[0][name] + single[1][name]) / 2
        np.testing.assert_allclose(outputs["representations"][name], mean, atol=1e-5)
    np.testing.assert_allclose(outputs["representations"]["msa"], single[0]["msa"], atol=1e-5)


def test_change_is_the_rms_of_distance_differences():
    before = np.zeros((3, 37, 3), "float32")
    after = before.copy()
    before[1, 1], after[1, 1] = (3.0, 0.0, 0.0), (0.0, 4.0, 0.0)
    after[2, 1] = 100.0  # masked
    change = ca_distance_change(before, after, np.array([1.0, 1.0, 0.0], "float32"))
    # Of the four pairs of residues 0 and 1, two differ by 1 Å.
    assert float(change) == pytest.approx(np.sqrt(2 / 4), rel=1e-6)
