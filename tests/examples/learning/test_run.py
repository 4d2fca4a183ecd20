"""The whole way from stand-ins of the packages to records, stopped and gone on with."""

from __future__ import annotations

import shutil

import numpy as np
import pytest
from packages import backbone, blast_volume, structure_database, write_package

from examples.learning import packages, run, split
from tffold.config_file import load_config
from tffold.data.reader import Damage, RecordSet

mmseqs = pytest.mark.skipif(not shutil.which("mmseqs"), reason="no mmseqs: apt-get install mmseqs2")
CHAINS = {
    "1AAA_A": "train", "1BBB_A": "validation", "1CCC_A": "relative", "1DDD_A": "", "1EEE_A": "train"
}  # fmt: skip
LETTERS = np.array(list("ACDEFGHIKLMNPQRSTVWY"))


@pytest.fixture
def world(tmp_path, monkeypatch):
    """Both packages brought by hand, and a published split that keeps one chain back."""
    rng = np.random.default_rng(0)
    entries, sequences, component = {}, [], {}
    for number, name in enumerate(CHAINS):
        sequence = rng.choice(LETTERS, 60)
        entries[name] = ("".join(sequence), backbone(60, seed=number), 1)
        for _ in range(3):
            relative = np.where(rng.random(60) < 0.3, rng.choice(LETTERS, 60), sequence)
            sequences.append("".join(relative))
        component[name[:4].lower() + name[4:]] = number
    component["1eee_A"] = component["1aaa_A"]  # relatives: one family
    cache = tmp_path / "debs"
    cache.mkdir()
    index, residues = blast_volume(sequences)
    content = {
        "structures": {"db.dat": structure_database(entries)},
        "sequences": {"set/odd.pin": index, "set/odd.psq": residues},
    }
    for kind, files in content.items():
        sums = write_package(cache / f"{kind}_1.deb", files)
        monkeypatch.setattr(packages, kind.upper(), packages.Package(kind, "1", sums))
    use = {n[:4].lower() + n[4:]: one for n, one in CHAINS.items() if one}
    split.write_split(tmp_path / "published.tsv", component, use)
    monkeypatch.setattr(split, "PUBLISHED", tmp_path / "published.tsv")
    monkeypatch.setattr(run, "NEEDED_BYTES", 1000)
    return ["--output", str(tmp_path / "out"), "--packages", str(cache), "--threads", "1"]


@pytest.mark.slow
@mmseqs
def test_from_packages_to_records(world, tmp_path, capsys, monkeypatch):
    out = tmp_path / "out"
    # Without MMseqs2 nothing begins that it would be needed for.
    with monkeypatch.context() as patch:
        patch.setattr(packages, "missing_programs", lambda names: names)
        assert run.main([*world, "--until", "records"]) == 2
        assert capsys.readouterr().err == (
            "error: program mmseqs is not on PATH (apt-get install mmseqs2)\n"
        )
        assert run.main([*world, "--until", "chains"]) == 0

    # Stopped in the search.
    with monkeypatch.context() as patch:
        patch.setattr(run, "search_batch", _interrupted)
        assert run.main([*world, "--until", "records"]) == 130
    assert "the same command goes on" in capsys.readouterr().err
    shutil.rmtree(tmp_path / "debs")  # no longer needed: goes on after it
    assert run.main([*world, "--until", "records"]) == 0

    records = {
        kind: RecordSet([out / "records" / kind], Damage("raise"))
        for kind in ("train", "validation")
    }
    assert {kind: one.chain_id for kind, one in records.items()} == {
        "train": ["1aaa_A", "1eee_A"], "validation": ["1bbb_A"]
    }  # fmt: skip
    assert records["train"].cluster_size.tolist() == [2, 2]  # each is drawn half as often
    first = records["train"].read(0)
    assert first["resolution"] == 2.0 and len(first["msa"]) == 4
    glycines = first["sequence"].count("G")
    assert first["all_atom_mask"].sum(0)[:5].tolist() == [60, 60, 60, 60 - glycines, 60]
    # The chain that the split does not name is nowhere, its relatives' neither learnt from.
    assert not [path for path in out.rglob("*1ddd_A*")]
    assert "1ddd_A" not in (out / "records" / "manifest.jsonl").read_text()
    assert "1ccc_A" not in (out / "records" / "manifest.jsonl").read_text()

    # Again: everything is there.
    monkeypatch.setattr(run.structures, "read_database", None)
    monkeypatch.setattr(run.sequences, "write_fasta", None)
    monkeypatch.setattr(run.links, "run_program", None)
    before = (out / "records" / "summary.json").stat().st_mtime_ns
    assert run.main([*world, "--until", "records"]) == 0
    assert (out / "records" / "summary.json").stat().st_mtime_ns == before

    # One of two chains alone, beside the others; the same are held out.
    assert run.main([*world, "--until", "split", "--train-chains", "1"]) == 0
    one = (out / "chains_1.txt").read_text().split()
    assert len(one) == 2 and set(one) < set((out / "chains.txt").read_text().split())
    assert "1bbb_A" in one

    # A split with relatives on both sides is refused; one made anew is not.
    table = (tmp_path / "published.tsv").read_text().replace("relative", "train")
    (tmp_path / "published.tsv").write_text(table)
    hits = out / "links" / "hits.tsv"
    hits.write_text(hits.read_text() + "1\t0\n")
    assert run.main([*world, "--until", "split"]) == 2
    assert "links between training and validation" in capsys.readouterr().err
    monkeypatch.setattr(split, "MIN_ROWS", 2)
    monkeypatch.setattr(split, "LENGTHS", range(60, 61))
    assert run.main([*world, "--until", "split", "--new-split", "1"]) == 0
    assert list((out / "validation.txt").read_text().split()) != []
    made = split.read_split(out / "split.tsv")
    assert made["1aaa_A"][0] == made["1bbb_A"][0] and "1ddd_A" not in made


def _interrupted(*_, **__):
    raise KeyboardInterrupt


def test_too_small_a_disk_is_told_before_anything_is_fetched(world, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(run, "NEEDED_BYTES", 10**18)
    monkeypatch.setattr(packages, "fetch", None)
    assert run.main([*world, "--until", "packages"]) == 2
    assert "make room" in capsys.readouterr().err


def test_training_gets_the_records_and_the_settings(world, tmp_path, monkeypatch):
    """The commands that the last stages run."""
    calls = []
    monkeypatch.setattr(run, "call", lambda module, *words: calls.append((module, words)))
    monkeypatch.setattr(run, "STAGES", ("records", "training", "evaluation", "report"))
    monkeypatch.setattr(packages, "missing_programs", lambda names: [])
    parts = run.Part(50, 64, 1e-3, 0), run.Part(90, 96, 3e-4, 1, dropout=0.1, min_rows=8)
    monkeypatch.setattr(run, "CURRICULUM", parts)
    assert run.main([*world, "--until", "report", "train.seed=1"]) == 0
    modules = [module for module, _ in calls]
    assert modules == [
        "records.cli", "tffold.cli.fit", "tffold.cli.fit", "examples.learning.evaluate",
        "examples.learning.report",
    ]  # fmt: skip
    fit = calls[1][1]
    assert fit[0] == run.CONFIG and fit[-1] == "train.seed=1"
    assert f"data.train=[{tmp_path / 'out' / 'records' / 'train'}]" in fit
    assert f"train.run_dir={tmp_path / 'out' / 'run'}" in fit
    for (_, words), part in zip(calls[1:3], parts, strict=True):
        assert words[-2] == f"train.steps={part.end}"
        config = load_config(run.CONFIG, [word for word in words if "=" in str(word)])
        model = config.model
        assert (config.data.crop_size, config.train.learning_rate) == (part.crop, part.rate)
        assert (model.num_recycle, config.validation.num_recycle) == (part.recycles,) * 2
        assert config.data.train_filter.min_msa_rows == part.min_rows
        assert {
            model.structure_module.dropout_rate,
            *(
                rate
                for stack in (model.evoformer, model.extra_msa_stack)
                for rate in (
                    stack.msa_row_attention.dropout_rate,
                    stack.triangle_multiplication_dropout_rate,
                    stack.triangle_attention.dropout_rate,
                )
            ),
        } == {part.dropout}

    # Fewer steps are fewer parts; the last part ends where it was asked to.
    for steps, parts in {50: [50], 60: [50, 60], 200: [50, 200]}.items():
        calls.clear()
        assert run.main([*world, "--until", "training", f"train.steps={steps}"]) == 0
        assert [words[-1] for _, words in calls[1:]] == [f"train.steps={n}" for n in parts]
