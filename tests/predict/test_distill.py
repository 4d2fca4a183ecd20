"""Distillation: who may be learned from, and the way from predictions to a reader's batches."""

from __future__ import annotations

import dataclasses
import json

import numpy as np
import pytest
from synthetic import chain

from records.cli import main as convert
from records.errors import InputError
from tffold.config import DistillConfig
from tffold.data import pipeline
from tffold.predict.distill import Distillation, Reference, band, choose
from tffold.predict.evidence import Evidences
from tffold.predict.run import Job, predict_all
from tffold.predict.targets import find_targets

BINS = 3


def divergence_by_hand(reference, logits, reach):
    """c_i pair by pair, as the paper words it."""
    p = np.exp(logits) / np.exp(logits).sum(-1, keepdims=True)
    length = len(logits)
    result = np.zeros(length)
    for i in range(length):
        near = [j for j in range(length) if j != i and abs(i - j) <= reach]
        result[i] = np.mean(
            [np.sum((r := reference[abs(i - j)]) * np.log(r / p[i, j])) for j in near]
        )
    return result


def symmetric(rng, length):
    logits = rng.normal(size=(length, length, BINS))
    return logits + logits.swapaxes(0, 1)


def test_divergence_is_the_papers():
    rng = np.random.default_rng(0)
    reach = 4
    reference = Reference.empty(reach, BINS)
    sequences = [symmetric(rng, length) for length in (7, 9)]
    for logits in sequences:
        reference.add(band(logits, [len(logits)], reach), [len(logits)])
    mean = np.zeros((reach + 1, BINS))
    for d in range(1, reach + 1):
        every = [s[i, i + d] for s in sequences for i in range(len(s) - d)]
        mean[d] = np.mean([np.exp(x) / np.exp(x).sum() for x in every], axis=0)
    new = symmetric(rng, 8)
    found = reference.divergence(band(new, [8], reach), [8])
    np.testing.assert_allclose(found, divergence_by_hand(mean, new, reach), rtol=1e-9)
    assert reference.sequences == 2


def test_what_is_certain_is_far_from_the_reference():
    """The same distances as everybody: 0; certain ones: more, at the certain residues only."""
    reference = Reference.empty(8, BINS)
    flat = np.zeros((10, 10, BINS))
    reference.add(band(flat, [10], 8), [10])
    np.testing.assert_allclose(reference.divergence(band(flat, [10], 8), [10]), 0.0, atol=1e-12)
    sure = flat.copy()
    sure[:5, :5, 1] = 9.0
    found = reference.divergence(band(sure, [10], 8), [10])
    assert found[:5].min() > 1.0 > found[5:].max() == 0.0


def test_separations_that_the_reference_never_saw_do_not_count():
    reference = Reference.empty(8, BINS)
    reference.add(band(np.zeros((3, 3, BINS)), [3], 8), [3])  # separations 1 and 2
    sure = np.zeros((6, 6, BINS))
    sure[0, 5, 1] = sure[5, 0, 1] = 50.0
    np.testing.assert_allclose(reference.divergence(band(sure, [6], 8), [6]), 0.0, atol=1e-12)
    assert reference.divergence(band(np.zeros((1, 1, BINS)), [1], 8), [1]).tolist() == [0.0]


def test_a_reference_outlives_its_file_and_knows_its_kind(tmp_path):
    reference = Reference.empty(4, BINS)
    reference.add(band(symmetric(np.random.default_rng(1), 6), [6], 4), [6])
    path = tmp_path / "reference.npz"
    reference.save(path)
    again = Reference.load(path, 4, BINS)
    np.testing.assert_array_equal(again.total, reference.total)
    with pytest.raises(InputError, match=r"reference\.npz.*4 residues and 3 bins, not 4 and 5"):
        Reference.load(path, 4, 5)
    path.write_text("nonsense")
    with pytest.raises(InputError, match="no reference distogram"):
        Reference.load(path, 4, BINS)
    with pytest.raises(InputError, match="nowhere"):
        Reference.load(tmp_path / "nowhere.npz", 4, BINS)


@pytest.mark.parametrize(
    ("plddt", "divergence", "reason", "mask"),
    [
        ([90, 50, 90, 90], [1, 1, 0.4, 0.5], "", [1, 0, 0, 1]),
        ([69, 70, 70, 70], [1, 1, 1, 1], "mean pLDDT below 70", [1, 1, 1, 1]),
        ([90, 90, 90, 90], [0.4, 0.5, 0.5, 0.5], "mean divergence below 0.5", [0, 1, 1, 1]),
        ([100, 100, 40, 40], [0, 0, 9, 9], "no residue is left", [0, 0, 0, 0]),
    ],
)
def test_both_judges_must_agree(plddt, divergence, reason, mask):
    found, chosen = choose(np.array(plddt, float), np.array(divergence), DistillConfig())
    assert (found, chosen.astype(int).tolist()) == (reason, mask)


NAMES = ("alpha", "beta", "gamma")


def predict(model, folder, fasta, alignments, thresholds):
    """tffold-predict --distill on these sequences."""
    predict = dataclasses.replace(model.config.predict, distill=thresholds)
    config = dataclasses.replace(model.config, predict=predict)
    model = dataclasses.replace(model, config=config)
    distillation = Distillation.open(config, folder)
    evidences = Evidences(alignments=[str(alignments)])
    targets = find_targets([str(fasta)], evidences)
    job = Job([model], extra=distillation.write)
    outcome = predict_all(targets, job, folder, progress=False)
    assert not outcome.failed
    line = distillation.finish(outcome.predicted + outcome.skipped)
    manifest = folder / "distillation" / "manifest.jsonl"
    return line, [json.loads(text) for text in manifest.read_text().splitlines()]


@pytest.mark.slow
def test_from_predictions_to_batches(model, tmp_path):
    """Predict, choose, convert, read: the records are distillation's, masked as chosen."""
    alignments, fasta = tmp_path / "alignments", tmp_path / "q.fasta"
    sequences = {name: chain(24 + 3 * i, seed=i)["sequence"] for i, name in enumerate(NAMES)}
    for name, sequence in sequences.items():
        (alignments / name).mkdir(parents=True)
        rows = f">{name}\n{sequence}\n>h\n{sequence[::-1]}\n"
        (alignments / name / "uniref90_hits.a3m").write_text(rows)
    fasta.write_text("".join(f">{n}\n{s}\n" for n, s in sequences.items()))
    lenient = DistillConfig(0.0, 0.0, 0.0, 0.0, max_separation=16)
    line, entries = predict(model, tmp_path / "out", fasta, alignments, lenient)
    assert "3 of 3 targets chosen" in line and "only 3 sequences" in line
    # Thresholds in the middle of what was found: some residues and one chain go.
    plddt = np.concatenate([entry["plddt"] for entry in entries])
    divergence = np.concatenate([entry["divergence"] for entry in entries])
    means = sorted(entry["mean_plddt"] for entry in entries)
    strict = DistillConfig(
        min_mean_plddt=(means[0] + means[1]) / 2,
        min_residue_plddt=float(np.quantile(plddt, 0.2)),
        min_mean_divergence=0.0,
        min_residue_divergence=float(np.quantile(divergence, 0.3)),
        max_separation=16,
    )
    _, entries = predict(model, tmp_path / "out", fasta, alignments, strict)
    chosen = {entry["chain"]: entry for entry in entries if entry["status"] == "selected"}
    (rejected,) = (entry for entry in entries if entry["status"] == "rejected")
    assert len(chosen) == 2 and "mean pLDDT below" in rejected["reason"]

    manifest = tmp_path / "out" / "distillation" / "manifest.jsonl"
    arguments = ["--distillation", "--mmcif", f"@{manifest}", "--alignments", str(alignments)]
    arguments += ["--min-residue-confidence", "0", "--workers", "1", "--quiet"]
    assert convert([*arguments, "--output", str(tmp_path / "records")]) == 0
    data = dataclasses.replace(
        model.config.data,
        distillation=[str(tmp_path / "records" / "train")],
        distillation_probability=1.0,
        distillation_min_confidence=0.0,
        crop_size=32,
    )
    data.distillation_filter = dataclasses.replace(
        data.distillation_filter, min_length=0, min_msa_rows=0
    )
    batches = pipeline.training_dataset(data, num_recycle=0, batch_size=1, seed=0)
    seen = set()
    for batch in batches.take(8):
        name = batch[pipeline.CHAIN_ID][0].numpy().decode()
        entry = chosen[name]
        seen.add(name)
        ca = batch["all_atom_mask"][0, 0, : entry["num_res"], 1].numpy()
        np.testing.assert_array_equal(ca, entry["mask"])
        assert 0 < ca.sum() < entry["num_res"]
    assert seen == set(chosen)
    reader = pipeline.RecordSet([str(tmp_path / "records" / "train")], pipeline.Damage("raise"))
    for record, name in enumerate(reader.chain_id):
        raw = reader.read(record)
        entry = chosen[name]
        kept = np.where(entry["mask"], entry["plddt"], 0.0)
        np.testing.assert_allclose(raw["confidence"], kept, atol=0.011)
        assert raw["is_distillation"] == 1 and len(raw["msa"]) == 2


def test_a_given_reference_judges_instead_of_the_runs_own(model, tmp_path):
    fasta = tmp_path / "q.fasta"
    fasta.write_text(">a\nMKVLAAGIWQRSTNDEFYHCP\n")
    config = model.config
    bins, reach = config.model.heads.distogram_num_bins, config.predict.distill.max_separation
    reference = Reference.empty(reach, bins)
    reference.add(band(np.zeros((30, 30, bins)), [30], reach), [30])
    reference.save(tmp_path / "reference.npz")
    lines = {}
    for name, given in (("own", ""), ("given", str(tmp_path / "reference.npz"))):
        distillation = Distillation.open(config, tmp_path / name, given)
        targets = find_targets([str(fasta)], Evidences(alone=True))
        predict_all(
            targets, Job([model], extra=distillation.write), tmp_path / name, progress=False
        )
        distillation.finish(["a"])
        manifest = tmp_path / name / "distillation" / "manifest.jsonl"
        lines[name] = json.loads(manifest.read_text())
    assert lines["own"]["divergence"] != lines["given"]["divergence"]
    assert (tmp_path / "own" / "distillation" / "reference.npz").exists()
    assert not (tmp_path / "given" / "distillation" / "reference.npz").exists()


@pytest.mark.parametrize(
    ("text", "words"),
    [("nonsense\n", "line 1"), ('{"status": "rejected"}\n', "no prediction was chosen"),
     ('{"status": "selected"}\n', "line 1")],
)  # fmt: skip
def test_what_is_no_manifest_is_named(tmp_path, capsys, text, words):
    manifest = tmp_path / "manifest.jsonl"
    manifest.write_text(text)
    output = str(tmp_path / "records")
    assert convert(["--distillation", "--mmcif", f"@{manifest}", "--output", output]) == 2
    error = capsys.readouterr().err
    assert str(manifest) in error and words in error
