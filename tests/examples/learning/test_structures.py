"""The structure database: decoded, chosen from, written as PDB files."""

from __future__ import annotations

from dataclasses import replace

import gemmi
import numpy as np
import pytest
from packages import backbone, structure_database

from examples.learning import structures
from records import chemistry
from records.errors import InputError

SEQUENCE = "MKTAYIAKQRQISFVKSHFSRQLEERLGLIEVQAPILSRVGDGTQDNLSGAEKAVQ"


def made(sequence=SEQUENCE, first=1, **options):
    return sequence, backbone(len(sequence), **options), first


def decode(path, chains):
    path.write_bytes(structure_database(chains))
    return structures.read_database(path)


def test_decoded_as_written(tmp_path):
    """Each chain has its own letters, and coordinates from its own origin."""
    chains = {"1ABC_A": made(), "2XYZ_bb": made("GHKWDEACLM" * 5, first=7, seed=1)}
    first, second = decode(tmp_path / "db", chains)
    assert (first.name, second.name) == ("1abc_A", "2xyz_bb")
    assert (first.first_residue, second.first_residue) == (1, 7)
    assert (first.sequence, second.sequence) == (SEQUENCE, "GHKWDEACLM" * 5)
    for entry, (_, places, _) in zip((first, second), chains.values(), strict=True):
        moved = places - places.min(axis=(0, 1))
        np.testing.assert_allclose(entry.backbone, moved, atol=0.0051)


@pytest.mark.parametrize("keep", [10, 40, 100, -600, -1])
def test_cut_off_is_one_error(tmp_path, keep):
    path = tmp_path / "db"
    path.write_bytes(structure_database({"1ABC_A": made()})[:keep])
    with pytest.raises(InputError, match=r"db: not a structure database .* promod3-data 3.2.1"):
        structures.read_database(path)


def test_missing_file(tmp_path):
    with pytest.raises(InputError, match="No such file"):
        structures.read_database(tmp_path / "nowhere")


def test_what_is_not_chosen(tmp_path):
    (good,) = decode(tmp_path / "db", {"1ABC_A": made()})
    assert structures.reason_against(good) == ""

    def against(**changes):
        return structures.reason_against(replace(good, **changes))

    broken = good.backbone.copy()
    broken[30:] += 5.0
    peptide = good.backbone.copy()
    peptide[20, 2] += 2.0
    assert against(sequence=SEQUENCE[:30], backbone=good.backbone[:30]) == "length"
    assert against(first_residue=41) == "starts late"
    assert against(sequence="B" + SEQUENCE[1:]) == "unknown residues"
    assert against(sequence="A" * 20 + SEQUENCE[20:]) == "one residue in four"
    assert against(backbone=broken) == "broken"
    assert against(backbone=peptide) == "broken peptide bond"
    places = np.arange(len(SEQUENCE))[:, None] + [-0.38, 0.0, 0.4, 0.5]
    straight = places[..., None] * [2.0, 2.0, 2.0]
    assert against(backbone=straight) == "few contacts"


def test_beta_carbons_are_where_real_ones_are():
    """Of ubiquitin: 0.1 Å away on average, and on the right hand."""
    path = structures.Path(__file__).parents[3] / "examples" / "demo" / "mmcif" / "1ubq.cif.gz"
    residues = [r for r in gemmi.read_structure(str(path))[0]["A"].get_polymer() if "CB" in r]
    places = np.array([[list(r[a][0].pos) for a in ("N", "CA", "C", "O")] for r in residues])
    sequence = "".join(chemistry.RESTYPE_3TO1[r.name] for r in residues)
    found = structures.beta_carbons(structures.Entry("1ubq_A", 1, sequence, places))
    true = np.array([list(r["CB"][0].pos) for r in residues])
    error = np.linalg.norm(found - true, axis=-1)
    assert len(error) == 70 and error.mean() < 0.15 and error.max() < 0.5


def test_pdb_files_say_the_same(tmp_path):
    """With a Cβ for all but glycine: without it no distance would be learnt."""
    (entry,) = decode(tmp_path / "db", {"1ABC_A": made()})
    path = tmp_path / "1abc_A.pdb"
    path.write_text("".join(structures.pdb_lines(entry)))
    residues = list(gemmi.read_structure(str(path))[0]["A"])
    assert "".join(chemistry.RESTYPE_3TO1[r.name] for r in residues) == SEQUENCE
    for residue, places in zip(residues, entry.backbone, strict=True):
        names = [atom.name for atom in residue]
        assert names == ["N", "CA", "C", "O", "CB"][: 4 if residue.name == "GLY" else 5]
        found = [list(residue[name][0].pos) for name in names[:4]]
        np.testing.assert_allclose(found, places, atol=0.0006)
        assert {atom.b_iso for atom in residue} == {100.0}
