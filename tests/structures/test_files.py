"""Structures written as PDB and mmCIF: read back the same by others' readers and ours."""

import io
from dataclasses import replace

import gemmi
import modelcif.reader
import numpy as np
import pytest
from Bio.PDB import MMCIFParser, PDBParser

from records.chemistry import RESTYPE_ATOM37_MASK, RESTYPE_NAMES
from records.errors import InputError
from records.mmcif import Entry
from tffold.structures.files import (
    Structure,
    chain_names,
    mmcif_text,
    pdb_text,
    read_pdb,
    structures_of,
)

SEQUENCE_TYPES = np.array([12, 7, 1, 4, 20])  # M G R C X
PLDDT = np.array([12.344, 50.0, 99.99, 70.25, 0.5])


@pytest.fixture
def structure() -> Structure:
    rng = np.random.default_rng(0)
    mask = RESTYPE_ATOM37_MASK[SEQUENCE_TYPES].astype("float32")
    mask[0, 4] = 0.0  # an atom that is not there
    mask[4, :3] = 1.0  # the table gives X no atoms, a true structure may
    positions = rng.normal(scale=30.0, size=(5, 37, 3)).round(3).astype("float32")
    # IUPAC: NH1 is the nitrogen nearer to CD; readers name them so.
    slots = {"CD": 11, "NH1": 29, "NH2": 30}
    positions[2, slots["NH1"]] = positions[2, slots["CD"]] + 1.0
    positions[2, slots["NH2"]] = positions[2, slots["CD"]] + 2.0
    index = np.array([1, 2, 3, 7, 8])
    empty = np.zeros((5, 37), "float32")
    return Structure(SEQUENCE_TYPES, positions, mask, index, empty, "B").with_b_factors(PLDDT)


def atoms_of(parsed) -> dict:
    return {
        (residue.id[1], residue.resname, atom.name): (atom.coord, atom.bfactor)
        for residue in parsed.get_residues()
        for atom in residue
    }


def check_atoms(structure: Structure, parsed) -> None:
    (chain,) = parsed.get_chains()
    assert chain.id == "B"
    atoms = atoms_of(parsed)
    assert len(atoms) == structure.atom_mask.sum()
    for row, number in enumerate(structure.residue_index):
        coordinate, b_factor = next(v for k, v in atoms.items() if k[0] == number and k[2] == "CA")
        np.testing.assert_allclose(coordinate, structure.atom_positions[row, 1], atol=6e-4)
        assert b_factor == pytest.approx(PLDDT[row], abs=6e-3)
    assert (7, "CYS", "SG") in atoms and (8, "UNK", "CA") in atoms


def test_pdb_reads_back_with_biopython(structure):
    parsed = PDBParser(QUIET=True).get_structure("x", io.StringIO(pdb_text([structure], "a title")))
    check_atoms(structure, parsed)


def test_mmcif_reads_back_with_biopython(structure):
    text = mmcif_text([structure], "target", PLDDT)
    check_atoms(structure, MMCIFParser(QUIET=True).get_structure("x", io.StringIO(text)))


def test_mmcif_is_modelcif(structure):
    """The reader of the format's own authors finds the model and each residue's confidence."""
    (system,) = modelcif.reader.read(io.StringIO(mmcif_text([structure], "target", PLDDT)))
    model = system.model_groups[0][0]
    assert len(list(model.get_atoms())) == structure.atom_mask.sum()
    whole, *local = model.qa_metrics
    assert whole.value == pytest.approx(PLDDT.mean(), abs=5e-3)
    assert [m.value for m in local] == pytest.approx(PLDDT, abs=5e-3)
    assert [m.residue.seq_id for m in local] == [1, 2, 3, 4, 5]


def test_mmcif_without_confidence_claims_none(structure):
    assert "_ma_" not in mmcif_text([structure])


def test_mmcif_keeps_residues_without_atoms_in_the_sequence(structure, tmp_path):
    structure.atom_mask[1] = 0.0
    path = tmp_path / "target.cif"
    path.write_text(mmcif_text([structure], "target", PLDDT))
    chain = Entry(path).chain("B")
    assert chain.sequence == structure.sequence == "MGRCX"
    np.testing.assert_array_equal(chain.mask, structure.atom_mask)
    np.testing.assert_allclose(
        chain.positions, structure.atom_positions * structure.atom_mask[..., None], atol=6e-4
    )


def test_read_pdb_inverts_pdb_text(structure, tmp_path):
    path = tmp_path / "x.pdb"
    path.write_text(pdb_text([structure]))
    (read,) = read_pdb(path)
    known = slice(4)  # X has no chemistry and is not read
    np.testing.assert_array_equal(read.aatype, SEQUENCE_TYPES[known])
    np.testing.assert_array_equal(read.residue_index, structure.residue_index[known])
    np.testing.assert_array_equal(read.atom_mask, structure.atom_mask[known])
    there = read.atom_mask > 0
    np.testing.assert_allclose(
        read.atom_positions[there], structure.atom_positions[known][there], atol=6e-4
    )
    np.testing.assert_allclose(read.b_factors[:, 1], PLDDT[known], atol=6e-3)


def test_a_coordinate_that_is_not_finite_is_named(structure):
    structure.atom_positions[3, 2] = np.nan
    for write in (pdb_text, mmcif_text):
        with pytest.raises(InputError, match="residue 7 atom C"):
            write([structure])


def test_what_does_not_fit_the_columns_is_refused(structure):
    structure.atom_positions[0, 1, 0] = 1.0e4
    with pytest.raises(InputError, match="mmCIF"):
        pdb_text([structure])
    mmcif_text([structure])


def test_files_without_protein_are_named(tmp_path):
    with pytest.raises(InputError, match=r"nothing\.pdb"):
        read_pdb(tmp_path / "nothing.pdb")
    path = tmp_path / "water.pdb"
    path.write_text(
        "HETATM    1  O   HOH A   1       0.000   0.000   0.000  1.00  0.00           O\n"
    )
    with pytest.raises(InputError, match="no protein"):
        read_pdb(path)
    with pytest.raises(InputError, match="no atoms"):
        structures_of("")


@pytest.fixture
def trimer(structure) -> list[Structure]:
    """Two copies of a sequence, another sequence between them."""
    other = replace(structure, aatype=structure.aatype[::-1].copy(), chain_id="B")
    other = replace(other, atom_mask=np.repeat(backbone(), 5, axis=0))
    copy = replace(structure, atom_positions=structure.atom_positions + 50.0, chain_id="C")
    return [replace(structure, chain_id="A"), other, copy]


def backbone() -> np.ndarray:
    return np.isin(np.arange(37), [0, 1, 2, 4])[None].astype("float32")


@pytest.mark.parametrize("write", [pdb_text, mmcif_text])
def test_chains_of_a_complex_read_back_apart(trimer, write):
    parser = PDBParser(QUIET=True) if write is pdb_text else MMCIFParser(QUIET=True)
    parsed = parser.get_structure("x", io.StringIO(write(trimer)))
    assert [chain.id for chain in parsed.get_chains()] == ["A", "B", "C"]
    for chain, given in zip(parsed.get_chains(), trimer, strict=True):
        assert len(list(chain.get_atoms())) == given.atom_mask.sum()
        assert [residue.resname for residue in chain] == [RESTYPE_NAMES[t] for t in given.aatype]


def test_each_chain_of_a_pdb_file_ends(trimer):
    lines = pdb_text(trimer).splitlines()
    ends = [i for i, line in enumerate(lines) if line.startswith("TER")]
    assert [lines[i][21] for i in ends] == ["A", "B", "C"]
    assert not any(line.startswith("CONECT") for line in lines)


def test_entities_of_an_mmcif_file_are_its_sequences(trimer, tmp_path):
    text = mmcif_text(trimer, "target", np.tile(PLDDT, 3) - np.repeat([0, 0.1, 0.2], 5))
    (system,) = modelcif.reader.read(io.StringIO(text))
    asyms = {asym.id: asym.entity._id for asym in system.asym_units}
    assert asyms == {"A": "1", "B": "2", "C": "1"}
    block = gemmi.cif.read_string(text)[0]
    instances = block.find("_ma_target_entity_instance.", ["asym_id", "entity_id"])
    assert {row[0]: row[1] for row in instances} == asyms
    assert len(block.find("_ma_target_entity.", ["entity_id"])) == len(system.entities) == 2
    model = system.model_groups[0][0]
    _, *local = model.qa_metrics
    assert [(m.residue.asym.id, m.residue.seq_id) for m in local] == [
        (name, number) for name in "ABC" for number in range(1, 6)
    ]
    assert local[10].value == pytest.approx(PLDDT[0] - 0.2, abs=6e-3)
    path = tmp_path / "target.cif"
    path.write_text(text)
    entry = Entry(path)
    assert [entry.chain(name).sequence for name in "ABC"] == ["MGRCX", "XCRGM", "MGRCX"]


def test_more_chains_than_letters_go_to_mmcif_alone(structure):
    names = chain_names(64)
    assert len(set(names)) == 64 and names[:2] == ["A", "B"] and names[61:] == ["9", "AA", "AB"]
    assert len(set(chain_names(800))) == 800
    many = [replace(structure, chain_id=name) for name in names]
    pdb_text(many[:62])
    with pytest.raises(InputError, match="chain AA of 64: .* 62 chains .*mmCIF"):
        pdb_text(many)
    parsed = MMCIFParser(QUIET=True).get_structure("x", io.StringIO(mmcif_text(many)))
    assert [chain.id for chain in parsed.get_chains()] == names


def test_chains_of_one_name_are_refused(structure):
    with pytest.raises(InputError, match="same name"):
        mmcif_text([structure, structure])
