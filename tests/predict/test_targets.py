"""What is to be predicted: FASTA files and records; whatever is wrong is told by file and line."""

from __future__ import annotations

import gzip
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from synthetic import chain, write_shard

from records.chains import species_name
from records.errors import InputError
from records.search import SearchOptions
from tffold.predict.evidence import Evidences, folder_name
from tffold.predict.targets import fasta_targets, find_targets

UBQ = "MQIFVKTLTGKTITLEVEPSDTIENVKAKIQDKEGIPPDQQRLIFAGKQLEDGRTLSDYNIQKESTLHLVLRLRGG"
GLOBIN = "VLSPADKTNVKAAWGKVGAHAGEYGAEALERMFLSFPTTKTYFPHFDLSH"
ALONE = Evidences(alone=True)


def write(path, text):
    path.write_text(text)
    return path


def problem(target) -> str:
    with pytest.raises(InputError) as caught:
        target.load()
    return str(caught.value)


def test_sequences_in_all_their_dress(tmp_path):
    text = "; a comment\n>one first\r\nmkv\r\n LIF \n\n>two\nACDEFGHIKLMNPQRSTVWYX*\n"
    path = tmp_path / "a.fasta.gz"
    path.write_bytes(gzip.compress(text.encode()))
    one, two = find_targets([str(path)], ALONE)
    assert (one.name, one.length, two.name, two.length) == ("one", 6, "two", 21)
    raw = one.load().chain()
    assert raw["sequence"] == "MKVLIF" and raw["msa"].shape == (1, 6)
    assert two.load().chain()["sequence"] == "ACDEFGHIKLMNPQRSTVWYX"


def test_bad_sequences_name_file_and_line(tmp_path):
    path = write(
        tmp_path / "q.fasta",
        ">good\nMKV\n>digit\nMKV\nAC1D\n>empty\n\n>long\nMKVMKV\n>gap\nMK-V\n>good\nVKM\n>\nMKV\n",
    )
    problems = {}
    for target in find_targets([str(path)], ALONE, 5):
        try:
            target.load()
        except InputError as error:
            problems[target.source.split(": ")[-1]] = str(error)
    expected = {
        "line 3, >digit": ("line 5, column 3", "'1' is no amino acid"),
        "line 6, >empty": ("line 6, >empty", "empty sequence"),
        "line 8, >long": ("line 8, >long", "6 residues, more than 5"),
        "line 10, >gap": ("line 11, column 3", "'-' is no amino acid"),
        "line 12, >good": ("line 12, >good", "line 1, >good has the same name"),
        "line 14, >": ("line 14", "no name"),
    }
    assert problems.keys() == expected.keys()
    for where, words in expected.items():
        for word in (str(path), *words):
            assert word in problems[where]


def test_files_that_are_none(tmp_path):
    with pytest.raises(InputError, match=r"line 2.*before the first header"):
        fasta_targets(write(tmp_path / "a.fasta", "\nMKV\n>a\nMKV\n"), ALONE, {})
    with pytest.raises(InputError, match=r"b\.fasta.*no sequence"):
        fasta_targets(write(tmp_path / "b.fasta", "\n"), ALONE, {})
    with pytest.raises(InputError, match=r"nowhere\.fasta"):
        find_targets([str(tmp_path / "nowhere.fasta")], ALONE)
    with pytest.raises(InputError, match="nowhere"):
        find_targets([str(tmp_path / "a.fasta")], Evidences(alignments=[str(tmp_path / "nowhere")]))


def test_alignments_are_found_by_name_or_missed_by_line(tmp_path):
    folder = tmp_path / "alignments" / "1ubq_A"
    folder.mkdir(parents=True)
    write(folder / "uniref90_hits.a3m", f">q\n{UBQ}\n>h\n{'-' * 10}{UBQ[10:]}\n")
    fasta = write(tmp_path / "q.fasta", f">1UBQ_A\n{UBQ}\n>other\nMKV\n>1abc_A\n{UBQ[1:]}\n")
    evidences = Evidences(alignments=[str(tmp_path / "alignments")])
    other, _, found = find_targets([str(fasta)], evidences)
    assert found.load().chain()["msa"].shape == (2, 76)
    assert f"{fasta}: line 3, >other: no alignment of that name" in problem(other)
    shutil.move(folder, folder.with_name("1abc_A"))
    _, wrong, _ = find_targets([str(fasta)], evidences)
    assert "does not match the chain" in problem(wrong)
    assert "uniref90_hits.a3m" in problem(wrong)


def test_searches_are_made_for_what_has_no_alignment(tmp_path):
    if shutil.which("jackhmmer") is None:
        pytest.skip("jackhmmer is not installed")
    entries = f">near\n{UBQ[:40]}A{UBQ[41:]}\n>far\n{'W' * 60}\n"
    database = write(tmp_path / "uniref90.fasta", entries)
    fasta = write(tmp_path / "q.fasta", f">query\n{UBQ}\n")
    options = SearchOptions(str(tmp_path / "found"), uniref90=str(database), cpu=1)
    (target,) = find_targets([str(fasta)], Evidences(search=options))
    raw = target.load().chain()
    assert raw["msa"].shape[0] == 2
    assert (tmp_path / "found" / "query" / "uniref90_hits.sto").exists()


def test_templates_come_from_the_hits(tmp_path):
    demo = Path(__file__).parents[2] / "examples" / "demo"
    fasta = write(tmp_path / "q.fasta", f">1ubq_A\n{UBQ}\n")
    evidences = Evidences(
        alignments=[str(demo / "alignments")], template_folder=str(demo / "mmcif")
    )
    (target,) = find_targets([str(fasta)], evidences)
    count = len(target.load().chain()["template_aatype"])
    assert count > 0
    early = Evidences(
        alignments=[str(demo / "alignments")],
        template_folder=str(demo / "mmcif"),
        max_template_date="1980-01-01",
    )
    (target,) = find_targets([str(fasta)], early)
    assert len(target.load().chain()["template_aatype"]) == 0


def test_records_are_targets_and_damaged_ones_tell(tmp_path):
    shard = write_shard(
        tmp_path / "a.tfrecord",
        [chain(20, seed=1, chain_id="1abc_A"), chain(30, seed=2, chain_id="2abc_A")],
    )
    one, two = find_targets([str(tmp_path)], ALONE, max_length=25)
    np.testing.assert_array_equal(one.load().chain()["msa"], chain(20, seed=1)["msa"])
    assert "2abc_A" in problem(two) and "more than 25" in problem(two)
    data = bytearray(shard.read_bytes())
    data[100] ^= 1
    shard.write_bytes(bytes(data))
    one, two = find_targets([str(shard)], ALONE)
    assert "checksum" in problem(one) and "1abc_A" in problem(one)
    assert len(two.load().chain()["aatype"]) == 30


@pytest.mark.parametrize(
    ("name", "folder"),
    [("1ubq_A", "1ubq_A"), ("sp|P0CG48|UBC", "sp|P0CG48|UBC"), ("a/b", "a_b"), ("../x", "_x"),
     ("...", "_")],
)  # fmt: skip
def test_folders_stay_below_the_output(name, folder):
    assert folder_name(name) == folder


def alignments_of_a_pair(root):
    """AlphaFold-Multimer's folder for a complex: A and B, with hits to pair."""
    for letter, sequence in (("A", UBQ), ("B", GLOBIN)):
        folder = root / "msas" / letter
        folder.mkdir(parents=True)
        write(folder / "uniref90_hits.a3m", f">q\n{sequence}\n>h\n{'-' * 5}{sequence[5:]}\n")
        hit = f"sp|P12345|{letter}_HUMAN"
        write(folder / "uniprot_hits.a3m", f">q\n{sequence}\n>{hit}\n{sequence[:-1]}A\n")
    chains = {"A": {"sequence": UBQ}, "B": {"sequence": GLOBIN}}
    write(root / "msas" / "chain_id_map.json", json.dumps(chains))


def test_a_file_is_a_complex_where_that_is_said(tmp_path):
    """AlphaFold-Multimer's form: a record for each chain; copies go together, letters stay."""
    alignments_of_a_pair(tmp_path / "alignments" / "pair")
    text = f">one\n{UBQ}\n>two\n{GLOBIN}\n>three\n{UBQ}\n"
    fasta = write(tmp_path / "pair.fasta", text)
    evidences = Evidences(alignments=[str(tmp_path / "alignments")])
    (target,) = find_targets([str(fasta)], evidences, complexes=True)
    assert (target.name, target.length) == ("pair", 2 * len(UBQ) + len(GLOBIN))
    raw = target.load()
    assert raw.entity_id == (1, 1, 2) and raw.features["chain_names"] == ["A", "C", "B"]
    assert [entity["sequence"] for entity in raw.entities] == [UBQ, GLOBIN]
    assert [len(entity["msa"]) for entity in raw.entities] == [2, 2]
    assert [len(entity["uniprot_msa"]) for entity in raw.entities] == [2, 2]
    species = {species_name(entity["uniprot_species"][1]) for entity in raw.entities}
    assert species == {"HUMAN"}
    # Without it they are three targets.
    assert len(find_targets([str(fasta)], evidences)) == 3


def test_colons_part_the_chains_of_a_sequence(tmp_path):
    """ColabFold's form, with its alignment over both chains: two pairs, a row of each alone."""
    gap = "-" * len(GLOBIN)
    rows = [UBQ + GLOBIN, "A" + UBQ[1:] + GLOBIN, UBQ[:-1] + "A" + gap, "-" * len(UBQ) + GLOBIN]
    body = "".join(f">r{number}\n{row}\n" for number, row in enumerate(rows))
    folder = tmp_path / "alignments"
    folder.mkdir()
    write(folder / "pair.a3m", f"#{len(UBQ)},{len(GLOBIN)}\t1,1\n{body}")
    fasta = write(tmp_path / "q.fasta", f">pair\n{UBQ}:\n{GLOBIN}\n>alone\n{UBQ}\n")
    evidences = Evidences(alignments=[str(folder)])
    alone, pair = find_targets([str(fasta)], evidences)
    assert (pair.name, pair.length) == ("pair", len(UBQ) + len(GLOBIN))
    raw = pair.load()
    assert raw.entity_id == (1, 2) and raw.features["chain_names"] == ["A", "B"]
    assert [len(entity["uniprot_msa"]) for entity in raw.entities] == [2, 2]
    assert "no alignment of that name" in problem(alone)


def test_chains_have_alignments_of_their_own(tmp_path):
    """By the names of their records, or with colons by target and letter."""
    for name, sequence in (("first", UBQ), ("both_B", GLOBIN), ("both_A", UBQ)):
        folder = tmp_path / "alignments" / name
        folder.mkdir(parents=True)
        write(folder / "hits.a3m", f">q\n{sequence}\n>h\n{'-' * 5}{sequence[5:]}\n")
    evidences = Evidences(alignments=[str(tmp_path / "alignments")])
    fasta = write(tmp_path / "q.fasta", f">both\n{UBQ}:{GLOBIN}\n")
    (target,) = find_targets([str(fasta)], evidences)
    assert [len(entity["msa"]) for entity in target.load().entities] == [2, 2]
    fasta = write(tmp_path / "some.fa", f">first\n{UBQ}\n>second\n{GLOBIN}\n>first\n{UBQ}\n")
    (target,) = find_targets([str(fasta)], evidences, complexes=True)
    assert f"{fasta}: chain second: no alignment" in problem(target)
    alone = Evidences(alignments=[str(tmp_path / "alignments")], alone=True)
    (target,) = find_targets([str(fasta)], alone, complexes=True)
    assert [len(entity["msa"]) for entity in target.load().entities] == [2, 1]


def test_bad_complexes_name_file_and_line(tmp_path):
    fasta = write(tmp_path / "q.fasta", ">a\nMKV:\n>b\nMKV::MKV\n>c\nMK:V1\n>d\nMKV*:LIF*\n")
    problems = {}
    for target in find_targets([str(fasta)], ALONE):
        try:
            problems[target.name] = str(target.load().chain_sizes)
        except InputError as error:
            problems[target.name] = str(error)
    assert "line 1, >a: empty sequence (a ':' too many)" in problems["a"]
    assert "line 3, >b: empty sequence" in problems["b"]
    assert "line 6, column 5, >c" in problems["c"]
    assert problems["d"] == "(3, 3)"
    fasta = write(tmp_path / "long.fasta", ">a\nMKVMKV\n>b\nMKV:MKV\n")
    (target,) = find_targets([str(fasta)], ALONE, 11, complexes=True)
    assert "12 residues, more than 11" in problem(target)
