"""Chains from hand-written mmCIF and PDB text, where every number can be checked."""

import gzip
import io
from pathlib import Path

import numpy as np
import pytest
from Bio.PDB import MMCIFParser

from records.chemistry import ATOM_ORDER
from records.errors import InputError
from records.mmcif import Entry, entry_name, mmcif_files
from records.pdb import read_model
from records.structure import Atom, atoms_to_arrays, one_letter

ATOM_SITE = """loop_
_atom_site.group_PDB
_atom_site.label_atom_id
_atom_site.label_alt_id
_atom_site.label_comp_id
_atom_site.label_asym_id
_atom_site.label_seq_id
_atom_site.auth_asym_id
_atom_site.auth_seq_id
_atom_site.pdbx_PDB_ins_code
_atom_site.Cartn_x
_atom_site.Cartn_y
_atom_site.Cartn_z
_atom_site.occupancy
_atom_site.B_iso_or_equiv
_atom_site.pdbx_PDB_model_num
"""


def backbone(comp, seq, *, asym="A", auth="H", auth_seq=None, ins="?", model=1, x=0.0):
    place = f"{comp} {asym} {seq} {auth} {auth_seq or seq} {ins}"
    return "".join(
        f"ATOM {name} . {place} {x + dx:.3f} {seq:.3f} {dz:.3f} 1.0 {10 * seq}.0 {model}\n"
        for name, dx, dz in (("N", 0.0, 0.0), ("CA", 1.4, 0.5), ("C", 2.0, 1.0), ("O", 2.1, 2.2))
    )


def entry_text(sequence, atoms, *, kind="'polypeptide(L)'", extra=""):
    poly = "".join(f"1 {n} {comp}\n" for n, comp in sequence)
    return (
        "data_TEST\n_struct_asym.id A\n_struct_asym.entity_id 1\n"
        f"_entity_poly.entity_id 1\n_entity_poly.type {kind}\n{extra}"
        f"loop_\n_entity_poly_seq.entity_id\n_entity_poly_seq.num\n_entity_poly_seq.mon_id\n{poly}"
        f"{ATOM_SITE}{atoms}"
    )


def parse(tmp_path, text, name="9abc.cif"):
    path = tmp_path / name
    path.write_text(text)
    return Entry(path)


def numbered(*components):
    return list(enumerate(components, start=1))


def test_seqres_gaps_and_author_names(tmp_path):
    """Residue 2 is in SEQRES only; insertion codes and author numbers do not matter."""
    atoms = backbone("ALA", 1, auth_seq=52) + backbone("TRP", 3, auth_seq=52, ins="A")
    entry = parse(tmp_path, entry_text(numbered("ALA", "GLY", "TRP"), atoms))
    assert entry.chain_names() == ["H"]
    chain = entry.chain("H")
    assert (chain.chain_id, chain.sequence) == ("9abc_H", "AGW")
    assert chain.mask.sum(-1).tolist() == [4, 0, 4]
    np.testing.assert_allclose(chain.positions[2, ATOM_ORDER["CA"]], [1.4, 3.0, 0.5])
    assert not chain.positions[1].any()
    assert chain.b_factor.tolist() == [10.0, 0.0, 30.0]
    assert chain.aatype.tolist() == [0, 7, 17]
    with pytest.raises(InputError, match="no such polymer chain.*has H"):
        entry.chain("A")


def test_first_model_only(tmp_path):
    atoms = backbone("ALA", 1, model=1, x=0.0) + backbone("ALA", 1, model=2, x=50.0)
    chain = parse(tmp_path, entry_text(numbered("ALA"), atoms)).chain("H")
    assert chain.positions[0, 0, 0] == 0.0


def test_altloc_of_highest_occupancy_is_taken_whole(tmp_path):
    atoms = backbone("SER", 1)
    for name, location, x, occupancy in (
        ("CB", "A", 5.0, 0.4), ("CB", "B", 6.0, 0.6), ("OG", "A", 7.0, 0.4), ("OG", "B", 8.0, 0.6),
    ):  # fmt: skip
        atoms += f"ATOM {name} {location} SER A 1 H 1 ? {x} 0 0 {occupancy} 10.0 1\n"
    chain = parse(tmp_path, entry_text(numbered("SER"), atoms)).chain("H")
    assert chain.positions[0, ATOM_ORDER["CB"], 0] == 6.0
    assert chain.positions[0, ATOM_ORDER["OG"], 0] == 8.0


def test_altloc_ties_go_to_the_first_and_do_not_mix():
    rows = [
        Atom(0, "SER", "CB", "B", 1, 0, 0, 0.5, 1.0),
        Atom(0, "SER", "OG", "B", 2, 0, 0, 0.5, 1.0),
        Atom(0, "SER", "CB", "A", 3, 0, 0, 0.5, 1.0),
    ]
    positions, mask, _ = atoms_to_arrays("S", rows)
    assert positions[0, ATOM_ORDER["CB"], 0] == 3
    assert mask[0, ATOM_ORDER["OG"]] == 0


def test_modified_residues(tmp_path):
    """Selenomethionine is methionine with SE as SD; phosphoserine is serine without P."""
    atoms = (backbone("MSE", 1) + backbone("SEP", 2)).replace("ATOM", "HETATM")
    atoms += "HETATM SE . MSE A 1 H 1 ? 9 9 9 1.0 10.0 1\n"
    atoms += "HETATM P . SEP A 2 H 2 ? 9 9 9 1.0 10.0 1\n"
    chain = parse(tmp_path, entry_text(numbered("MSE", "SEP"), atoms)).chain("H")
    assert chain.sequence == "MS"
    assert chain.positions[0, ATOM_ORDER["SD"]].tolist() == [9, 9, 9]
    assert chain.mask.sum(-1).tolist() == [5, 4]
    assert one_letter("CRO") == "X" and one_letter("MSE") == "M" and one_letter("ZZZ") == "X"
    assert chain.unknown == ()


def test_unknown_residues_are_named(tmp_path):
    atoms = backbone("ALA", 1) + backbone("QQQ", 2)
    chain = parse(tmp_path, entry_text(numbered("ALA", "QQQ"), atoms)).chain("H")
    assert chain.sequence == "AX" and chain.unknown == ("QQQ 2",)


@pytest.mark.parametrize("swapped", [False, True])
def test_arginine_nitrogens(swapped):
    """NH1 is the one nearer to CD."""
    near, far = ("NH2", "NH1") if swapped else ("NH1", "NH2")
    rows = [
        Atom(0, "ARG", "CD", "", 0, 0, 0, 1, 1),
        Atom(0, "ARG", near, "", 2, 0, 0, 1, 1),
        Atom(0, "ARG", far, "", 3, 0, 0, 1, 1),
    ]
    positions, _, _ = atoms_to_arrays("R", rows)
    assert positions[0, ATOM_ORDER["NH1"], 0] == 2
    assert positions[0, ATOM_ORDER["NH2"], 0] == 3


def test_microheterogeneity_follows_the_first_listed(tmp_path):
    sequence = [(1, "ALA"), (2, "SER"), (2, "THR")]
    atoms = backbone("ALA", 1) + backbone("THR", 2, x=9.0) + backbone("SER", 2)
    chain = parse(tmp_path, entry_text(sequence, atoms)).chain("H")
    assert chain.sequence == "AS"
    assert chain.positions[1, 0, 0] == 0.0


@pytest.mark.parametrize(
    ("extra", "date", "resolution"),
    [
        ("", "", 0.0),
        ("_database_PDB_rev.date 2001-02-03\n_refine.ls_d_res_high 2.5\n", "2001-02-03", 2.5),
        (
            "loop_\n_pdbx_audit_revision_history.ordinal\n"
            "_pdbx_audit_revision_history.revision_date\n1 2012-05-06\n2 2011-07-13\n"
            "_database_PDB_rev.date 2001-02-03\n_refine.ls_d_res_high ?\n"
            "_em_3d_reconstruction.resolution 3.4\n_reflns.d_resolution_high 1.0\n",
            "2011-07-13",
            3.4,
        ),
        ("_pdbx_version.revision_date 2008-01-01\n_refine.ls_d_res_high .\n", "2008-01-01", 0.0),
    ],
)
def test_date_and_resolution(tmp_path, extra, date, resolution):
    entry = parse(tmp_path, entry_text(numbered("ALA"), backbone("ALA", 1), extra=extra))
    assert (entry.release_date, entry.resolution) == (date, resolution)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (entry_text(numbered("DA"), backbone("DA", 1), kind="polydeoxyribonucleotide"),
         "nucleic acid: polydeoxyribonucleotide"),
        (entry_text(numbered("ALA"), backbone("ALA", 1), kind="'polypeptide(D)'"),
         "not an L-polypeptide"),
        (entry_text(numbered("ALA"), "".join(backbone("ALA", 1).splitlines(True)[1:2])),
         "C-alpha only"),
        (entry_text(numbered("ALA"), backbone("ALA", 2)), "outside SEQRES"),
        (entry_text(numbered("ALA"), backbone("ALA", 1).replace("1.400", "nan")), "not finite"),
        (entry_text([(1, "ALA"), (3, "GLY")], backbone("ALA", 1)), "not numbered 1 to 2"),
        (entry_text(numbered("ALA"), backbone("ALA", 1))[:-9], "not readable as mmCIF"),
        ("", "cut off or empty"),
    ],
)  # fmt: skip
def test_bad_entries_say_why(tmp_path, text, message):
    with pytest.raises(InputError, match=message) as caught:
        parse(tmp_path, text).chain("H")
    assert "9abc.cif" in str(caught.value)


def test_cut_off_atoms_are_noticed(tmp_path):
    """A file that ends after a whole atom line: the sequence scheme tells."""
    scheme = (
        "loop_\n_pdbx_poly_seq_scheme.asym_id\n_pdbx_poly_seq_scheme.seq_id\n"
        "_pdbx_poly_seq_scheme.mon_id\n_pdbx_poly_seq_scheme.auth_mon_id\n"
        "_pdbx_poly_seq_scheme.pdb_strand_id\n"
    ) + "".join(f"A {n} ALA ALA H\n" for n in range(1, 11))
    sequence = numbered(*["ALA"] * 10)
    whole = "".join(backbone("ALA", n) for n in range(1, 11))
    half = "".join(backbone("ALA", n) for n in range(1, 6))
    assert parse(tmp_path, entry_text(sequence, whole, extra=scheme)).chain("H").mask.sum() == 40
    with pytest.raises(InputError, match="5 residues, 6 the first.*cut off"):
        parse(tmp_path, entry_text(sequence, half, extra=scheme)).chain("H")


def test_unobserved_chain(tmp_path):
    text = entry_text(numbered("ALA"), backbone("ALA", 1).replace(" H ", " H "))
    text = text.replace("_struct_asym.id A\n_struct_asym.entity_id 1\n",
        "loop_\n_struct_asym.id\n_struct_asym.entity_id\nA 1\nB 1\n"
        "loop_\n_pdbx_poly_seq_scheme.asym_id\n_pdbx_poly_seq_scheme.pdb_strand_id\nA H\nB L\n",
    )  # fmt: skip
    entry = parse(tmp_path, text)
    assert entry.chain_names() == ["H", "L"]
    with pytest.raises(InputError, match="no residue is observed"):
        entry.chain("L")


def test_gzip_and_names(tmp_path):
    text = entry_text(numbered("ALA"), backbone("ALA", 1))
    path = tmp_path / "deep" / "1XYZ.cif.gz"
    path.parent.mkdir()
    path.write_bytes(gzip.compress(text.encode()))
    assert Entry(path).chain("H").sequence == "A"
    assert mmcif_files([tmp_path]) == {"1xyz": str(path)}
    assert entry_name(path) == "1xyz"
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(InputError, match="broken gzip"):
        Entry(path)
    with pytest.raises(InputError, match="nowhere: no such file or folder"):
        mmcif_files([tmp_path / "nowhere"])


DEMO = Path(__file__).parents[2] / "examples" / "demo" / "mmcif"


@pytest.mark.parametrize("path", sorted(DEMO.glob("*.cif.gz")), ids=lambda path: path.name[:4])
def test_agrees_with_biopython(path):
    """Every atom of every bundled protein chain lies where Biopython's parser has it.

    It too keeps the alternate location of highest occupancy; arginines are compared as
    sets, because their nitrogens are renamed here.
    """
    text = gzip.decompress(path.read_bytes()).decode()
    parser = MMCIFParser(QUIET=True, auth_chains=True, auth_residues=False)
    model = parser.get_structure("x", io.StringIO(text))[0]
    entry = Entry(path)
    for name, sequence in entry.protein_sequences().items():
        chain = entry.chain(name)
        count = 0
        for residue in model[name]:
            if residue.id[0].strip() and residue.resname != "MSE":
                continue
            index = residue.id[1] - 1
            assert one_letter(residue.resname) == sequence[index]
            for atom in residue:
                if atom.element == "H":
                    continue
                atom_name = {"SE": "SD"}.get(atom.name, atom.name)
                column = ATOM_ORDER[atom_name]
                if residue.resname == "ARG" and atom_name in ("NH1", "NH2"):
                    column = [ATOM_ORDER["NH1"], ATOM_ORDER["NH2"]]
                distance = np.abs(chain.positions[index, column] - atom.coord).max(-1)
                assert np.min(distance) < 1e-3, (name, residue.resname, index, atom_name)
                count += 1
        assert chain.mask.sum() == count


def test_predicted_pdb(tmp_path):
    lines = []
    for n, (comp, b) in enumerate((("GLY", 90.0), ("LYS", 40.0)), start=1):
        for name, x in (("N", 0.0), ("CA", 1.5), ("C", 2.5)):
            lines.append(
                f"ATOM  {len(lines) + 1:5d}  {name:<3s} {comp} A{n:4d}    "
                f"{x:8.3f}{n:8.3f}{0.0:8.3f}{1.0:6.2f}{b:6.2f}           {name[0]}"
            )
    chain = read_model(tmp_path / "x.pdb", "\n".join([*lines, "END"]), "x")
    assert chain.sequence == "GK"
    assert chain.b_factor.tolist() == [90.0, 40.0]
    np.testing.assert_allclose(chain.positions[1, 1], [1.5, 2.0, 0.0])
    with pytest.raises(InputError, match="holds no atoms"):
        read_model(tmp_path / "x.pdb", "", "x")
    two = "\n".join(lines + [line[:21] + "B" + line[22:] for line in lines])
    with pytest.raises(InputError, match="A B: 2 protein chains"):
        read_model(tmp_path / "x.pdb", two, "x")


def test_the_first_of_two_lines_for_one_atom_wins():
    rows = [Atom(0, "GLY", "CA", "", x, 0, 0, 1, 1) for x in (1, 2)]
    positions, mask, _ = atoms_to_arrays("G", rows)
    assert positions[0, ATOM_ORDER["CA"], 0] == 1 and mask.sum() == 1
