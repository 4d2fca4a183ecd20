"""Predicted complexes: their chains' names and order, confidence by pairs, files and choice."""

from __future__ import annotations

import dataclasses
import json

import gemmi
import numpy as np
import pytest
from listening import listening
from synthetic import write_shard

from records.cli import main as convert
from records.errors import InputError
from records.example import decode_assembly
from records.shards import scan
from tffold.config import DistillConfig, HeadsConfig
from tffold.pictures import plots
from tffold.predict import output
from tffold.predict.distill import Distillation, Reference, band, choose
from tffold.predict.evidence import Evidences
from tffold.predict.models import Prediction, chain_layout
from tffold.predict.run import Job, _alignment, predict_all
from tffold.predict.targets import Target, find_targets
from tffold.structures.files import Structure, chain_names, read_pdb

ONE, TWO = "MKVLAAGIWQ", "RSTNDEF"
BINS = HeadsConfig().distogram_num_bins


def write(path, text):
    path.write_text(text)
    return path


def assembly_of(tmp_path, *sequences):
    fasta = write(tmp_path / "c.fasta", f">c\n{':'.join(sequences)}\n")
    (target,) = find_targets([str(fasta)], Evidences(alone=True))
    return target.load()


def prediction(names, sizes, seed=0, **fields):
    """A prediction of chains of these names and lengths, all alanine."""
    rng = np.random.default_rng(seed)
    total = sum(sizes)
    plddt = rng.uniform(60.0, 100.0, total)
    chains, start = [], 0
    for name, size in zip(names, sizes, strict=True):
        mask = np.tile(np.isin(np.arange(37), [0, 1, 2, 3, 4]).astype("float32"), (size, 1))
        positions = rng.normal(scale=20.0, size=(size, 37, 3)).astype("float32")
        types, index = np.zeros(size, int), np.arange(1, size + 1)
        chain = Structure(types, positions, mask, index, mask, name)
        chains.append(chain.with_b_factors(plddt[start : start + size]))
        start += size
    pairs = {(a, b): 0.1 * i for i, (a, b) in enumerate(zip(names, names[1:], strict=False), 1)}
    made = Prediction(
        name="x", chains=tuple(chains), plddt=plddt, pae=rng.uniform(0.0, 30.0, (total, total)),
        max_pae=31.75, ptm=0.5, iptm=0.75, pair_iptm=pairs,
        distogram=rng.normal(size=(total, total, BINS)), changes=(0.0, 0.1), seconds={},
        compiled=False,
    )  # fmt: skip
    return dataclasses.replace(made, **fields)


def test_chains_come_out_in_the_order_in_which_they_went_in(tmp_path):
    """The network has A, B, A as A, A, B; the files have the chains where they were."""
    raw = assembly_of(tmp_path, ONE, TWO, ONE)
    layout = chain_layout(raw)
    assert [name for name, _ in layout] == ["A", "B", "C"]
    assert [rows.tolist() for _, rows in layout] == [
        list(range(10)), list(range(20, 27)), list(range(10, 20)),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("given", "expected"),
    [(["H", "L", "A"], ["A", "H", "L"]), (["A", "A-2", "B"], ["A", "B", "C"]),
     (["A", "A", "B"], ["A", "B", "C"]), (["", "", ""], ["A", "B", "C"])],
)  # fmt: skip
def test_chains_of_records_keep_their_names_where_files_can_have_them(tmp_path, given, expected):
    raw = assembly_of(tmp_path, ONE, TWO, ONE)
    raw = dataclasses.replace(raw, features={**raw.features, "chain_names": given})
    layout = chain_layout(raw)
    assert [name for name, _ in layout] == expected
    assert sorted(np.concatenate([rows for _, rows in layout]).tolist()) == list(range(27))


def test_the_ranking_score_is_alphafold_multimers():
    one = prediction("AB", (4, 3))
    assert one.score("iptm+ptm") == pytest.approx(0.8 * 0.75 + 0.2 * 0.5)
    assert (one.score("ptm"), one.score("plddt")) == (0.5, one.plddt.mean())
    alone = prediction("A", (4,), iptm=None, pair_iptm=None)
    assert alone.score("iptm+ptm") == 0.5
    with pytest.raises(InputError, match="rank by plddt"):
        prediction("AB", (4, 3), ptm=None, iptm=None, pair_iptm=None).score("iptm+ptm")


def test_files_of_a_complex(tmp_path):
    one = prediction("ABC", (4, 3, 5), seed=1)
    output.write_predictions(tmp_path, "target", [one], {}, np.zeros((3, 12), int))
    chains = read_pdb(tmp_path / "ranked_0.pdb")
    assert [(c.chain_id, len(c.aatype)) for c in chains] == [("A", 4), ("B", 3), ("C", 5)]
    parsed = gemmi.read_structure(str(tmp_path / "ranked_0.cif"))
    assert [chain.name for chain in parsed[0]] == ["A", "B", "C"]
    confidence = json.loads((tmp_path / "confidence_x.json").read_text())
    assert confidence["chainId"] == list("AAAABBBCCCCC")
    assert confidence["residueNumber"] == [1, 2, 3, 4, 1, 2, 3, 1, 2, 3, 4, 5]
    assert (confidence["ptm"], confidence["iptm"]) == (0.5, 0.75)
    first, second = confidence["chainPairs"]
    assert (first["chains"], first["iptm"]) == (["A", "B"], 0.1)
    means = [one.pae[:4, 4:7].mean(), one.pae[4:7, :4].mean()]
    assert first["mean_pae"] == pytest.approx(means, abs=0.006)
    assert second["mean_pae"][0] == pytest.approx(one.pae[4:7, 7:].mean(), abs=0.006)
    ranking = json.loads((tmp_path / "ranking_debug.json").read_text())
    assert ranking["iptm+ptm"] == {"x": pytest.approx(0.7)} and ranking["iptms"] == {"x": 0.75}
    (line,) = json.loads((tmp_path / "confidence.json").read_text())["models"]
    assert line["ranking_score"] == pytest.approx(0.7) and len(line["chain_pairs"]) == 2
    assert (tmp_path / "ranked_0_pae.png").exists() and (tmp_path / "msa_coverage.png").exists()
    assert [c["chain"] for c in output.chains_json(one.chains)] == ["A", "B", "C"]
    assert [c["entity"] for c in output.chains_json(one.chains)] == [1, 2, 3]


def test_more_chains_than_letters_are_written_as_mmcif_alone(tmp_path):
    names = chain_names(63)
    with listening() as said:
        one = prediction(names, [1] * 63)
        output.write_predictions(tmp_path, "target", [one], {}, None)
    assert len(said) == 1 and "63 chains" in said[0] and "mmCIF" in said[0]
    assert not list(tmp_path.glob("*.pdb"))
    assert len(gemmi.read_structure(str(tmp_path / "ranked_0.cif"))[0]) == 63


def test_the_alignment_is_drawn_in_the_order_of_the_chains(tmp_path):
    folder = tmp_path / "alignments"
    for name, sequence in (("c_A", ONE), ("c_B", TWO)):
        (folder / name).mkdir(parents=True)
        write(folder / name / "x.a3m", f">q\n{sequence}\n>h\n{'A' * len(sequence)}\n")
    fasta = write(tmp_path / "c.fasta", f">c\n{ONE}:{TWO}:{ONE}\n")
    (target,) = find_targets([str(fasta)], Evidences(alignments=[str(folder)]))
    drawn = _alignment(target.load())
    assert drawn.shape == (3, 27)
    assert (drawn[0] < plots.GAP).all() and drawn[0, 0] == 12 and drawn[0, 10] == 1  # M, R
    assert (drawn[1] == [0] * 10 + [plots.GAP] * 7 + [0] * 10).all()
    assert (drawn[2] == [plots.GAP] * 10 + [0] * 7 + [plots.GAP] * 10).all()


def test_a_network_for_single_chains_refuses_complexes(model, tmp_path):
    with pytest.raises(InputError, match="2 chains.*single chains.*multimer"):
        model.predict(assembly_of(tmp_path, ONE, TWO), 0, "x")


def test_the_order_of_chains_does_not_matter(multimer, tmp_path):
    """A, B, A and B, A, A: the same structure and confidence, each chain at its own place."""
    # Which cells are masked is drawn by column.
    data = dataclasses.replace(multimer.config.data, mask_msa_in_inference=False)
    config = dataclasses.replace(multimer.config, data=data)
    unmasked = dataclasses.replace(multimer, config=config)
    first, second = (
        unmasked.predict(assembly_of(tmp_path, *sequences), 0, "x")
        for sequences in ((ONE, TWO, ONE), (TWO, ONE, ONE))
    )
    assert [chain.sequence for chain in first.chains] == [ONE, TWO, ONE]
    assert [chain.sequence for chain in second.chains] == [TWO, ONE, ONE]
    order = [1, 0, 2]
    for here, there in enumerate(order):
        one, other = first.chains[here], second.chains[there]
        np.testing.assert_allclose(one.atom_positions, other.atom_positions, atol=5e-3)
        np.testing.assert_allclose(one.b_factors, other.b_factors, atol=1e-2)
    assert (first.ptm, first.iptm) == pytest.approx((second.ptm, second.iptm), rel=1e-4)
    assert set(first.pair_iptm) == {("A", "B"), ("A", "C"), ("B", "C")}
    for pair, same in ((("A", "B"), ("A", "B")), (("A", "C"), ("B", "C"))):
        assert first.pair_iptm[pair] == pytest.approx(second.pair_iptm[same], rel=1e-4)
    assert first.borders == [10, 17] and first.pae.shape == (27, 27)
    rows = np.r_[10:17, 0:10, 17:27]
    np.testing.assert_allclose(first.pae[np.ix_(rows, rows)], second.pae, atol=1e-2)


def test_records_and_sequences_of_complexes_are_predicted(multimer, tmp_path):
    """The same features from a FASTA file and from a record: the same prediction."""
    raw = assembly_of(tmp_path, ONE, TWO, ONE)
    shard = write_shard(tmp_path / "a.tfrecord", [raw])
    (fasta,) = find_targets([str(tmp_path / "c.fasta")], Evidences(alone=True))
    (record,) = find_targets([str(shard)], Evidences(), data=multimer.config.data)
    for target, folder in ((fasta, "fasta"), (record, "record")):
        outcome = predict_all([target], Job([multimer]), tmp_path / folder, progress=False)
        assert outcome.predicted == ["c"], outcome.failed
    files = [tmp_path / folder / "c" / "ranked_0.pdb" for folder in ("fasta", "record")]
    assert files[0].read_text() == files[1].read_text()
    told = json.loads((tmp_path / "fasta" / "c" / "prediction.json").read_text())
    assert told["sequence"] == f"{ONE}:{TWO}:{ONE}"
    assert [(c["chain"], c["entity"]) for c in told["chains"]] == [("A", 1), ("B", 2), ("C", 1)]
    # Without the model's word complexes are left out.
    with pytest.raises(InputError):
        find_targets([str(shard)], Evidences())


# --- distillation -------------------------------------------------------------


def test_only_pairs_within_a_chain_are_judged():
    rng = np.random.default_rng(0)
    logits = rng.normal(size=(9, 9, 3))
    logits += logits.swapaxes(0, 1)
    apart = [logits[:5, :5], logits[5:, 5:]]
    sizes = [5, 4]
    found = band(logits, sizes, 3)
    alone = [band(part, [len(part)], 3) for part in apart]
    np.testing.assert_array_equal(found, np.concatenate(alone))
    reference, other = Reference.empty(3, 3), Reference.empty(3, 3)
    reference.add(found, sizes)
    for part, size in zip(alone, sizes, strict=True):
        other.add(part, [size])
    np.testing.assert_allclose(reference.total, other.total)
    assert reference.sequences == other.sequences == 2
    divergence = [other.divergence(part, [size]) for part, size in zip(alone, sizes, strict=True)]
    np.testing.assert_allclose(reference.divergence(found, sizes), np.concatenate(divergence))


def test_complexes_are_chosen_by_iptm_too():
    config, plddt, divergence = DistillConfig(), np.full(3, 90.0), np.ones(3)
    assert choose(plddt, divergence, config, 0.5)[0] == ""
    assert choose(plddt, divergence, config, 0.49)[0] == "ipTM below 0.5"


def test_chosen_complexes_become_records(tmp_path):
    """Judged, written, converted: chains and entities, their confidence, and what is masked."""
    folder = tmp_path / "out"
    settings = DistillConfig(0.0, 70.0, 0.0, 0.0, max_separation=8)
    distillation = Distillation(settings, BINS, str(folder), None)
    sizes = {"good": (14, 9, 14), "bad": (12, 8, 12)}
    kept = {}
    for number, name in enumerate(sizes):
        (folder / name).mkdir(parents=True)
        iptm = 0.9 if name == "good" else 0.1
        kept[name] = prediction("ABC", sizes[name], seed=number, iptm=iptm)
        target = Target(name, 0, name, name, lambda: None)
        distillation.write(folder / name, target, None, [kept[name]])
    assert "1 of 2 targets chosen" in distillation.finish(list(sizes))
    manifest = folder / "distillation" / "manifest.jsonl"
    entries = {e["chain"]: e for e in map(json.loads, manifest.read_text().splitlines())}
    assert entries["bad"]["reason"] == "ipTM below 0.5" and entries["bad"]["num_chains"] == 3
    with pytest.raises(InputError, match="no predicted-aligned-error head"):
        alone = dataclasses.replace(kept["good"], iptm=None, ptm=None, pair_iptm=None)
        distillation.write(folder / "good", target, None, [alone])

    arguments = ["--distillation", "--complexes", "--mmcif", f"@{manifest}", "--single-sequence"]
    arguments += ["--min-residue-confidence", "0", "--min-mean-confidence", "0", "--quiet"]
    arguments += ["--min-length", "1", "--workers", "1", "--output", str(tmp_path / "records")]
    assert convert(arguments) == 0
    (shard,) = (tmp_path / "records" / "train").glob("*.tfrecord")
    (record,) = [decode_assembly(data) for _, _, data in scan(shard)]
    assert record.entity_id == (1, 1, 2) and record.chain_sizes == (14, 14, 9)
    assert record.features["chain_names"] == ["A", "C", "B"]
    assert record.features["is_distillation"] == 1
    order = np.r_[0:14, 23:37, 14:23]
    mask = np.array(entries["good"]["mask"])[order]
    plddt = kept["good"].plddt[order]
    assert 0 < mask.sum() < 37
    np.testing.assert_allclose(record.features["confidence"], plddt * mask, atol=0.011)
    np.testing.assert_array_equal(record.features["all_atom_mask"][:, 1], mask)
    truth = np.concatenate([chain.atom_positions for chain in kept["good"].chains])[order, 1]
    found = record.features["all_atom_positions"][:, 1]
    np.testing.assert_allclose(found, truth * mask[:, None], atol=2e-3)
