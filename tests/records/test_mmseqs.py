"""MMseqs2 searches: one for all chains, with the real program and with one that fails."""

import gzip
import json
import shutil
from pathlib import Path

import pytest

import records.mmseqs
from records.cli import main
from records.errors import InputError
from records.features import read_evidence
from records.mmcif import Entry
from records.mmseqs import search_batch
from records.search import SearchOptions, check_search, search_sequence
from records.sources import find_alignments

DEMO = Path(__file__).parents[2] / "examples" / "demo"
MINI = Path(__file__).parent / "data" / "mini.fasta.gz"

mmseqs = pytest.mark.skipif(not shutil.which("mmseqs"), reason="no mmseqs: apt-get install mmseqs2")


@pytest.fixture
def database(tmp_path):
    path = tmp_path / "mini.fasta"
    path.write_bytes(gzip.decompress(MINI.read_bytes()))
    return path


def sequence(name, chain):
    return Entry(DEMO / "mmcif" / f"{name}.cif.gz").chain(chain).sequence


@pytest.fixture
def calls(monkeypatch):
    """The subcommands that are run; ``fail`` in it makes that one fail."""
    log = []
    run = records.mmseqs.run_program

    def record(command, timeout):
        log.append(command[1])
        if f"fail {command[1]}" in log:
            raise InputError("mmseqs failed")
        run(command, timeout)

    monkeypatch.setattr(records.mmseqs, "run_program", record)
    return log


@mmseqs
def test_one_search_for_all_chains(tmp_path, database, calls):
    """It finds again what the bundled alignments hold; a chain without relatives has itself."""
    wanted = {
        sequence("4zhl", "U"): "4zhl_U",
        "ACDEFGHIKLM": "odd |name",
        sequence("1ubq", "A"): "1ubq_A",
    }
    options = SearchOptions(str(tmp_path / "found"), mmseqs=str(database), cpu=2)
    Path(options.folder).mkdir()
    search_batch(wanted, options)
    assert calls == ["createdb", "createdb", "search", "result2msa", "unpackdb"]
    refs = find_alignments([options.folder])
    assert sorted(refs) == sorted(wanted.values())
    depth = {}
    for residues, chain in wanted.items():
        depth[chain] = read_evidence(refs[chain], residues).alignment.depth  # the query comes first
    assert depth["odd |name"] == 1
    assert depth["1ubq_A"] > 5 and 100 < depth["4zhl_U"] <= 600
    search_batch(wanted, options)
    search_sequence(sequence("1ubq", "A"), "1ubq_A", options)
    assert len(calls) == 5
    # One that is new is searched, and only that.
    search_batch({**wanted, "MKTAYIAKQR": "new"}, options)
    assert (tmp_path / "found" / "new" / "mmseqs_hits.a3m").read_text().count(">") == 1
    with pytest.raises(InputError, match="holds results for another sequence"):
        search_sequence("ACDEF", "1ubq_A", options)


@mmseqs
def test_a_domain_of_a_longer_protein_is_found(tmp_path):
    """Half of the chain must be covered, not half of what is found."""
    residues = sequence("1ubq", "A")
    relative = "".join("A" if i % 6 == 0 else one for i, one in enumerate(residues))
    longer = sequence("4zhl", "U") + relative + sequence("4zhl", "U")
    (tmp_path / "db.fasta").write_text(f">longer\n{longer}\n>half\n{relative[:30]}\n")
    options = SearchOptions(str(tmp_path), mmseqs=str(tmp_path / "db.fasta"), cpu=1)
    search_batch({residues: "1ubq_A"}, options)
    found = (tmp_path / "1ubq_A" / "mmseqs_hits.a3m").read_text()
    assert ">longer" in found and ">half" not in found


@mmseqs
def test_thousands_of_chains_have_a_limit_that_the_system_can_wait_for(tmp_path, monkeypatch):
    """So many times two hours are more than its clock holds."""
    limits = []

    def run(command, timeout):
        limits.append(timeout)
        raise InputError("enough")

    monkeypatch.setattr(records.mmseqs, "run_program", run)
    (tmp_path / "db.fasta").write_text(">a\nACDEF\n")
    options = SearchOptions(str(tmp_path), mmseqs=str(tmp_path / "db.fasta"))
    with pytest.raises(InputError, match="enough"):
        search_batch({"ACDEF" + "G" * i: f"c{i}" for i in range(400)}, options)
    assert 86400 < limits[0] < 2**31 / 1000


@mmseqs
def test_goes_on_after_the_last_step(tmp_path, database, calls):
    wanted = {sequence("1ubq", "A"): "1ubq_A"}
    options = SearchOptions(str(tmp_path), mmseqs=str(database), cpu=1)
    calls.append("fail result2msa")
    with pytest.raises(InputError, match="mmseqs failed"):
        search_batch(wanted, options)
    assert not (tmp_path / "1ubq_A" / "mmseqs_hits.a3m").exists()
    calls.clear()
    search_batch(wanted, options)
    assert calls == ["result2msa", "unpackdb"]
    assert (tmp_path / "1ubq_A" / "mmseqs_hits.a3m").exists()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["1ubq_A", "mini.fasta"]


@mmseqs
def test_a_database_of_mmseqs2_is_not_made_again(tmp_path, database, calls):
    options = SearchOptions(str(tmp_path), mmseqs=str(tmp_path / "db"), cpu=1)
    records.mmseqs.run_program(["mmseqs", "createdb", str(database), options.mmseqs], 60)
    calls.clear()
    search_batch({sequence("1ubq", "A"): "1ubq_A"}, options)
    assert calls == ["createdb", "search", "result2msa", "unpackdb"]
    assert (tmp_path / "1ubq_A" / "mmseqs_hits.a3m").read_text().count(">") > 5


@mmseqs
def test_full_disk(tmp_path, database, calls, monkeypatch):
    calls.append("fail search")
    monkeypatch.setattr(records.mmseqs, "_FULL_DISK", 1 << 60)
    options = SearchOptions(str(tmp_path), mmseqs=str(database))
    with pytest.raises(InputError, match="the disk is full .make room: the same command goes on"):
        search_batch({"ACDEFGHIKL": "a"}, options)


def test_missing_program_and_database(tmp_path, monkeypatch):
    monkeypatch.setattr(shutil, "which", lambda program: None)
    with pytest.raises(InputError, match="mmseqs is not on PATH .apt-get install mmseqs2"):
        check_search(SearchOptions(str(tmp_path), mmseqs="x"))
    monkeypatch.setattr(shutil, "which", lambda program: program)
    with pytest.raises(InputError, match="nowhere: no such FASTA file or MMseqs2 database"):
        check_search(SearchOptions(str(tmp_path), mmseqs="nowhere"))


@mmseqs
def test_convert_with_mmseqs(tmp_path, database, calls):
    """Two chains: one search, then cached."""
    (tmp_path / "chains").write_text("4zhl_U\n1ubq_A\n")
    arguments = [
        "--mmcif", str(DEMO / "mmcif"), "--chains", str(tmp_path / "chains"), "--no-templates",
        "--search", str(tmp_path / "found"), "--mmseqs", str(database), "--quiet", "--output",
    ]  # fmt: skip
    assert main([*arguments, str(tmp_path / "out")]) == 0
    lines = map(json.loads, (tmp_path / "out" / "manifest.jsonl").read_text().splitlines())
    rows = {line["chain"]: line["num_msa"] for line in lines}
    assert rows["4zhl_U"] > 100 and rows["1ubq_A"] > 5
    assert calls.count("search") == 1
    assert main([*arguments, str(tmp_path / "again")]) == 0
    assert calls.count("search") == 1


@mmseqs
def test_broken_database_is_one_error(tmp_path, capsys):
    (tmp_path / "chains").write_text("1ubq_A\n")
    (tmp_path / "broken.fasta").write_text("this is no fasta\n")
    arguments = [
        "--mmcif", str(DEMO / "mmcif"), "--chains", str(tmp_path / "chains"), "--quiet",
        "--search", str(tmp_path / "found"), "--mmseqs", str(tmp_path / "broken.fasta"),
        "--output", str(tmp_path / "out"),
    ]  # fmt: skip
    assert main(arguments) == 2
    assert capsys.readouterr().err.count("error: ") == 1
