"""The command end to end on the bundled chains: content, rejects, splits."""

import gzip
import re
import shutil
import uuid
from dataclasses import replace

import numpy as np
import pytest
from conversions import (
    DEMO,
    INPUT,
    WRITTEN,
    content,
    conversion_of,
    convert,
    manifest,
    records_of,
)

from records import convert as convert_module
from records import paths
from records.arguments import build_parser
from records.cli import main, make_conversion
from records.convert import ConvertOptions, FileTask, convert_chain
from records.mmcif import Entry
from records.tasks import make_tasks


def test_bundled_chains(converted, capsys):
    lines = manifest(converted)
    assert [c for c, line in lines.items() if line["status"] == "written"] == WRITTEN
    reasons = {c: line["reason"] for c, line in lines.items() if line["status"] == "rejected"}
    assert list(reasons) == ["1lcd_B", "1lcd_C", "4zey_A", "4zhl_P"]
    assert "nucleic acid" in reasons["1lcd_B"] and "no alignment" in reasons["4zey_A"]
    assert "4zey.cif.gz" in reasons["4zey_A"]
    found = records_of(converted)
    assert list(found) == WRITTEN
    for chain_id, features in found.items():
        chain = Entry(DEMO / "mmcif" / f"{chain_id[:4]}.cif.gz").chain(chain_id[5:])
        assert features["sequence"] == chain.sequence
        np.testing.assert_array_equal(features["all_atom_positions"], chain.positions)
        np.testing.assert_array_equal(features["all_atom_mask"], chain.mask)
        query = example_query(chain.sequence)
        assert features["msa"][0].tolist() == query
        assert not features["deletion_matrix"][0].any()
        assert lines[chain_id]["num_msa"] == len(features["msa"])
        assert len(np.unique(features["msa"], axis=0)) == len(features["msa"])
    assert found["4zhl_U"]["template_domain_names"] == ["1gbt_A"]
    assert found["2ofg_X"]["resolution"] == 0.0
    # A second run has nothing to do, and says the same.
    before = content(converted)
    capsys.readouterr()
    convert(converted)
    assert capsys.readouterr().out.startswith(
        "written 9, rejected 4: no alignment for the chain (2), nucleic acid"
    )
    assert content(converted) == before


def example_query(sequence):
    from records.chemistry import HHBLITS_AA_TO_ID

    return [HHBLITS_AA_TO_ID[letter] for letter in sequence]


def test_splits_and_filters(tmp_path):
    (tmp_path / "list").write_text("1ubq_A\n1A8O_A\n4zhl_U\n9zzz_A\n")
    output = convert(
        tmp_path / "out", "--chains", str(tmp_path / "list"), "--max-release-date", "2000-01-01",
        "--validation-chains", str(tmp_path / "list"),
    )  # fmt: skip
    lines = manifest(output)
    assert list(lines) == ["1a8o_A", "1ubq_A", "4zhl_U", "9zzz_A"]
    assert "released after the cut-off date" in lines["4zhl_U"]["reason"]
    assert "9zzz.cif (not given)" in lines["9zzz_A"]["reason"]
    assert lines["1ubq_A"]["shard"].startswith("validation/")
    output = convert(
        tmp_path / "long", "--min-length", "200", "--max-length", "250", "--min-msa-depth", "320",
        "--no-templates",
    )  # fmt: skip
    assert list(records_of(output)) == ["1gbt_A"]
    assert not len(records_of(output)["1gbt_A"]["template_aatype"])
    dates = ("--max-release-date", "1998-10-14", "--validation-from", "1998-10-14")
    output = convert(tmp_path / "day", *dates)  # the day itself counts, for both
    assert list(records_of(output, "validation")) == ["1a8o_A"]
    assert "1a7g_E" not in records_of(output)
    output = convert(tmp_path / "date", "--validation-from", "2005-01-01")
    assert list(records_of(output, "validation")) == ["2ofg_X", "4cup_A", "4zhl_U"]
    assert len(records_of(output)) == 6


def test_bad_chains_stop_nobody(tmp_path):
    """Cut-off file, wrong alignment, empty alignment, unknown residue: one reason each."""
    shutil.copytree(DEMO, tmp_path / "in")
    mmcif, alignments = tmp_path / "in" / "mmcif", tmp_path / "in" / "alignments"
    text = gzip.decompress((mmcif / "1pzp.cif.gz").read_bytes())
    (mmcif / "1pzp.cif.gz").write_bytes(gzip.compress(text[: len(text) // 2]))
    shutil.rmtree(alignments / "1gbt_A")
    shutil.copytree(alignments / "4zhl_U", alignments / "1gbt_A")
    for path in (alignments / "4cup_A").iterdir():
        path.write_bytes(b"")
    text = gzip.decompress((mmcif / "1ubq.cif.gz").read_bytes()).replace(b"GLY", b"QQQ")
    (mmcif / "1ubq.cif.gz").write_bytes(gzip.compress(text))
    arguments = ["--mmcif", str(mmcif), "--alignments", str(alignments), "--output"]
    assert main([*arguments, str(tmp_path / "out"), "--workers", "2", "--quiet"]) == 0
    lines = manifest(tmp_path / "out")
    for chain, reason in (
        ("1pzp_A", "1pzp.cif.gz: .*not readable as mmCIF"),
        ("1gbt_A", "alignment query does not match the chain"),
        ("4cup_A", "uniref90_hits.sto.gz: alignment holds no sequence"),
        ("1ubq_A", "chain A, QQQ 10, QQQ 35.*unknown residues"),
    ):
        assert lines[chain]["status"] == "rejected"
        assert re.search(reason, lines[chain]["reason"]), lines[chain]
    assert sum(line["status"] == "written" for line in lines.values()) == 5
    assert main([*arguments, str(tmp_path / "x"), "--keep-unknown-residues", "--quiet"]) == 0
    assert records_of(tmp_path / "x")["1ubq_A"]["sequence"].count("X") == 6


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--mmcif", "nowhere", "--output", "out"], "error: nowhere: no such file or folder"),
        ([*INPUT, "--chains", "nowhere", "--output", "out"], "error: nowhere: no such file"),
        ([*INPUT, "--template-mmcif", "nowhere", "--output", "out"], "error: nowhere: no such"),
        (["--mmcif", "empty", "--output", "out"], "error: empty: no structure files"),
        ([*INPUT, "--output", "file"], "error: file"),
    ],
)
def test_bad_arguments_give_one_line(tmp_path, monkeypatch, capsys, arguments, message):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty").mkdir()
    (tmp_path / "file").write_text("")
    assert main([*arguments, "--quiet"]) == 2
    error = capsys.readouterr().err
    assert error.startswith(message) and error.count("\n") == 1


@pytest.mark.parametrize(
    "flag",
    [
        ["--shard", "2/2"],
        ["--max-release-date", "soon"],
        ["--bogus"],
        ["--parts", "3"],
        ["--runner", "DirectRunner", "--shard", "0/2"],
        ["--workers", "0"],
    ],
)
def test_bad_flags(tmp_path, capsys, flag):
    with pytest.raises(SystemExit) as caught:
        main([*INPUT, "--output", str(tmp_path), *flag])
    assert caught.value.code == 2
    assert flag[0] in capsys.readouterr().err


def test_convert_chain_is_pure_and_catches_all(tmp_path, monkeypatch):
    (task,) = (
        t for t in make_tasks([str(DEMO / "mmcif")], [str(DEMO / "alignments")]) if t.name == "1ubq"
    )
    options = ConvertOptions()
    first, second = (convert_chain(task, "A", options) for _ in range(2))
    assert first.written and first == second
    monkeypatch.setattr(convert_module, "_convert", lambda *a: 1 / 0)
    failed = convert_chain(task, "A", options)
    assert not failed.written and "unexpected ZeroDivisionError" in failed.reason


def pdb_line(serial, name, comp, number, xyz, b_factor):
    x, y, z = xyz
    return (
        f"ATOM  {serial:5d}  {name:<3s} {comp} A{number:4d}    "
        f"{x:8.3f}{y:8.3f}{z:8.3f}{1.0:6.2f}{b_factor:6.2f}           {name[0]}"
    )


def test_distillation(tmp_path):
    """Predicted chains: confidence from B-factors, unsure residues masked, chains selected."""
    models = tmp_path / "models"
    models.mkdir()
    for name, confidences in (("AF-P1-F1-model_v4", [90, 50, 51]), ("bad", [20, 30, 40])):
        lines = [
            pdb_line(3 * n + a, atom, "GLY", n + 1, (1.4 * a, 3.8 * n, 0.0), b)
            for n, b in enumerate(confidences)
            for a, atom in enumerate(("N", "CA", "C"))
        ]
        (models / f"{name}.pdb").write_text("\n".join([*lines, "END\n"]))
        folder = tmp_path / "alignments" / ("P1" if name.startswith("AF") else name)
        folder.mkdir(parents=True)
        (folder / "uniclust30.a3m").write_text(">q\nGGG\n>x\nAAA\n")
    arguments = [
        "--mmcif", str(models), "--alignments", str(tmp_path / "alignments"), "--distillation",
        "--min-mean-confidence", "50", "--output", str(tmp_path / "out"), "--quiet",
    ]  # fmt: skip
    assert main(arguments) == 0
    (features,) = records_of(tmp_path / "out").values()
    assert features["chain_id"] == "AF-P1-F1-model_v4"
    assert features["is_distillation"] == 1 and features["resolution"] == 0.0
    assert features["confidence"].tolist() == [90.0, 50.0, 51.0]
    assert features["all_atom_mask"].sum(-1).tolist() == [3, 0, 3]
    assert not features["all_atom_positions"][1].any()
    assert "mean confidence too low" in manifest(tmp_path / "out")["bad"]["reason"]


def test_resolution_known_by_other_means(tmp_path, capsys):
    """One value for all, or chain by chain; without, what the structure says."""
    models = tmp_path / "models"
    models.mkdir()
    for name in ("x1", "x2"):
        lines = [
            pdb_line(3 * n + a, atom, "GLY", n + 1, (1.4 * a, 3.8 * n, 0.0), 90)
            for n in range(3)
            for a, atom in enumerate(("N", "CA", "C"))
        ]
        (models / f"{name}.pdb").write_text("\n".join([*lines, "END\n"]))
    predictions = ["--mmcif", str(models), "--distillation"]
    (tmp_path / "one").write_text("1UBQ_A\n")
    bundled = ["--mmcif", str(DEMO / "mmcif"), "--chains", str(tmp_path / "one"), "--no-templates"]

    def resolutions(source, value):
        out = tmp_path / "out"
        shared = ["--single-sequence", "--quiet", "--overwrite", "--output", str(out)]
        code = main([*source, *shared, *(["--resolution", str(value)] if value else [])])
        if code:
            return code
        found = {name: record["resolution"] for name, record in records_of(out).items()}
        return {name: round(float(value), 3) for name, value in found.items()}

    table = tmp_path / "table"
    assert resolutions(predictions, "") == {"x1": 0.0, "x2": 0.0}
    assert resolutions(predictions, "2.5") == {"x1": 2.5, "x2": 2.5}
    table.write_text("# Å\nx2 1.75\n")
    assert resolutions(predictions, table) == {"x1": 0.0, "x2": 1.75}
    assert resolutions(bundled, "") == {"1ubq_A": 1.8}
    table.write_text("1UBQ_A 2.2\n")
    assert resolutions(bundled, table) == {"1ubq_A": 2.2}
    for text, words in (
        ("x1\n", "table: x1: not a chain and its resolution"),
        ("x1 low\n", "table: x1: 'low' is no resolution"),
        ("x1 nan\n", "table: x1: 'nan' is no resolution"),
        ("x1 0\n", "table: x1: '0' is no resolution"),
        ("x1 2\nx1 3\n", "table: x1: has two resolutions"),
        ("x3 2\n", "table: x3: no such chain among the structures"),
    ):
        table.write_text(text)
        assert resolutions(predictions, table) == 2
        assert f"{words} (" in capsys.readouterr().err
    assert resolutions(predictions, "nowhere") == 2
    assert "--resolution: 'nowhere' is no resolution" in capsys.readouterr().err


def test_predicted_mmcif(tmp_path):
    """AlphaFold DB's format: the bundled ubiquitin stands in, its B-factors as confidence."""
    (tmp_path / "p").mkdir()
    shutil.copy(DEMO / "mmcif" / "1ubq.cif.gz", tmp_path / "p" / "MyTarget.cif.gz")
    task = FileTask(str(tmp_path / "p" / "MyTarget.cif.gz"), "MyTarget", ("",))
    options = ConvertOptions(distillation=True, single_sequence=True, min_residue_confidence=0.0)
    outcome = convert_chain(task, "", options)
    assert outcome.written and outcome.chain_id == "MyTarget"
    assert outcome.entry["is_distillation"] == 1 and outcome.entry["num_msa"] == 1


def test_duplicates_share_alignments(tmp_path):
    """A chain without alignment takes that of an identical one, and its cluster's size."""
    shutil.copytree(DEMO / "mmcif", tmp_path / "mmcif")
    shutil.copy(tmp_path / "mmcif" / "1ubq.cif.gz", tmp_path / "mmcif" / "9dup.cif.gz")
    (tmp_path / "dup").write_text("1ubq_A 9dup_A\n")
    (tmp_path / "clusters").write_text("1ubq_A x y\n")
    (tmp_path / "chains").write_text("9dup_A\n")
    arguments = [
        "--mmcif", str(tmp_path / "mmcif"), "--alignments", str(DEMO / "alignments"),
        "--duplicates", str(tmp_path / "dup"), "--clusters", str(tmp_path / "clusters"),
        "--chains", str(tmp_path / "chains"), "--output", str(tmp_path / "out"), "--quiet",
    ]  # fmt: skip
    assert main(arguments) == 0
    (features,) = records_of(tmp_path / "out").values()
    assert len(features["msa"]) == 57 and features["cluster_size"] == 3


@pytest.mark.parametrize("far", [False, True])
def test_every_input_is_found_whatever_its_case(tmp_path, capsys, far):
    """What a file system or a store that knows case calls otherwise; both names are shown."""
    root = f"memory://{uuid.uuid4().hex}" if far else str(tmp_path)
    for chain in ("1ubq_A", "1a8o_A"):
        for source in (DEMO / "mmcif" / f"{chain[:4]}.cif.gz", DEMO / "alignments" / chain):
            for path in [source] if source.is_file() else sorted(source.iterdir()):
                below = path.relative_to(DEMO).as_posix()
                if not far:
                    (tmp_path / below).parent.mkdir(parents=True, exist_ok=True)
                paths.upload(path, f"{root}/{below}")
    lists = {
        "--chains": ("chains.txt", "1ubq_A\n1a8o_A\n"),
        "--duplicates": ("duplicates.txt", "1ubq_A 9xyz_A\n"),
        "--clusters": ("clusters.txt", "1ubq_A 1a8o_A\n"),
        "--validation-chains": ("validation.txt", "1a8o_A\n"),
        "--template-dates": ("dates.json", "{}"),
        "--resolution": ("resolution.txt", "1ubq_A 1.5\n"),
    }
    inputs = {"--mmcif": "mmcif", "--alignments": "alignments", "--template-mmcif": "mmcif"}
    for option, (name, text) in lists.items():
        paths.write_whole(f"{root}/{name}", text)
        inputs[option] = name
    made = {}
    for case in (str, str.upper):
        words = [w for o, name in inputs.items() for w in (o, f"{root}/{case(name)}")]
        args = build_parser().parse_args([*words, "--output", "unused"])
        made[case] = make_conversion(args)
        told = capsys.readouterr().err.splitlines()
        for name in inputs.values():
            both = f"{root}/{name.upper()}: not there, so this is read: {root}/{name}"
            assert (both in told) == (case is str.upper), told
    assert made[str] == made[str.upper]
    assert made[str].tasks[1].resolutions == {"A": 1.5}
    for option in inputs:
        words = [w for o, name in inputs.items() for w in (o, f"{root}/{name}")]
        words[words.index(option) + 1] = f"{root}/nowhere"
        if option == "--resolution":
            continue  # what is no file is no number either
        assert main([*words, "--output", str(tmp_path / "out"), "--quiet"]) == 2
        assert f"{root}/nowhere: no such" in capsys.readouterr().err, option


def test_chains_that_differ_in_case_are_others_and_both_are_shown(tmp_path):
    task = conversion_of().tasks[[t.name for t in conversion_of().tasks].index("1ubq")]
    ref = task.alignments["A"]
    outcome = convert_chain(replace(task, alignments={"a": ref}), "A", ConvertOptions())
    assert not outcome.written
    assert (
        "chain A: no alignment for the chain (there is one for a, but case counts" in outcome.reason
    )
