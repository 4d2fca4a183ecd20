"""Predicting: files and their content, ranking, skipping, failures, seeds, ensembles, recycling."""

from __future__ import annotations

import dataclasses
import json

import gemmi
import numpy as np
import pytest
from Bio.PDB import MMCIFParser, PDBParser
from listening import listening
from predicting import small_config
from synthetic import chain, write_shard

from records.chains import Assembly
from records.errors import InputError
from tffold import metrics
from tffold.data import pipeline
from tffold.predict import output
from tffold.predict.evidence import Evidences
from tffold.predict.models import load_models
from tffold.predict.run import Job, predict_all
from tffold.predict.targets import find_targets
from tffold.structures.files import Structure, read_pdb
from tffold.weights import npz

SEQUENCE = "MKVLAAGIWQRSTNDEFYHCP"


@pytest.fixture
def fasta(tmp_path):
    path = tmp_path / "q.fasta"
    path.write_text(f">one\n{SEQUENCE}\n>bad\nMK1\n>two\n{SEQUENCE[:15]}\n")
    return path


def targets_of(path):
    return find_targets([str(path)], Evidences(alone=True), 1000)


def with_settings(model, **settings):
    predict = dataclasses.replace(model.config.predict, **settings)
    return dataclasses.replace(model, config=dataclasses.replace(model.config, predict=predict))


def go(path, model, folder, **options):
    job = options.pop("job", None) or Job([model])
    with listening() as said:
        outcome = predict_all(targets_of(path), job, folder, progress=False, **options)
    return outcome, said


def read(path):
    return json.loads(path.read_text())


def test_all_files_of_a_target(model, fasta, tmp_path):
    two = with_settings(model, num_seeds=2, plots=True)
    outcome, said = go(fasta, two, tmp_path / "out")
    assert (outcome.predicted, list(outcome.failed)) == (["two", "one"], ["bad"])
    assert len(said) == 1 and "line 4, column 3" in said[0]
    assert read(tmp_path / "out" / "summary.json")["failed"] == outcome.failed
    folder = tmp_path / "out" / "one"
    names = ["tiny_seed_0", "tiny_seed_1"]
    expected = {"confidence.json", "prediction.json", "ranking_debug.json", "timings.json"}
    expected |= {f"ranked_{i}.{kind}" for i in (0, 1) for kind in ("pdb", "cif")}
    expected |= {f"ranked_{i}_{kind}.png" for i in (0, 1) for kind in ("plddt", "pae")}
    expected |= {f"{kind}_{name}.json" for name in names for kind in ("confidence", "pae")}
    expected |= {f"unrelaxed_{name}.pdb" for name in names} | {"msa_coverage.png"}
    assert {path.name for path in folder.iterdir()} == expected
    assert (folder / "msa_coverage.png").read_bytes()[:4] == b"\x89PNG"

    ranking = read(folder / "ranking_debug.json")
    best, other = ranking["order"]
    assert sorted(ranking["order"]) == names
    assert ranking["plddts"][best] >= ranking["plddts"][other]
    confidence = read(folder / "confidence.json")
    assert confidence["residueNumber"] == list(range(1, len(SEQUENCE) + 1))
    assert np.mean(confidence["confidenceScore"]) == pytest.approx(
        ranking["plddts"][best], abs=0.01
    )
    assert confidence["models"][0]["model"] == best
    assert confidence["models"][0]["passes"] == 3
    (pae,) = read(folder / f"pae_{best}.json")
    assert np.shape(pae["predicted_aligned_error"]) == (len(SEQUENCE), len(SEQUENCE))
    assert all(isinstance(x, int) for x in pae["predicted_aligned_error"][0])
    assert pae["max_predicted_aligned_error"] == 31.75
    timings = read(folder / "timings.json")
    assert {f"features_{name}" for name in names} < timings.keys() and timings["total"] > 0

    # The files say the same of the same structure, to each of their readers.
    (structure,) = read_pdb(folder / "ranked_0.pdb")
    assert structure.sequence == SEQUENCE
    np.testing.assert_allclose(structure.b_factors[:, 1], confidence["confidenceScore"], atol=0.011)
    cif = MMCIFParser(QUIET=True).get_structure("x", str(folder / "ranked_0.cif"))
    pdb = PDBParser(QUIET=True).get_structure("x", str(folder / "ranked_0.pdb"))
    for a, b in zip(cif.get_atoms(), pdb.get_atoms(), strict=True):
        assert (a.name, a.coord.tolist()) == (b.name, b.coord.tolist())
    block = gemmi.cif.read(str(folder / "ranked_0.cif")).sole_block()
    local = [float(x) for x in block.find_values("_ma_qa_metric_local.metric_value")]
    assert local == confidence["confidenceScore"]
    assert gemmi.read_structure(str(folder / "ranked_0.cif"))[0]["A"].count_occupancies() > 0


def test_the_categories_are_alphafold_dbs():
    plddt = np.array([49.99, 50.0, 70.0, 89.9, 90.0, 100.0])
    none = np.zeros((6, 37))
    chains = [Structure(none[:, 0].astype(int), none, none, np.arange(1, 7), none)]
    found = output.confidence_json(plddt, chains)
    assert found["residueNumber"] == [1, 2, 3, 4, 5, 6] and "chainId" not in found
    assert found["confidenceCategory"] == ["D", "L", "M", "M", "H", "H"]


def test_what_is_finished_is_skipped_until_something_changes(model, fasta, tmp_path):
    folder = tmp_path / "out"
    go(fasta, model, folder)
    record = folder / "one" / output.RECORD
    first = record.stat().st_mtime_ns
    outcome, _ = go(fasta, model, folder)
    assert (outcome.predicted, outcome.skipped) == ([], ["two", "one"])
    assert record.stat().st_mtime_ns == first
    (folder / "two" / output.RECORD).unlink()  # an unfinished one
    outcome, _ = go(fasta, model, folder)
    assert (outcome.predicted, outcome.skipped) == (["two"], ["one"])
    outcome, _ = go(fasta, model, folder, overwrite=True)
    assert outcome.predicted == ["two", "one"]
    # Another sequence of that name, other settings, other weights.
    fasta.write_text(f">one\n{SEQUENCE[::-1]}\n>two\n{SEQUENCE[:15]}\n")
    assert go(fasta, model, folder)[0].predicted == ["one"]
    assert go(fasta, with_settings(model, seed=5), folder)[0].predicted == ["two", "one"]
    other = dataclasses.replace(model, checksum=model.checksum + 1)
    assert go(fasta, other, folder)[0].predicted == ["two", "one"]


def test_a_target_that_fails_in_any_way_stops_no_other(model, fasta, tmp_path, monkeypatch):
    true = type(model).predict

    def fail(self, raw, seed, name):
        if raw.chain_sizes == (15,):
            raise MemoryError("no memory")
        return true(self, raw, seed, name)

    monkeypatch.setattr(type(model), "predict", fail)
    outcome, _ = go(fasta, model, tmp_path / "out")
    assert outcome.predicted == ["one"]
    assert "q.fasta: line 5, >two" in outcome.failed["two"] and "no memory" in outcome.failed["two"]
    assert not (tmp_path / "out" / "two").exists()
    assert not list((tmp_path / "out").glob(".*"))


def test_weights_that_diverged_are_named(model, fasta, tmp_path):
    weights = [w * np.nan for w in model.weights]
    outcome, _ = go(fasta, dataclasses.replace(model, weights=weights), tmp_path / "out")
    assert "params_tiny.npz" in outcome.failed["one"] and "not finite" in outcome.failed["one"]


def test_models_are_ranked_as_asked(model, fasta, tmp_path):
    rng = np.random.default_rng(0)
    noisy = [w + 0.2 * rng.standard_normal(w.shape).astype("float32") for w in model.weights]
    second = dataclasses.replace(model, name="noisy", weights=noisy, checksum=1)
    orders = {}
    for rank_by, key in (("plddt", "plddts"), ("ptm", "ptms")):
        models = [with_settings(m, rank_by=rank_by) for m in (model, second)]
        go(fasta, None, tmp_path / rank_by, job=Job(models))
        ranking = read(tmp_path / rank_by / "one" / "ranking_debug.json")
        scores = [ranking[key][name] for name in ranking["order"]]
        assert scores == sorted(scores, reverse=True) and scores[0] > scores[1]
        orders[rank_by] = ranking["order"]
    assert sorted(orders["ptm"]) == ["noisy", "tiny"]
    (best,) = read_pdb(tmp_path / "plddt" / "one" / "ranked_0.pdb")
    (named,) = read_pdb(tmp_path / "plddt" / "one" / f"unrelaxed_{orders['plddt'][0]}.pdb")
    np.testing.assert_array_equal(best.atom_positions, named.atom_positions)


def predictions(model, raw, **settings):
    assembly = Assembly.of_chain(raw)
    return with_settings(model, **settings).predict(assembly, settings.get("seed", 0), "x")


def test_seeds_ensembles_and_early_stop(model):
    raw = chain(30, num_msa=40, num_templates=1)
    one, again, other = (predictions(model, raw, seed=s) for s in (0, 0, 1))
    np.testing.assert_array_equal(one.chains[0].atom_positions, again.chains[0].atom_positions)
    assert np.abs(one.chains[0].atom_positions - other.chains[0].atom_positions).max() > 1e-3
    assert len(one.changes) == 3
    stopped = predictions(model, raw, recycle_tolerance=max(one.changes[1:]) + 1e-3)
    assert stopped.changes == one.changes[:2]
    assert predictions(model, raw, recycle_tolerance=0.0).changes == one.changes


def test_an_ensemble_has_its_own_samples_in_every_pass(model, monkeypatch):
    """Averaging them is the forward program's, and tested there."""
    seen = {}

    def predict(weights, features, num_ensemble, tolerance):
        seen.update(features=features, num_ensemble=num_ensemble)
        raise InputError("seen enough")

    monkeypatch.setattr(model.program, "predict", predict)
    with pytest.raises(InputError, match="seen enough"):
        predictions(model, chain(30, num_msa=40, num_templates=0), num_ensemble=4)
    assert seen["num_ensemble"] == 4
    samples = seen["features"]["true_msa"]
    assert len(samples) == 3 * 4
    assert len(np.unique(samples.reshape(12, -1), axis=0)) == 12
    np.testing.assert_array_equal(seen["features"]["aatype"][0], seen["features"]["aatype"][11])


def test_padding_changes_nothing(model):
    """A chain of 20 in the bucket of 32 against the network's own call without padding."""
    raw = chain(20, num_msa=8, num_templates=2)
    found = predictions(model, raw)
    features = pipeline.inference_example(raw, model.config.data, num_recycle=2, pad_to=20)
    network = model.program.network
    for variable, weight in zip(network.trainable_variables, model.weights, strict=True):
        variable.assign(weight)
    outputs = network(features)
    np.testing.assert_allclose(
        found.chains[0].atom_positions,
        outputs["structure_module"]["final_atom_positions"],
        atol=2e-3,
    )
    heads = model.config.model.heads
    logits = outputs["predicted_aligned_error"]["logits"]
    np.testing.assert_allclose(found.pae, metrics.predicted_aligned_error(logits, heads), atol=1e-3)
    ones = np.ones(20, "float32")
    assert found.ptm == pytest.approx(
        float(metrics.predicted_tm_score(logits, ones, heads)), abs=1e-4
    )
    assert found.plddt.shape == (20,) and found.pae.shape == (20, 20)
    assert found.distogram.shape[:2] == (20, 20)


def test_records_are_predicted_as_their_chains(model, tmp_path):
    write_shard(tmp_path / "a.tfrecord", [chain(20, chain_id="1abc_A")])
    outcome, _ = go(tmp_path / "a.tfrecord", model, tmp_path / "out")
    assert outcome.predicted == ["1abc_A"]
    (structure,) = read_pdb(tmp_path / "out" / "1abc_A" / "ranked_0.pdb")
    assert structure.sequence == chain(20)["sequence"]


def test_models_of_one_architecture_share_a_program(saved):
    path, weights = saved
    config = small_config()
    other = dataclasses.replace(config, data=dataclasses.replace(config.data, max_extra_msa=4))
    first, second = load_models({"a": config, "b": other}, [str(weights)])
    assert first.program is second.program
    assert first.checksum == second.checksum != 0


def test_parameters_of_another_preset_are_refused(saved):
    _, weights = saved
    config = small_config()
    config.model.template.enabled = False
    with pytest.raises(InputError, match=r"params_tiny\.npz.*unexpected.*fitting presets"):
        load_models({"tiny": config}, [str(weights)])
    with pytest.raises(InputError, match=r"2 --params for 1"):
        load_models({"tiny": config}, [str(weights)] * 2)
    with pytest.raises(InputError, match=r"no params_other\.npz.*params_tiny\.npz"):
        load_models({"other": config}, [str(weights.parent)])
    with pytest.raises(InputError, match="no checkpoint here"):
        load_models({"tiny": config}, [str(weights.parent.parent)])


def test_the_right_file_of_a_folder_is_taken(saved, tmp_path):
    _, weights = saved
    values = npz.read_npz(weights)
    npz.write_npz(tmp_path / "params_a.npz", values)
    npz.write_npz(tmp_path / "params_b.npz", {k: v + 1 for k, v in values.items()})
    a, b = load_models({"a": small_config(), "b": small_config()}, [str(tmp_path)])
    np.testing.assert_allclose(b.weights[0], a.weights[0] + 1)


def test_relaxed_structures_take_the_ranked_place(model, fasta, tmp_path, monkeypatch):
    from tffold.structures import relax as relaxation

    asked = []

    def relax(structures, config):
        (structure,) = structures
        asked.append(config)
        shifted = dataclasses.replace(structure, atom_positions=structure.atom_positions + 1.0)
        text = output.pdb_text([shifted])
        return relaxation.Relaxation((shifted,), text, {"rmsd": 1.0})

    monkeypatch.setattr(relaxation, "relax", relax)
    monkeypatch.setattr(relaxation, "require_openmm", lambda: None)
    two = with_settings(model, num_seeds=2)
    for choice, count in (("none", 0), ("best", 1), ("all", 2)):
        asked.clear()
        folder = tmp_path / choice
        go(fasta, None, folder, job=Job([two], choice))
        assert len(asked) == 2 * count  # two targets
        assert len(list((folder / "one").glob("relaxed_*.pdb"))) == count
        order = read(folder / "one" / "ranking_debug.json")["order"]
        for place, name in enumerate(order):
            (ranked,) = read_pdb(folder / "one" / f"ranked_{place}.pdb")
            (before,) = read_pdb(folder / "one" / f"unrelaxed_{name}.pdb")
            moved = (ranked.atom_positions - before.atom_positions)[before.atom_mask > 0]
            np.testing.assert_allclose(moved, float(place < count), atol=2e-3)
            cif = gemmi.read_structure(str(folder / "one" / f"ranked_{place}.cif"))
            first = cif[0]["A"][0]["CA"][0].pos
            np.testing.assert_allclose(first.tolist(), ranked.atom_positions[0, 1], atol=2e-3)
        if count:
            assert read(folder / "one" / "relax_metrics.json")[order[0]] == {"rmsd": 1.0}
