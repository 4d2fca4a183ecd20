"""Search wrappers: with stand-in programs for what goes wrong, with the real ones for the rest."""

import contextlib
import gzip
import json
import os
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest

from records import shards
from records.cli import main
from records.errors import InputError
from records.features import read_evidence
from records.mmcif import Entry
from records.msa import parse_a3m, parse_stockholm, stockholm_to_a3m
from records.search import (
    SearchOptions,
    check_search,
    run_program,
    search_sequence,
    truncate_stockholm,
)
from records.sources import find_alignments

pytestmark = pytest.mark.slow

DEMO = Path(__file__).parents[2] / "examples" / "demo"
MINI = Path(__file__).parent / "data" / "mini.fasta.gz"
HHSUITE = Path("/usr/libexec/hhsuite")

hmmer = pytest.mark.skipif(
    not shutil.which("jackhmmer"), reason="no jackhmmer: apt-get install hmmer"
)
hhsuite = pytest.mark.skipif(
    not shutil.which("hhsearch") or not (HHSUITE / "cstranslate-plain").exists(),
    reason="no hhsearch: apt-get install hhsuite hhsuite-data",
)


def demo_stockholm(chain):
    path = DEMO / "alignments" / chain / "uniref90_hits.sto.gz"
    return gzip.decompress(path.read_bytes())


@pytest.mark.parametrize("chain", ["1gbt_A", "1a8o_A"])
def test_stockholm_to_a3m_keeps_the_alignment(chain):
    """Read back, the A3M has the Stockholm's columns and deletions, repeated rows aside."""
    data = demo_stockholm(chain)
    sto, a3m = parse_stockholm(data), parse_a3m(stockholm_to_a3m(data))
    _, first = np.unique(sto.msa, axis=0, return_index=True)
    first.sort()
    np.testing.assert_array_equal(a3m.msa, sto.msa[first])
    np.testing.assert_array_equal(a3m.deletions, sto.deletions[first])


def test_truncate_stockholm():
    data = demo_stockholm("1gbt_A")
    short = parse_stockholm(truncate_stockholm(data, 7))
    np.testing.assert_array_equal(short.msa, parse_stockholm(data).msa[:7])
    assert parse_stockholm(truncate_stockholm(data, 10**6)).depth == 330


@pytest.fixture
def programs(tmp_path, monkeypatch):
    """Stand-ins on PATH: name -> shell text."""
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", f"{folder}:/usr/bin:/bin")

    def add(name, text):
        (folder / name).write_text(f"#!/bin/bash\n{text}\n")
        (folder / name).chmod(0o755)

    return add


def test_missing_programs_and_databases(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(InputError, match="no database to search"):
        check_search(SearchOptions(str(tmp_path)))
    for database, line in (
        ("uniref90", "jackhmmer is not on PATH .apt-get install hmmer"),
        ("bfd", "hhblits is not on PATH .apt-get install hhsuite hhsuite-data"),
        ("pdb70", "hhsearch is not on PATH .apt-get install hhsuite"),
    ):
        with pytest.raises(InputError, match=line):
            check_search(SearchOptions(str(tmp_path), **{database: "x"}))


def test_missing_database_files(tmp_path, programs):
    programs("jackhmmer", "")
    programs("hhsearch", "")
    with pytest.raises(InputError, match="nowhere: no such FASTA.*download_mgnify.sh"):
        check_search(SearchOptions(str(tmp_path), mgnify="nowhere"))
    with pytest.raises(InputError, match="db_a3m.ffdata: no such HH-suite database file"):
        check_search(SearchOptions(str(tmp_path), pdb70="db"))


def test_failures_and_time_limits(tmp_path, programs):
    programs("jackhmmer", "echo some words >&2; echo out of luck >&2; exit 3")
    (tmp_path / "db").write_text("")
    options = SearchOptions(str(tmp_path / "out"), uniref90=str(tmp_path / "db"), timeout=1)
    with pytest.raises(InputError, match="out of luck: jackhmmer failed with status 3"):
        search_sequence("ACDE", "1abc_A", options)
    # A child of its own, as Debian's wrappers have; whoever waits for it waits for an hour.
    programs("jackhmmer", "sleep 3600 & sleep 3600")
    with pytest.raises(InputError, match="jackhmmer took longer than 1 s"):
        search_sequence("ACDE", "1abc_A", options)
    assert sorted(os.listdir(tmp_path / "out" / "1abc_A")) == ["query.fasta"]
    with pytest.raises(InputError, match="holds results for another sequence"):
        search_sequence("ACDF", "1abc_A", options)


def test_alphafold_flags_and_cache(tmp_path, programs):
    """What is asked of each program, and that nothing is asked twice."""
    log = tmp_path / "log"
    for name in ("jackhmmer", "hhblits", "hhsearch"):
        programs(
            name,
            f'echo {name} "$@" >> {log}\nwhile [ $# -gt 0 ]; do\n'
            'case $1 in -A|-oa3m) [ "$2" != /dev/null ] && out=$2;; '
            '-o) [ "$2" != /dev/null ] && out=$2;; esac; shift; done\n'
            'printf "# STOCKHOLM 1.0\\nq ACDE\\n//\\n" > $out',
        )
    for name in ("uniref", "mgnify"):
        (tmp_path / name).write_text("")
    options = SearchOptions(
        str(tmp_path / "out"),
        str(tmp_path / "uniref"),
        str(tmp_path / "mgnify"),
        "bfd",
        "uc",
        "pdb",
    )
    folder = search_sequence("ACDE", "1abc_A", options)
    assert sorted(os.listdir(folder)) == [
        "bfd_uniref_hits.a3m", "mgnify_hits.sto", "pdb_hits.hhr", "query.fasta",
        "uniref90_hits.sto",
    ]  # fmt: skip
    calls = log.read_text().splitlines()
    assert len(calls) == 4
    assert (
        "--noali -N 1 -E 0.0001 --incE 0.0001 --F1 0.0005 --F2 0.00005 --F3 0.0000005" in calls[0]
    )
    assert calls[2].endswith(
        "-n 3 -e 0.001 -maxseq 1000000 -realign_max 100000 -maxfilt 100000 "
        "-min_prefilter_hits 1000 -d bfd -d uc"
    )
    assert "-maxseq 1000000" in calls[3] and calls[3].endswith("-d pdb")
    (folder / "mgnify_hits.sto").unlink()
    search_sequence("ACDE", "1abc_A", options)
    assert len(log.read_text().splitlines()) == 5


def test_interrupted_program_leaves_no_process(programs):
    programs("spin", "sleep 77")
    with pytest.raises(InputError, match="took longer"):
        run_program(["spin"], 1)
    running = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):  # gone meanwhile
            running.append(path.read_bytes())
    assert running and b"sleep\x0077\x00" not in running


@pytest.fixture(scope="module")
def databases(tmp_path_factory):
    """A sequence database and an HH-suite database of three bundled chains."""
    folder = tmp_path_factory.mktemp("databases")
    (folder / "mini.fasta").write_bytes(gzip.decompress(MINI.read_bytes()))
    if not (HHSUITE / "cstranslate-plain").exists():
        return folder
    for kind in ("a3m", "hhm"):
        (folder / kind).mkdir()
    for chain in ("1gbt_A", "4zhl_U", "1ubq_A"):
        a3m = folder / "a3m" / chain
        a3m.write_bytes(stockholm_to_a3m(demo_stockholm(chain)))
        subprocess.run(
            ["hhmake", "-i", a3m, "-o", folder / "hhm" / chain, "-name", chain, "-v", "0"],
            check=True,
        )
        lines = a3m.read_text().splitlines()
        a3m.write_text("\n".join([f">{chain}", *lines[1:], ""]))
    for kind in ("a3m", "hhm"):
        prefix = folder / f"db_{kind}"
        command = ["ffindex_build", "-s", f"{prefix}.ffdata", f"{prefix}.ffindex", folder / kind]
        subprocess.run(command, check=True, capture_output=True)
    data = "/usr/lib/hhsuite/data"
    subprocess.run(
        [HHSUITE / "cstranslate-plain", "-A", f"{data}/cs219.lib", "-D", f"{data}/context_data.lib",
         "-x", "0.3", "-c", "4", "-f", "-i", folder / "db_a3m", "-o", folder / "db_cs219",
         "-I", "a3m", "-b"],
        check=True, capture_output=True,
    )  # fmt: skip
    return folder


@hmmer
def test_real_jackhmmer(tmp_path, databases):
    """It finds again what the bundled alignment holds."""
    chain = Entry(DEMO / "mmcif" / "1ubq.cif.gz").chain("A")
    options = SearchOptions(str(tmp_path), uniref90=str(databases / "mini.fasta"), cpu=1)
    search_sequence(chain.sequence, "1ubq_A", options)
    found = read_evidence(find_alignments([tmp_path])["1ubq_A"], chain.sequence)
    known = read_evidence(find_alignments([DEMO / "alignments"])["1ubq_A"], chain.sequence)
    rows = {row.tobytes() for row in found.alignment.msa}
    assert len(rows & {row.tobytes() for row in known.alignment.msa}) > 0.8 * known.alignment.depth


@hmmer
@hhsuite
def test_convert_with_real_searches(tmp_path, databases, capsys):
    """uPA without alignment: searched, aligned, trypsin found as its template; then cached."""
    (tmp_path / "chains").write_text("4zhl_U\n4zhl_P\n1lcd_B\n")
    prefix = str(databases / "db")
    arguments = [
        "--mmcif", str(DEMO / "mmcif"), "--chains", str(tmp_path / "chains"),
        "--search", str(tmp_path / "found"), "--uniref90", str(databases / "mini.fasta"),
        "--bfd", prefix, "--pdb70", prefix, "--search-cpu", "2", "--workers", "2", "--quiet",
        "--output",
    ]  # fmt: skip
    assert main([*arguments, str(tmp_path / "out")]) == 0
    lines = {
        line["chain"]: line
        for line in map(json.loads, (tmp_path / "out" / "manifest.jsonl").read_text().splitlines())
    }
    assert lines["4zhl_U"]["num_msa"] > 200
    assert lines["4zhl_U"]["num_templates"] == 1
    assert lines["1lcd_B"]["status"] == "rejected"
    assert not (tmp_path / "found" / "1lcd_B").exists()
    times = {p: p.stat().st_mtime_ns for p in (tmp_path / "found").rglob("*_hits.*")}
    assert len(times) >= 3
    assert main([*arguments, str(tmp_path / "again")]) == 0
    assert times == {p: p.stat().st_mtime_ns for p in (tmp_path / "found").rglob("*_hits.*")}
    first, second = (
        (tmp_path / folder / "train" / "chains-00000.tfrecord").read_bytes()
        for folder in ("out", "again")
    )
    assert first == second


@hmmer
def test_the_chains_of_a_complex_are_searched_with_their_species(tmp_path, databases):
    """Both chains of uPA with its peptide, for which nothing is found; then cached."""
    (tmp_path / "chains").write_text("4zhl\n")
    mini = str(databases / "mini.fasta")
    arguments = [
        "--mmcif", str(DEMO / "mmcif"), "--chains", str(tmp_path / "chains"), "--complexes",
        "--search", str(tmp_path / "found"), "--uniref90", mini, "--uniprot", mini, "--quiet",
        "--workers", "1", "--output",
    ]  # fmt: skip
    assert main([*arguments, str(tmp_path / "out")]) == 0
    assert sorted(path.name for path in (tmp_path / "found").iterdir()) == ["4zhl_P", "4zhl_U"]
    (entry,) = shards.read_index(tmp_path / "out" / "train" / "chains-00000.tfrecord")
    rows, lone = entry["entity_num_uniprot"]
    assert rows > 200 and lone == 1
    times = {p: p.stat().st_mtime_ns for p in (tmp_path / "found").rglob("*_hits.*")}
    assert main([*arguments, str(tmp_path / "again")]) == 0
    assert times == {p: p.stat().st_mtime_ns for p in (tmp_path / "found").rglob("*_hits.*")}


@hmmer
def test_failed_search_is_the_reason(tmp_path, databases):
    (tmp_path / "chains").write_text("4zey_A\n")
    (tmp_path / "broken.fasta").write_text("this is no fasta\n")
    arguments = [
        "--mmcif", str(DEMO / "mmcif"), "--chains", str(tmp_path / "chains"), "--quiet",
        "--search", str(tmp_path / "found"), "--uniref90", str(tmp_path / "broken.fasta"),
        "--output", str(tmp_path / "out"),
    ]  # fmt: skip
    assert main(arguments) == 1
    (line,) = (tmp_path / "out" / "manifest.jsonl").read_text().splitlines()
    assert "jackhmmer failed with status" in line and "search failed" in line
