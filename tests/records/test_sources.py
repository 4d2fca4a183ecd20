"""Every layout of alignments gives the same evidence for the same chain."""

import gzip
import json
import os
import pickle
import shutil
import uuid
from pathlib import Path

import numpy as np
import pytest

from records import features as features_module
from records import paths
from records.errors import InputError
from records.features import choose_templates, read_evidence
from records.features_pickle import read_features
from records.mmcif import Entry, mmcif_files
from records.sources import (
    AlignmentRef,
    AnyCase,
    find_alignments,
    find_path,
    msa_order,
    normalized,
    pick_hits,
    read_chain_list,
    read_cluster_sizes,
    read_duplicates,
    share_duplicates,
)
from records.tasks import make_tasks
from records.templates import TemplateLibrary

DEMO = Path(__file__).parents[2] / "examples" / "demo"
CHAIN = "1ubq_A"
QUERY = "MQIFVKTLTGKTITLEVEPSDTIENVKAKIQDKEGIPPDQQRLIFAGKQLEDGRTLSDYNIQKESTLHLVLRLRGG"
FILES = {
    "uniref90_hits.a3m": f">q\n{QUERY}\n>u\n{'A' * 76}\n",
    "bfd_uniclust_hits.a3m": f">q\n{QUERY}\n>b\n{'C' * 76}\n>dup\n{'A' * 76}\n",
    "mgnify_hits.a3m": f">q\n{QUERY}\n>m\n{'D' * 76}\n",
    "pdb70_hits.hhr": gzip.decompress(
        (DEMO / "alignments" / CHAIN / "pdb70_hits.hhr.gz").read_bytes()
    ).decode(),
}


@pytest.fixture(autouse=True)
def _no_cache():
    features_module.read_evidence.cache_clear()


def write(folder, files):
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in files.items():
        (folder / name).write_text(text)


def flat(root):
    write(root / CHAIN, FILES)


def open_protein_set(root):
    write(root / CHAIN / "a3m", {n: t for n, t in FILES.items() if n.endswith("a3m")})
    write(root / CHAIN / "hhr", {n: t for n, t in FILES.items() if n.endswith("hhr")})


def upper_case_and_gzip(root):
    folder = root / "1UBQ_A"
    folder.mkdir()
    for name, text in FILES.items():
        (folder / f"{name}.gz").write_bytes(gzip.compress(text.encode()))


def alphafold(root):
    write(root / CHAIN / "msas", {**FILES, "pdb_hits.sto": "no alignment", "uniprot_hits.sto": ""})
    (root / CHAIN / "features.pkl").write_bytes(b"not read when there are alignments")


def alignment_db(root):
    blob, entries = b"", []
    for name, text in reversed(FILES.items()):
        entries.append([name, len(blob), len(text)])
        blob += text.encode()
    (root / "alignment_db_0.db").write_bytes(blob)
    (root / "alignment_db_0.index").write_text(
        json.dumps({CHAIN: {"db": "alignment_db_0.db", "files": entries}})
    )


@pytest.mark.parametrize(
    "layout", [flat, open_protein_set, upper_case_and_gzip, alphafold, alignment_db]
)
@pytest.mark.parametrize("far", [False, True])
def test_layouts_agree(tmp_path, layout, far):
    layout(tmp_path)
    place = f"memory://{uuid.uuid4().hex}" if far else str(tmp_path)
    for path in tmp_path.rglob("*") if far else ():
        if path.is_file():
            paths.upload(path, f"{place}/{path.relative_to(tmp_path).as_posix()}")
    refs = find_alignments([place])
    evidence = read_evidence(refs[CHAIN], QUERY)
    # Query, UniRef90, BFD, MGnify, in this order, the duplicate dropped: A, C, D are 0, 1, 2.
    assert evidence.alignment.msa[:, 3].tolist() == [4, 0, 1, 2]
    assert len(evidence.hits) == 5


def test_colabfold_file(tmp_path):
    (tmp_path / f"{CHAIN}.a3m").write_text(f"#76\t1\n>101\n{QUERY}\n>x\n{'A' * 76}\n\0")
    evidence = read_evidence(find_alignments([tmp_path])[CHAIN], QUERY)
    assert evidence.alignment.depth == 2 and not evidence.hits


def test_first_root_counts(tmp_path):
    for root, letter in (("one", "A"), ("two", "C")):
        write(tmp_path / root / CHAIN, {"x.a3m": f">q\n{QUERY}\n>x\n{letter * 76}\n"})
    refs = find_alignments([tmp_path / "two", tmp_path / "one"])
    assert read_evidence(refs[CHAIN], QUERY).alignment.msa[1, 0] == 1


def test_order_and_choice():
    names = [
        "z.a3m",
        "mgnify_hits.sto",
        "uniclust30.a3m",
        "uniref90_hits.a3m",
        "small_bfd_hits.sto",
    ]
    assert sorted(names, key=msa_order) == [
        "uniref90_hits.a3m", "small_bfd_hits.sto", "uniclust30.a3m", "mgnify_hits.sto", "z.a3m",
    ]  # fmt: skip
    colabfold = ["bfd.mgnify30.metaeuk30.smag30.a3m", "uniref.a3m"]
    assert sorted(colabfold, key=msa_order) == colabfold[::-1]
    assert pick_hits(["a/uniclust.hhr", "a/pdb70_hits.hhr", "x.a3m"]) == "a/pdb70_hits.hhr"
    assert pick_hits(["x.a3m"]) is None
    assert normalized("1UBQ_a") == "1ubq_a" and normalized("AF-P1_X") == "AF-P1_X"


def test_lists(tmp_path):
    (tmp_path / "dup").write_text("1ubq_A 2abc_B 3DEF_C\n4ghi_A 5jkl_A\n")
    (tmp_path / "clusters").write_text("1ubq_A 2abc_B\n# comment\n9xyz_A\n")
    (tmp_path / "chains").write_text("1UBQ_A\n2abc_B extra words\n1ubq_A\n")
    flat(tmp_path / "alignments")
    groups = read_duplicates(tmp_path / "dup")
    refs = share_duplicates(find_alignments([tmp_path / "alignments"]), groups)
    assert refs["3def_C"] is refs["1ubq_A"] and "4ghi_A" not in refs
    own = {"1ubq_A": refs["1ubq_A"], "3def_C": AlignmentRef("3def_C", "elsewhere", "folder")}
    assert share_duplicates(own, groups)["3def_C"] is own["3def_C"]
    assert read_cluster_sizes(tmp_path / "clusters") == {"1ubq_A": 2, "2abc_B": 2, "9xyz_A": 1}
    assert read_chain_list(tmp_path / "chains") == ["1ubq_A", "2abc_B"]
    tasks = make_tasks(
        [str(DEMO / "mmcif")], [str(tmp_path / "alignments")], chains=str(tmp_path / "chains"),
        duplicates=str(tmp_path / "dup"), clusters=str(tmp_path / "clusters"),
        validation_chains=str(tmp_path / "chains"),
    )  # fmt: skip
    assert [(t.name, t.chains, dict(t.cluster_sizes)) for t in tasks] == [
        ("1ubq", ("A",), {"A": 2}), ("2abc", ("B",), {"B": 2}),
    ]  # fmt: skip
    assert "not given" in tasks[1].path and tasks[1].alignments["B"].name == "1ubq_A"
    (tmp_path / "chains").write_text("\n")
    with pytest.raises(InputError, match="no chains in the list"):
        read_chain_list(tmp_path / "chains")


@pytest.mark.parametrize(
    ("index", "message"),
    [
        ("{", "not an alignment_db index"),
        ("[]", "not an alignment_db index"),
        ('{"1ubq_A": {"db": "x.db", "files": [["a.a3m", 0]]}}', "not an alignment_db index"),
        ('{"1ubq_A": {"db": "x.db", "files": [["a.a3m", 0, 99]]}}', "reaches beyond x.db"),
        ('{"1ubq_A": {"db": "x.db", "files": [["a.a3m", -1, 2]]}}', "reaches beyond x.db"),
        ('{"1ubq_A": {"db": "y.db", "files": []}}', "y.db: no such file"),
    ],
)
def test_bad_index_says_why(tmp_path, index, message):
    (tmp_path / "x.db").write_bytes(b"0123456789")
    (tmp_path / "x.index").write_text(index)
    with pytest.raises(InputError, match=message):
        find_alignments([tmp_path])


def test_names_with_underscores(tmp_path):
    """The chain is what follows the last one."""
    shutil.copy(DEMO / "mmcif" / "1ubq.cif.gz", tmp_path / "my_ubi.cif.gz")
    write(tmp_path / "alignments" / "my_ubi_A", FILES)
    (task,) = make_tasks([str(tmp_path / "my_ubi.cif.gz")], [str(tmp_path / "alignments")])
    assert task.name == "my_ubi" and task.alignments["A"].name == "my_ubi_A"


def test_missing_and_empty(tmp_path):
    with pytest.raises(InputError, match="no such folder"):
        find_alignments([tmp_path / "nowhere"])
    (tmp_path / CHAIN).mkdir()
    with pytest.raises(InputError, match="no alignment file"):
        read_evidence(find_alignments([tmp_path])[CHAIN], QUERY)
    (tmp_path / CHAIN / "uniref90_hits.a3m").write_text("")
    with pytest.raises(InputError, match="uniref90_hits.a3m: alignment holds no sequence"):
        read_evidence(find_alignments([tmp_path])[CHAIN], QUERY)


def pickled(**changes):
    """What AlphaFold's pipeline writes, cut down to a chain of 5 residues."""
    features = {
        "sequence": np.array([b"ACDEF"], dtype=object),
        "msa": np.array([[0, 1, 2, 3, 4], [0, 1, 21, 3, 4]], np.int32),
        "deletion_matrix_int": np.array([[0] * 5, [0, 300, 0, 0, 0]], np.int32),
        "template_aatype": np.eye(22, dtype=np.float32)[[[0, 1, 4, 21, 21]]],
        "template_all_atom_positions": np.ones([1, 5, 37, 3], np.float32),
        "template_all_atom_masks": np.ones([1, 5, 37], np.float32),
        "template_domain_names": np.array([b"1gbt_A"], dtype=object),
        "template_sum_probs": np.array([[7.0]], np.float32),
    }
    features.update(changes)
    return features


def test_features_pickle(tmp_path):
    (tmp_path / CHAIN).mkdir()
    (tmp_path / CHAIN / "features.pkl").write_bytes(pickle.dumps(pickled(), protocol=4))
    evidence = read_evidence(find_alignments([tmp_path])[CHAIN], "ACDEF")
    assert evidence.alignment.msa.tolist() == [[0, 1, 2, 3, 4], [0, 1, 21, 3, 4]]
    assert evidence.alignment.deletions[1].tolist() == [0, 255, 0, 0, 0]
    library = TemplateLibrary(mmcif_files([DEMO / "mmcif"]))
    chosen, _ = choose_templates(evidence, "ACDEF", library, "2000-01-01", 20)
    assert chosen["template_aatype"].tolist() == [[0, 4, 13, 21, 21]]  # A C F in AlphaFold's order
    assert chosen["template_release_date"] == ["1994-01-31"]
    chosen, reasons = choose_templates(evidence, "ACDEF", library, "1990-01-01", 20)
    assert len(chosen["template_aatype"]) == 0 and reasons == {"released too late": 1}
    _, reasons = choose_templates(evidence, "ACDEF", None, "1990-01-01", 20)
    assert reasons == {"release date not known": 1}


@pytest.mark.parametrize("protocol", range(2, pickle.HIGHEST_PROTOCOL + 1))
def test_pickle_protocols(protocol):
    found = read_features(pickle.dumps(pickled(), protocol=protocol), "f")
    np.testing.assert_array_equal(found["msa"], pickled()["msa"])
    assert found["template_domain_names"].tolist() == [b"1gbt_A"]


class Evil:
    def __init__(self, function, *arguments):
        self.call = (function, arguments)

    def __reduce__(self):
        return self.call


@pytest.mark.parametrize(
    "call", [(os.system, "touch {0}"), (eval, "open('{0}', 'w')"), (open, "{0}", "w"), (exec, "1")]
)
def test_no_code_from_a_pickle(tmp_path, call):
    target = tmp_path / "touched"
    function, *arguments = call
    evil = Evil(function, *(a.format(target) for a in arguments))
    for payload in (evil, {"msa": evil}, pickled(sequence=np.array([evil], dtype=object))):
        with pytest.raises(InputError, match="cannot|can be read safely|asks for"):
            read_features(pickle.dumps(payload), "features.pkl")
    assert not target.exists()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"msa": np.zeros([0, 5], np.int32), "deletion_matrix_int": np.zeros([0, 5], np.int32)},
         "msa is empty"),
        ({"msa": np.full([2, 5], 30, np.int32)}, "no alignment"),
        ({"msa": np.array(["x"])}, "not numbers"),
        ({"template_sum_probs": np.zeros(3)}, "differ in number"),
        ({"template_all_atom_positions": np.full([1, 5, 37, 3], np.nan)}, "not finite"),
        ({"msa": np.zeros([2, 5], np.int32)}, "does not match"),
    ],
)  # fmt: skip
def test_bad_features_say_why(tmp_path, changes, message):
    (tmp_path / CHAIN).mkdir()
    (tmp_path / CHAIN / "features.pkl").write_bytes(pickle.dumps(pickled(**changes)))
    with pytest.raises(InputError, match=message):
        read_evidence(find_alignments([tmp_path])[CHAIN], "ACDEF")


def test_selenomethionine_is_x_in_the_demo_alignment():
    chain = Entry(DEMO / "mmcif" / "1a8o.cif.gz").chain("A")
    evidence = read_evidence(find_alignments([DEMO / "alignments"])["1a8o_A"], chain.sequence)
    assert evidence.alignment.msa[0, 0] == 10  # M, though the file says X


def test_names_are_compared_without_case(tmp_path):
    """Paths, lists of chains and predictions find files that are spelt in another case."""
    shutil.copy(DEMO / "mmcif" / "1ubq.cif.gz", tmp_path / "1ubq.cif.gz")
    (tmp_path / "List").write_text("1UBQ_A\n")
    flat(tmp_path / "alignments")
    (task,) = make_tasks(
        [str(tmp_path / "1UBQ.CIF.GZ")], [tmp_path / "alignments"], chains=str(tmp_path / "List")
    )
    assert task.path == str(tmp_path / "1ubq.cif.gz") and set(task.alignments) == {"A"}
    models = tmp_path / "models"
    write(models, {"AF-P1-F1-model_v4.pdb": ""})
    (tmp_path / "alignments" / CHAIN).rename(tmp_path / "alignments" / "p1")
    (tmp_path / "List").write_text("af-p1-f1-MODEL_V4\n")
    for source in (models, tmp_path / "MODELS", models / "af-p1-f1-model_v4.PDB"):
        (task,) = make_tasks(
            [str(source)], [tmp_path / "alignments"], chains=str(tmp_path / "List"),
            distillation=True,
        )  # fmt: skip
        assert task.path == str(models / "AF-P1-F1-model_v4.pdb")
    (task,) = make_tasks([str(models)], [tmp_path / "alignments"], distillation=True)
    assert task.alignments[""].name == "p1"
    with pytest.raises(InputError, match="2UBQ.cif: no such file or folder"):
        find_path(tmp_path / "2UBQ.cif")


def test_two_names_that_differ_in_case_only(tmp_path):
    write(tmp_path / "in", {"1ubq.cif": "", "1UBQ.cif": ""})
    assert find_path(tmp_path / "in" / "1ubq.cif") == str(tmp_path / "in" / "1ubq.cif")
    with pytest.raises(InputError, match="1Ubq.cif: may be 1.* or 1.*, which differ in case only"):
        find_path(tmp_path / "in" / "1Ubq.cif")
    with pytest.raises(InputError, match="1ubq.cif: differs from .*1UBQ.cif in case only"):
        mmcif_files([tmp_path / "in"])
    table = AnyCase({"a": 1, "A": 2, "b": 3})
    assert [table.get(name) for name in ("a", "A", "B", "c")] == [1, 2, 3, None]


def test_names_are_compared_without_case_in_every_folder_and_on_stores(tmp_path):
    write(tmp_path / "Set" / "PDB", {"1ubq.cif": ""})
    wanted = str(tmp_path / "Set" / "PDB" / "1ubq.cif")
    assert find_path(tmp_path / "sET" / "pdb" / "1UBQ.cif") == wanted
    with pytest.raises(InputError, match="sEt/PDB/2ubq.cif: no such file or folder"):
        find_path(tmp_path / "sEt" / "PDB" / "2ubq.cif")
    root = f"memory://{uuid.uuid4().hex}"
    for name in ("Set/PDB/1ubq.cif", "Set/pdb2/a", "Set/PDB2/a"):
        paths.write_whole(f"{root}/{name}", b"x")
    assert find_path(f"{root}/set/pdb/1UBQ.cif") == f"{root}/Set/PDB/1ubq.cif"
    assert find_path(f"{root}/SET/") == f"{root}/Set"
    with pytest.raises(InputError, match=f"{root}/Set/none: no such file or folder"):
        find_path(f"{root}/Set/none")
    with pytest.raises(InputError, match="Pdb2: may be PDB2 or pdb2, which differ in case only"):
        find_path(f"{root}/Set/Pdb2")
    for as_it_is in ("https://host/Name.cif", f"{root}/Set/none.zip/1UBQ.cif"):
        assert find_path(as_it_is) == as_it_is
