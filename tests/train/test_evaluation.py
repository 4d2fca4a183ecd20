"""The real evaluation, tiny: whole chains, unmasked, averaged weights, every metric, any device."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from evaluate_tiny import LENGTHS, made, tiny_run
from listening import listening

from tffold import metrics
from tffold.data import pipeline
from tffold.train.drawing import drawing
from tffold.train.evaluation import ChainEvaluation

pytestmark = pytest.mark.slow

SCRIPT = Path(__file__).parents[1] / "support" / "evaluate_tiny.py"
NAMES = {
    *("lddt_ca", "drmsd_ca", "rmsd_ca", "tm_score", "gdt_ts", "gdt_ha"),
    *("plddt", "plddt_error", "plddt_correlation", "predicted_tm", "predicted_tm_error"),
    *("contact_precision_l", "contact_precision_l2", "contact_precision_l5"),
    *(f"medium_contact_precision_{top}" for top in ("l", "l2", "l5")),
    *("violations_bond_length", "violations_bond_angle", "violations_between_residue_clash"),
    *("violations_extreme_ca_ca_distance", "violations_within_residue", "loss/total"),
}


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return tiny_run(tmp_path_factory.mktemp("records"))


@pytest.fixture(scope="module")
def results(run):
    with listening() as said:
        found = {r.chain_id: r for r in run.evaluation.evaluate(range(3), draw=True)}
    run.said += said
    return found


def test_whole_chains_up_to_the_longest_allowed(run, results):
    assert LENGTHS["long_A"] > run.config.validation.max_length
    assert run.evaluation.chain_ids == ["short_A", "middle_A", "blind_A", "large_A"]
    assert any("leaves out 1 of 5 chains" in line for line in run.said)
    sizes = {name: result.num_res for name, result in results.items()}
    assert sizes == {"short_A": LENGTHS["short_A"], "middle_A": LENGTHS["middle_A"]}
    assert any("blind_A" in line and "no Cα" in line for line in run.said)


def test_every_metric_is_there(results):
    assert results["middle_A"].numbers.keys() >= NAMES
    # Too short for as many pairs of residues as far apart as it has residues.
    assert NAMES - results["short_A"].numbers.keys() == {"contact_precision_l"}
    for result in results.values():
        assert all(np.isfinite(value) for value in result.numbers.values())
        assert len(result.plddt) == result.num_res
        assert len(result.changes) == 1 and result.changes[0] > 0


def test_numbers_are_those_of_the_networks_own_call_on_the_averaged_weights(run, results):
    config, network = run.config, run.trainer.network
    average = [v.numpy() for v in run.trainer.state_variables.average]
    mine = [v.numpy() for v in network.trainable_variables]
    assert any(not np.array_equal(a, b) for a, b in zip(average, mine, strict=True))
    config.data.mask_msa_in_inference = False
    try:
        dataset = pipeline.validation_dataset(config.data_for_model, num_recycle=1, chosen=[1])
    finally:
        config.data.mask_msa_in_inference = True
    features = {name: value[0] for name, value in next(iter(dataset)).items()}
    assert features.pop("chain_id").numpy() == b"middle_A"
    assert not features["bert_mask"].numpy().any()
    try:
        for variable, value in zip(network.trainable_variables, average, strict=True):
            variable.assign(value)
        outputs = network(features)
    finally:
        for variable, value in zip(network.trainable_variables, mine, strict=True):
            variable.assign(value)
    outputs = tf.nest.map_structure(np.asarray, outputs)
    batch = {name: value[-1].numpy() for name, value in features.items()}
    found = results["middle_A"].numbers
    for name, value in metrics.chain_metrics(outputs, batch, config.model.heads).items():
        assert found[name] == pytest.approx(value, rel=2e-3, abs=2e-3), name


def test_the_loss_is_not_clamped_and_guesses_no_masked_cell(run, results):
    numbers = results["middle_A"].numbers
    # At most 1 if it were clamped; the last layer's error of an untrained net is larger.
    assert numbers["loss/structure_module/fape"] > 1.0
    assert not any("masked_msa" in name for name in numbers)
    weighted = [value for name, value in numbers.items() if name.endswith("/weighted")]
    assert numbers["loss/total"] == pytest.approx(sum(weighted), rel=1e-5)


def test_chosen_chains_are_drawn_without_padding_and_superposed(run, results):
    assert run.config.validation.draw_chains == ["middle_A"]
    assert results["short_A"].drawing is None
    arrays, size = results["middle_A"].drawing, LENGTHS["middle_A"]
    assert {arrays[name].shape[0] for name in ("aatype", "plddt", "lddt", "contacts")} == {size}
    assert arrays["pae"].shape == arrays["distogram"].shape == (size, size)
    known = arrays["true_mask"][:, 1] > 0
    gap = (arrays["positions"] - arrays["true_positions"])[known, 1]
    rmsd = np.sqrt(np.square(gap).sum(-1).mean())
    assert rmsd == pytest.approx(results["middle_A"].numbers["rmsd_ca"], rel=1e-4)
    # Only to be drawn, a second look at it has masked cells.
    chosen = arrays["msa_chosen"] > 0
    assert arrays["msa"].shape == (4, size) and 0.02 < chosen.mean() < 0.4
    assert (arrays["msa_shown"] == arrays["msa"])[~chosen].all()
    assert (arrays["msa_shown"] == 22)[chosen].any()


def test_drawn_chains_default_to_the_shortest(run):
    config = made(Path(run.config.data.validation[0]))
    config.validation.draw_chains, config.validation.draw_count = [], 2
    evaluation = ChainEvaluation(config, run.trainer)
    assert [evaluation.chain_ids[i] for i in evaluation.drawn] == ["short_A", "middle_A"]
    config.validation.draw_chains = ["1xyz_A", "large_A"]
    with listening() as said:
        evaluation = ChainEvaluation(config, run.trainer)
    assert [evaluation.chain_ids[i] for i in evaluation.drawn] == ["large_A"]
    assert any("1xyz_A" in line for line in said)


def test_drawing_works_without_the_error_head(run, results):
    batch = {name: np.asarray(value) for name, value in results["middle_A"].drawing.items()}
    assert "pae" in batch
    outputs = {
        "structure_module": {"final_atom_positions": batch["positions"]},
        "predicted_lddt": {"logits": np.zeros((len(batch["aatype"]), 50), "float32")},
        "distogram": {"logits": np.zeros((*batch["distogram"].shape, 64), "float32")},
    }
    batch |= {
        "seq_length": np.int32(len(batch["aatype"])),
        "all_atom_positions": batch["true_positions"],
        "all_atom_mask": batch["true_mask"],
        "atom37_atom_exists": batch["atom_exists"],
    }
    assert "pae" not in drawing(outputs, batch, run.config)


def test_replicas_share_the_chains_and_give_the_same_numbers(run, results, tmp_path):
    """Two devices take three chains of one size at once, then one, without the idle one's copy."""
    out = tmp_path / "numbers.json"
    finished = subprocess.run(
        [sys.executable, str(SCRIPT), str(tmp_path), str(out)],
        # Compiled faster, to run slower.
        env=os.environ
        | {"TF_CPP_MIN_LOG_LEVEL": "3", "XLA_FLAGS": "--xla_backend_optimization_level=0"},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert finished.returncode == 0, finished.stderr
    found = json.loads(out.read_text())
    assert [name for name, _ in found] == ["short_A", "middle_A"]
    for name, numbers in found:
        for key, value in results[name].numbers.items():
            assert numbers[key] == pytest.approx(value, rel=1e-3, abs=1e-3), (name, key)
