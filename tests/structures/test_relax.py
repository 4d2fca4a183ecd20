"""Relaxation: real structures, damaged on purpose, come out whole and where they were."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from records.chemistry import ATOM_ORDER, RESTYPES_WITH_X
from records.errors import InputError
from records.mmcif import Entry
from tffold.cli.relax import main
from tffold.config import RelaxConfig
from tffold.structures import relax as relaxation
from tffold.structures.files import Structure, mmcif_text, pdb_text, read_pdb
from tffold.structures.relax import _segments, relax, violations

pytestmark = pytest.mark.slow

MMCIF = Path(__file__).parents[2] / "examples" / "demo" / "mmcif"


def real_structure(entry: str, chain: str, count: int | None = None) -> Structure:
    read = Entry(MMCIF / f"{entry}.cif.gz").chain(chain)
    part = slice(count)
    return Structure(
        aatype=read.aatype[part].astype(np.int32),
        atom_positions=read.positions[part],
        atom_mask=read.mask[part].astype(np.float32),
        residue_index=np.arange(1, read.num_res + 1)[part],
        b_factors=np.zeros((read.num_res, 37), np.float32)[part],
        chain_id=chain,
    ).with_b_factors(np.linspace(20.0, 90.0, read.num_res)[part])


@pytest.fixture(scope="module")
def ubiquitin() -> Structure:
    return real_structure("1ubq", "A")


@pytest.fixture
def hairpin() -> Structure:
    return real_structure("1ubq", "A", 18)


def moved(structure: Structure, residues: slice | int, atoms: list[str], by: list[float]):
    positions = structure.atom_positions.copy()
    slots = [ATOM_ORDER[name] for name in atoms] if atoms else slice(None)
    positions[residues, slots] += np.asarray(by, np.float32)
    return replace(structure, atom_positions=positions)


# --- violations and pieces: no OpenMM needed ----------------------------------


def kinds(structure: Structure) -> dict[str, list[int]]:
    return {k: np.flatnonzero(v).tolist() for k, v in violations([structure]).items()}


def test_a_crystal_structure_has_no_violations(ubiquitin):
    assert kinds(ubiquitin) == {"bonds": [], "clashes": [], "within": []}


def test_each_kind_of_damage_is_found_where_it_is(ubiquitin):
    broken = moved(ubiquitin, slice(40, None), [], [0.0, 0.0, 1.5])
    assert kinds(broken)["bonds"] == [39, 40]
    stretched = moved(ubiquitin, 26, ["NZ"], [1.5, 0.0, 0.0])
    assert kinds(stretched)["within"] == [26]
    onto = ubiquitin.atom_positions[60, ATOM_ORDER["CD1"]]
    target = onto - ubiquitin.atom_positions[44, ATOM_ORDER["CZ"]]
    clashing = moved(ubiquitin, 44, ["CZ"], list(0.7 * target))
    assert {44, 60} <= set(kinds(clashing)["clashes"])


def test_chains_are_no_neighbours(ubiquitin):
    """Two copies far apart: the end of one and the start of the other are not bonded."""
    other = replace(ubiquitin, atom_positions=ubiquitin.atom_positions + 100.0, chain_id="B")
    found = violations([ubiquitin, other])
    assert len(found["bonds"]) == 152
    assert not any(values.any() for values in found.values())
    found = violations([ubiquitin, replace(other, atom_positions=ubiquitin.atom_positions)])
    assert found["clashes"].all()


def test_pieces_end_at_gaps_alone(ubiquitin):
    gap = np.where(np.arange(76) < 40, 0, 3)
    renumbered = replace(ubiquitin, residue_index=ubiquitin.residue_index + gap)
    assert _segments(renumbered) == [range(76)]  # numbers jump, atoms are bonded
    keep = np.r_[0:30, 35:76]
    cut = Structure(
        *(getattr(ubiquitin, name)[keep] for name in
          ("aatype", "atom_positions", "atom_mask", "residue_index", "b_factors"))
    )  # fmt: skip
    assert _segments(cut) == [range(30), range(30, 71)]
    torn = moved(ubiquitin, slice(40, None), [], [0.0, 0.0, 9.0])
    assert _segments(torn) == [range(76)]  # numbers follow: it is to be bonded


def test_without_openmm_the_extra_is_named(ubiquitin, monkeypatch):
    monkeypatch.setattr(relaxation.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(InputError, match=r"tffold\[relax\]"):
        relax([ubiquitin], RelaxConfig())


# --- minimisation -------------------------------------------------------------


@pytest.fixture
def openmm():
    pytest.importorskip("pdbfixer", reason="tffold[relax] is not installed")
    return pytest.importorskip("openmm", reason="tffold[relax] is not installed")


def _clash(s: Structure) -> Structure:
    ring = ["CG", "CD1", "CD2", "CE1", "CE2", "CZ"]  # of F45, pushed into I61
    way = s.atom_positions[60, ATOM_ORDER["CD1"]] - s.atom_positions[44, ATOM_ORDER["CZ"]]
    return moved(s, 44, ring, list(0.7 * way))


def _noise(s: Structure) -> Structure:
    step = np.random.default_rng(0).normal(scale=0.25, size=s.atom_positions.shape)
    return replace(s, atom_positions=(s.atom_positions + step).astype("float32"))


def _coincident(s: Structure) -> Structure:
    positions = s.atom_positions.copy()
    positions[10, ATOM_ORDER["NZ"]] = positions[33, ATOM_ORDER["CA"]]
    return replace(s, atom_positions=positions)


DAMAGE = {
    "broken chain": (lambda s: moved(s, slice(38, None), [], [1.2, 0.8, 0.0]), "bonds", 0.5),
    "shifted residue": (lambda s: moved(s, 20, [], [1.5, 1.0, -1.0]), "bonds", 0.5),
    "clash": (_clash, "clashes", 0.5),
    "stretched side chain": (lambda s: moved(s, 26, ["NZ"], [1.5, 0.0, 0.0]), "within", 0.5),
    "noise": (_noise, "within", 0.7),
    "atoms on each other": (_coincident, "clashes", 1.0),
}


@pytest.mark.parametrize("name", DAMAGE)
def test_damaged_structures_come_out_whole(openmm, ubiquitin, name):
    damage, kind, limit = DAMAGE[name]
    damaged = damage(ubiquitin)
    result = relax([damaged], RelaxConfig(platform="CPU"))
    report = result.report
    assert report["violations_before"][kind] > 0
    assert report["violations_after"] == {"bonds": 0, "clashes": 0, "within": 0, "residues": 0}
    assert not any(v.any() for v in violations(result.structures).values())
    assert 0.0 < report["rmsd"] < limit
    assert report["energy_after"] < -1500.0
    before = report["energy_before"]
    assert before is None or before > report["energy_after"]


def test_what_is_written_is_the_same_chain_with_hydrogens(openmm, ubiquitin, tmp_path):
    numbered = replace(ubiquitin, residue_index=ubiquitin.residue_index + 100, chain_id="Q")
    result = relax([numbered], RelaxConfig())
    path = tmp_path / "relaxed.pdb"
    path.write_text(result.pdb_text)
    (read,) = read_pdb(path)
    assert (read.chain_id, read.sequence) == ("Q", ubiquitin.sequence)
    np.testing.assert_array_equal(read.residue_index, numbered.residue_index)
    np.testing.assert_allclose(read.b_factors[:, 1], numbered.b_factors[:, 1], atol=0.01)
    np.testing.assert_allclose(read.atom_positions, result.structures[0].atom_positions, atol=2e-3)
    hydrogens = [
        ln for ln in result.pdb_text.splitlines() if ln.startswith("ATOM") and ln[77] == "H"
    ]
    assert len(hydrogens) == 629  # ubiquitin's at pH 7


def test_stiff_restraints_hold_and_loose_ones_do_not(openmm, hairpin):
    rmsd = [
        relax([hairpin], RelaxConfig(stiffness=k, max_rounds=1)).report["rmsd"]
        for k in (1000.0, 0.0)
    ]
    assert rmsd[0] < 0.1 < rmsd[1]


def test_a_second_round_frees_what_is_left_violated(openmm, hairpin):
    """Restraints too stiff to mend anything: only freed residues can be mended."""
    damaged = moved(hairpin, slice(9, None), [], [1.2, 0.8, 0.0])
    stiff = RelaxConfig(stiffness=1.0e4, max_rounds=1)
    once = relax([damaged], stiff).report
    assert once["violating_residues"] and once["freed_residues"] == []
    more = relax([damaged], replace(stiff, max_rounds=4)).report
    assert more["rounds"] > 1
    assert set(once["violating_residues"]) <= set(more["freed_residues"])
    assert len(more["violating_residues"]) < len(once["violating_residues"])


def test_disulfides_gaps_and_missing_atoms(openmm):
    """Two pieces of trypsin with one of its disulfides, and a side chain cut off."""
    whole = real_structure("1gbt", "A")
    cysteines = np.flatnonzero(whole.aatype == RESTYPES_WITH_X.index("C"))
    sulphur = whole.atom_positions[cysteines, ATOM_ORDER["SG"]]
    near = np.linalg.norm(sulphur[:, None] - sulphur[None], axis=-1) < 2.5
    pairs = [tuple(cysteines[list(p)]) for p in np.argwhere(np.triu(near, 1))]
    assert (24, 40) in pairs
    keep = np.r_[20:30, 38:44]
    part = Structure(
        *(getattr(whole, name)[keep] for name in
          ("aatype", "atom_positions", "atom_mask", "residue_index", "b_factors"))
    )  # fmt: skip
    mask = part.atom_mask.copy()
    mask[0, 5:] = 0.0  # side chain beyond CB and O
    result = relax([replace(part, atom_mask=mask)], RelaxConfig())
    assert result.report["disulfide_bonds"] == 1
    assert result.report["violations_after"]["residues"] == 0
    relaxed = result.structures[0]
    distance = (
        relaxed.atom_positions[4, ATOM_ORDER["SG"]] - relaxed.atom_positions[12, ATOM_ORDER["SG"]]
    )
    assert np.linalg.norm(distance) == pytest.approx(2.05, abs=0.1)
    np.testing.assert_array_equal(relaxed.atom_mask[0, :5], part.atom_mask[0, :5])
    assert relaxed.atom_mask[0].sum() >= part.atom_mask[0].sum()  # mended
    oxygens = relaxed.atom_mask[:, ATOM_ORDER["OXT"]]
    assert oxygens[-1] == 1 and oxygens[:-1].sum() == 0  # no chain end at the gap
    ends = relaxed.atom_positions[9, ATOM_ORDER["C"]] - relaxed.atom_positions[10, ATOM_ORDER["N"]]
    assert np.linalg.norm(ends) > 3.0  # and nothing pulled across it


def test_chains_stay_apart(openmm, hairpin, tmp_path):
    """The second chain's first nitrogen lies where the first chain's next one would be bonded."""
    carbon = hairpin.atom_positions[-1, ATOM_ORDER["C"]]
    nitrogen = hairpin.atom_positions[0, ATOM_ORDER["N"]]
    # Away from the first chain's middle.
    out = carbon - hairpin.atom_positions[:, ATOM_ORDER["CA"]].mean(0)
    out /= np.linalg.norm(out)
    placed = hairpin.atom_positions + (carbon - nitrogen + 1.6 * out)
    unknown = hairpin.aatype.copy()
    unknown[4] = RESTYPES_WITH_X.index("X")
    other = replace(
        hairpin, atom_positions=placed, chain_id="B", residue_index=hairpin.residue_index + 18,
        aatype=unknown, atom_mask=hairpin.atom_mask * (unknown != 20)[:, None],
    )  # fmt: skip
    apart = replace(other, atom_positions=placed + 60.0 * out)
    assert not violations([hairpin, apart])["bonds"].any()  # though the numbers follow
    result = relax([hairpin, other], RelaxConfig(max_rounds=1))
    first, second = result.structures
    assert (first.chain_id, second.chain_id) == ("A", "B")
    np.testing.assert_array_equal(second.aatype, unknown)  # X is kept, without atoms
    assert second.atom_mask[4].sum() == 0
    ends = first.atom_positions[-1, ATOM_ORDER["C"]] - second.atom_positions[0, ATOM_ORDER["N"]]
    assert np.linalg.norm(ends) > 2.4  # pushed apart, not bonded
    oxt = ATOM_ORDER["OXT"]
    assert first.atom_mask[-1, oxt] == second.atom_mask[-1, oxt] == 1
    lines = result.pdb_text.splitlines()
    assert [line[21] for line in lines if line.startswith("TER")] == ["A", "B"]
    path = tmp_path / "relaxed.pdb"
    path.write_text(result.pdb_text)
    assert [(c.chain_id, len(c.aatype)) for c in read_pdb(path)] == [("A", 18), ("B", 17)]
    mmcif_text(result.structures, plddt=np.zeros(36))  # as many residues as were predicted


def test_the_command_line(openmm, hairpin, tmp_path, capsys):
    damaged, out = tmp_path / "damaged.pdb", tmp_path / "relaxed.pdb"
    damaged.write_text(pdb_text([moved(hairpin, 9, [], [1.5, 1.0, -1.0])]))
    assert main([str(damaged), str(out), "--platform", "CPU"]) == 0
    assert '"violating_residues": []' in capsys.readouterr().out
    assert len(read_pdb(out)) == 1
    assert main([str(tmp_path / "none.pdb"), str(out)]) == 2
    assert "none.pdb" in capsys.readouterr().err
    assert main([str(damaged), str(out), "--platform", "Abacus"]) == 2
    assert "CPU" in capsys.readouterr().err
    stiff = ["--stiffness", "10000", "--max-rounds", "1"]
    assert main([str(damaged), str(out), *stiff]) == 1
