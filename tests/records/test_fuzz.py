"""Damaged input of every kind: an InputError or a reason in the manifest, never anything else.

Real files are cut off, shuffled by lines, flipped by bytes, spliced, or replaced by noise.
TFFOLD_FUZZ_EXAMPLES makes the search longer than the suite's.
"""

import gzip
import json
import os
import pickle
import random
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from synthetic import data_of

from records import convert as convert_module
from records import engine, example, shards
from records import features as features_module
from records.assembly import read_assembly
from records.convert import ConvertOptions, convert_chain, convert_file
from records.errors import InputError
from records.features_pickle import read_features
from records.hhr import parse_hhr
from records.hmmsearch import parse_hmmsearch
from records.mmcif import Entry
from records.msa import parse, stockholm_to_a3m
from records.pairing import part_of, read_pairs
from records.pdb import read_model
from records.search import truncate_stockholm
from records.sources import read_database_index
from records.tasks import make_tasks

DEMO = Path(__file__).parents[2] / "examples" / "demo"
EXAMPLES = int(os.environ.get("TFFOLD_FUZZ_EXAMPLES", "100"))


def bundled(name):
    return gzip.decompress((DEMO / name).read_bytes())


MMCIF = bundled("mmcif/1ubq.cif.gz")
STOCKHOLM = bundled("alignments/1lcd_A/uniref90_hits.sto.gz")
HHR = bundled("alignments/1gbt_A/pdb70_hits.hhr.gz")
A3M = stockholm_to_a3m(STOCKHOLM)
HMMSEARCH = b"# STOCKHOLM 1.0\n" + b"".join(
    b"%dabc_A/3-7  -CxDEF\n#=GR %dabc_A/3-7 PP .*59**\n" % (n, n) for n in range(1, 9)
)
HMMSEARCH += b"#=GC RF xx.xx.\n//\n"
DIMER = bundled("mmcif/1a7g.cif.gz")
LCD = Entry(DEMO / "mmcif" / "1lcd.cif.gz").chain("A").sequence
COLABFOLD = b"#3,2\t1,1\n>101\t102\nACDEF\n" + b"".join(
    b">p%d\tq%d\nACaDEF\n>u\nA-D--\n>v\n---EF\n" % (n, n) for n in range(9)
)
PICKLE = pickle.dumps(
    {
        "msa": np.zeros([3, 5], np.int32),
        "deletion_matrix_int": np.zeros([3, 5], np.int32),
        "sequence": np.array([b"AAAAA"], dtype=object),
    }
)
INDEX = json.dumps({f"{n}abc_A": {"db": "x.db", "files": [["a.a3m", n, 1]]} for n in range(5)})
PDB = "\n".join(
    f"ATOM  {3 * n + a:5d}  {atom:<3s} GLY A{n + 1:4d}    "
    f"{a:8.3f}{3.8 * n:8.3f}{0.0:8.3f}{1.0:6.2f}{90.0:6.2f}           {atom[0]}"
    for n in range(5)
    for a, atom in enumerate(("N", "CA", "C"))
).encode()


def damage(data, kind, seed):
    """One damaged copy."""
    rng = random.Random(seed)
    if kind == "cut":
        return data[: rng.randrange(len(data))]
    if kind == "lines":
        lines = data.splitlines(keepends=True)
        rng.shuffle(lines)
        return b"".join(lines)
    if kind == "drop":
        lines = data.splitlines(keepends=True)
        return b"".join(line for line in lines if rng.random() > 0.05)
    if kind == "flip":
        flipped = bytearray(data)
        for _ in range(rng.choice((1, 3, 30))):
            flipped[rng.randrange(len(flipped))] ^= 1 << rng.randrange(8)
        return bytes(flipped)
    if kind == "splice":
        a, b = sorted(rng.randrange(len(data)) for _ in range(2))
        return data[:b] + data[a:]
    if kind == "numbers":
        words = data.split(b" ")
        for _ in range(5):
            place = rng.randrange(len(words))
            if any(48 <= byte < 58 for byte in words[place]):
                words[place] = rng.choice((b"-1", b"0", b"1e400", b"nan", b"99999999999", b"?"))
        return b" ".join(words)
    return rng.randbytes(rng.randrange(2000))


damages = st.tuples(
    st.sampled_from(["cut", "lines", "drop", "flip", "splice", "numbers", "noise"]),
    st.integers(0, 10**6),
)
fuzzed = settings(
    max_examples=EXAMPLES,
    deadline=20_000,  # ms, on a busy machine: no damaged file may take long
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)


def tolerate(function, *arguments):
    """Call it: InputError with a one-line message is the only thing that may be raised."""
    try:
        return function(*arguments)
    except InputError as error:
        assert str(error) and "\n" not in str(error)
        return None


@given(damages)
@fuzzed
def test_mmcif(damaged):
    path = Path("9xyz.cif")
    entry = tolerate(Entry, path, damage(MMCIF, *damaged))
    if entry is not None:
        for name in entry.chain_names():
            chain = tolerate(entry.chain, name)
            if chain is not None:
                assert np.isfinite(chain.positions).all()
                assert chain.positions.shape == (chain.num_res, 37, 3)
                assert not chain.positions[chain.mask == 0].any()


@given(damages)
@fuzzed
def test_assemblies(damaged):
    """Only the list of assemblies and their operators is damaged."""
    start = DIMER.index(b"_pdbx_struct_assembly_gen.")
    end = DIMER.index(b"\n#", DIMER.index(b"_pdbx_struct_oper_list.id"))
    text = DIMER[:start] + damage(DIMER[start:end], *damaged) + DIMER[end:]
    entry = tolerate(Entry, Path("1a7g.cif"), text)
    if entry is not None:
        placed = tolerate(read_assembly, entry, "1", 4) or ()
        assert len(placed) <= 4
        for one in placed:
            assert np.isfinite(one.chain.positions).all()
            assert not one.chain.positions[one.chain.mask == 0].any()


@given(damages, st.booleans())
@fuzzed
def test_rows_to_pair(damaged, stockholm):
    tolerate(read_pairs, [("x", damage(STOCKHOLM if stockholm else A3M, *damaged))], LCD)
    found = tolerate(part_of, damage(COLABFOLD, *damaged), "EF", "x")
    if found is not None:
        alignment, pairs = found
        assert alignment.msa.shape[1] == pairs.msa.shape[1] == 2
        assert len(pairs.species) == len(pairs.msa) == len(pairs.deletions)


@given(damages, st.booleans())
@fuzzed
def test_alignments(damaged, stockholm):
    data = damage(STOCKHOLM if stockholm else A3M, *damaged)
    alignment = tolerate(parse, data, "x")
    if alignment is not None:
        assert alignment.msa.shape == alignment.deletions.shape
        assert alignment.msa.max() <= 21 and alignment.depth > 0
    tolerate(truncate_stockholm, data, 5)
    tolerate(stockholm_to_a3m, data)


@given(st.binary(max_size=300))
@fuzzed
def test_alignments_of_noise(data):
    tolerate(parse, b">q\nACDE\n>" + data, "x")
    tolerate(parse, b"# STOCKHOLM 1.0\nq ACDE\n" + data + b"\n//\n", "x")


@given(damages)
@fuzzed
def test_hhr(damaged):
    for hit in tolerate(parse_hhr, damage(HHR, *damaged)) or ():
        assert len(hit.query_index) == len(hit.hit_index) > 0
        assert (np.diff(hit.query_index) > 0).all() and (np.diff(hit.hit_index) > 0).all()


@given(damages)
@fuzzed
def test_hmmsearch(damaged):
    for hit in tolerate(parse_hmmsearch, damage(HMMSEARCH, *damaged), "ACDE") or ():
        assert len(hit.query_index) == len(hit.hit_index) > 0
        assert (np.diff(hit.query_index) > 0).all() and (np.diff(hit.hit_index) > 0).all()
        assert hit.hit_index[-1] - hit.hit_start < len(hit.hit_residues)


@given(damages)
@fuzzed
def test_pdb(damaged):
    tolerate(read_model, Path("x.pdb"), damage(PDB, *damaged).decode("latin-1"), "x")


@given(damages)
@fuzzed
def test_features_pickle(damaged):
    tolerate(read_features, damage(PICKLE, *damaged), "features.pkl")


@given(damages)
@fuzzed
def test_index(tmp_path_factory, damaged):
    folder = tmp_path_factory.getbasetemp() / "index"
    folder.mkdir(exist_ok=True)
    (folder / "x.db").write_bytes(b"0123456789")
    (folder / "x.index").write_bytes(damage(INDEX.encode(), *damaged))
    tolerate(read_database_index, folder / "x.index")


@pytest.fixture(scope="module")
def target(tmp_path_factory):
    """A chain with alignment and hits, plain files that a test may damage."""
    root = tmp_path_factory.mktemp("target")
    (root / "mmcif").mkdir()
    (root / "alignments" / "1gbt_A").mkdir(parents=True)
    files = {
        root / "mmcif" / "1gbt.cif": bundled("mmcif/1gbt.cif.gz"),
        root / "alignments" / "1gbt_A" / "uniref90_hits.sto": bundled(
            "alignments/1gbt_A/uniref90_hits.sto.gz"
        ),
        root / "alignments" / "1gbt_A" / "pdb70_hits.hhr": HHR,
    }
    return root, files


@given(damages, st.integers(0, 2))
@fuzzed
def test_convert_chain_always_has_a_reason(target, damaged, which):
    root, files = target
    for number, (path, data) in enumerate(files.items()):
        path.write_bytes(damage(data, *damaged) if number == which else data)
    convert_module._open_entry.cache_clear()
    features_module.read_evidence.cache_clear()
    (task,) = make_tasks([str(root / "mmcif")], [str(root / "alignments")])
    outcomes, more = convert_file(task, ConvertOptions(template_folder=str(DEMO / "mmcif")))
    assert outcomes and more is None
    for outcome in outcomes:
        assert not outcome.category.startswith("unexpected"), outcome.reason
        if outcome.written:
            features = example.decode(outcome.record)
            assert np.isfinite(features["all_atom_positions"]).all()
        else:
            assert ".cif" in outcome.reason or "1gbt_A" in outcome.reason


def test_a_folder_of_damaged_files(tmp_path):
    """End to end: every file is in the manifest, every shard that has a name is whole."""
    mmcif = tmp_path / "mmcif"
    mmcif.mkdir()
    kinds = ["cut", "lines", "drop", "flip", "splice", "numbers", "noise"]
    for number in range(70):
        data = damage(MMCIF, kinds[number % 7], number)
        (mmcif / f"{number % 9 + 1}a{number:02d}.cif").write_bytes(data)
    tasks = make_tasks([str(mmcif)], [])
    conversion = engine.Conversion(tasks, ConvertOptions(single_sequence=True), shard_bytes=30_000)
    summary = engine.run(conversion, tmp_path / "out", workers=2, progress=False)
    lines = [json.loads(line) for line in (tmp_path / "out" / "manifest.jsonl").open()]
    assert {line["chain"][:4] for line in lines} == {task.name for task in tasks}
    assert all(line["status"] == "written" or line["reason"] for line in lines)
    assert not any("unexpected" in line.get("reason", "") for line in lines)
    written = sum(len(data_of(p)) for p in shards.find_shards([tmp_path / "out"]))
    assert written == summary.written and summary.rejected > 20


def test_convert_chain_survives_anything(monkeypatch):
    """Should a parser fail in a way nobody thought of, the chain is rejected with it."""
    (task,) = (t for t in make_tasks([str(DEMO / "mmcif")], []) if t.name == "1ubq")
    for error in (MemoryError(), RecursionError("deep"), UnicodeDecodeError("x", b"", 0, 1, "y")):

        def fail(*_, error=error):
            raise error

        monkeypatch.setattr(convert_module, "read_chain", fail)
        outcome = convert_chain(task, "A", ConvertOptions())
        assert not outcome.written and type(error).__name__ in outcome.reason
