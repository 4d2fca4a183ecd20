"""The constant tables, by hand-checked entries and by what they must agree on."""

import math

import numpy as np
import pytest

from records import chemistry as c


def test_orders():
    assert "".join(c.RESTYPES) == "ARNDCQEGHILKMFPSTWYV"
    assert c.RESTYPE_ORDER["X"] == c.UNKNOWN_INDEX == 20
    assert c.RESTYPE_NAMES[0] == "ALA" and c.RESTYPE_NAMES[19] == "VAL"
    assert c.RESTYPE_NAMES[20] == "UNK"
    assert c.RESTYPE_3TO1["TRP"] == "W"
    assert c.ATOM_TYPES[:5] == ("N", "CA", "C", "CB", "O") and c.ATOM_TYPES[36] == "OXT"
    assert len(set(c.ATOM_TYPES)) == 37
    assert c.sequence_to_aatype("AVXUB-").tolist() == [0, 19, 20, 20, 20, 20]


def test_hhblits_order_is_remapped():
    letters = "ACDEFGHIKLMNPQRSTVWY"
    mapped = [c.MAP_HHBLITS_TO_RESTYPE[c.HHBLITS_AA_TO_ID[letter]] for letter in letters]
    assert [c.RESTYPES[i] for i in mapped] == list(letters)
    assert c.MAP_HHBLITS_TO_RESTYPE[c.HHBLITS_AA_TO_ID["X"]] == 20
    assert c.MAP_HHBLITS_TO_RESTYPE[c.HHBLITS_AA_TO_ID["-"]] == c.GAP_INDEX
    for letter, meant in {"B": "D", "Z": "E", "U": "C", "J": "X", "O": "X"}.items():
        assert c.HHBLITS_AA_TO_ID[letter] == c.HHBLITS_AA_TO_ID[meant]
    assert set(c.HHBLITS_AA_TO_ID) == set("ABCDEFGHIJKLMNOPQRSTUVWXYZ-")


def test_atom_maps_are_inverse():
    for residue, name in enumerate(c.RESTYPE_NAMES):
        assert c.RESTYPE_ATOM14_MASK[residue].sum() == c.RESTYPE_ATOM37_MASK[residue].sum()
        for slot, atom in enumerate(c.ATOM14_NAMES[name]):
            if atom:
                column = c.RESTYPE_ATOM14_TO_ATOM37[residue, slot]
                assert c.ATOM_TYPES[column] == atom
                assert c.RESTYPE_ATOM37_TO_ATOM14[residue, column] == slot
            else:
                assert c.RESTYPE_ATOM14_MASK[residue, slot] == 0
    # Heavy atoms of the 20 amino acids, without OXT.
    assert c.RESTYPE_ATOM37_MASK.sum() == 167
    assert c.RESIDUE_ATOMS["GLY"] == ("N", "CA", "C", "O")
    assert c.RESTYPE_ATOM14_MASK[20].sum() == 0


def test_chi_angles():
    counts = dict(zip(c.RESTYPE_NAMES, c.CHI_MASK.sum(axis=-1), strict=True))
    assert counts["ALA"] == counts["GLY"] == counts["UNK"] == 0
    assert counts["ARG"] == counts["LYS"] == 4 and counts["MET"] == 3 and counts["TRP"] == 2
    periodic = {c.RESTYPE_NAMES[i]: chi for i, chi in np.argwhere(c.CHI_PI_PERIODIC)}
    assert periodic == {"ASP": 1, "GLU": 2, "PHE": 1, "TYR": 1}
    assert c.CHI_ATOMS["CYS"] == [("N", "CA", "CB", "SG")]
    assert [c.ATOM_TYPES[i] for i in c.CHI_ATOM_INDICES[1, 3]] == ["CG", "CD", "NE", "CZ"]


def test_renaming_swaps_only_symmetric_atoms():
    for residue, name in enumerate(c.RESTYPE_NAMES):
        matrix = c.RENAMING_MATRICES[residue]
        np.testing.assert_array_equal(matrix @ matrix, np.eye(14))
        moved = {
            (c.ATOM14_NAMES[name][i], c.ATOM14_NAMES[name][j])
            for i, j in np.argwhere(matrix)
            if i < j
        }
        assert moved == {(a, b) for r, a, b in c.AMBIGUOUS_ATOMS if r == name}
        np.testing.assert_array_equal(c.ATOM14_AMBIGUOUS[residue], 1 - np.diag(matrix))
    assert c.ATOM14_AMBIGUOUS.sum() == 12


def test_rigid_groups():
    rot = c.RIGID_GROUP_DEFAULT_FRAME[..., :3, :3]
    identity = np.broadcast_to(np.eye(3), rot.shape)
    np.testing.assert_allclose(rot @ np.swapaxes(rot, -1, -2), identity, atol=1e-6)
    np.testing.assert_allclose(np.linalg.det(rot), 1, atol=1e-6)
    np.testing.assert_array_equal(c.RIGID_GROUP_EXISTS[:, 4:], c.CHI_MASK)
    np.testing.assert_array_equal(c.RIGID_GROUP_EXISTS[:, [0, 3]], 1)
    np.testing.assert_array_equal(c.RIGID_GROUP_EXISTS[:, [1, 2]], 0)
    # A group's origin is the third atom of its torsion: C for psi, CB for chi1.
    leucine = c.RESTYPE_ORDER["L"]
    np.testing.assert_allclose(c.RIGID_GROUP_DEFAULT_FRAME[leucine, 3, :3, 3], [1.525, 0, 0])
    cb = c.ATOM14_IDEAL_POSITIONS[leucine, c.ATOM14_NAMES["LEU"].index("CB")]
    np.testing.assert_array_equal(c.RIGID_GROUP_DEFAULT_FRAME[leucine, 4, :3, 3], cb)
    # Fourth atoms of chi angles lie in their frame's xy plane, at positive y: angle zero.
    for residue, name in enumerate(c.RESTYPE_NAMES):
        for chi, atoms in enumerate(c.CHI_ATOMS[name]):
            slot = c.ATOM14_NAMES[name].index(atoms[3])
            assert c.ATOM14_TO_RIGID_GROUP[residue, slot] == 4 + chi
            _, y, z = c.ATOM14_IDEAL_POSITIONS[residue, slot]
            assert y > 1 and abs(z) < 0.01


@pytest.mark.parametrize("name", c.RESTYPE_NAMES[:20])
def test_ideal_atoms_keep_literature_bonds_within_a_group(name):
    residue = c.RESTYPE_NAMES.index(name)
    slots = {atom: i for i, atom in enumerate(c.ATOM14_NAMES[name]) if atom}
    checked = 0
    for bond in c.BONDS[name]:
        i, j = slots[bond.atom1], slots[bond.atom2]
        if c.ATOM14_TO_RIGID_GROUP[residue, i] == c.ATOM14_TO_RIGID_GROUP[residue, j]:
            offset = c.ATOM14_IDEAL_POSITIONS[residue, i] - c.ATOM14_IDEAL_POSITIONS[residue, j]
            assert np.linalg.norm(offset) == pytest.approx(bond.length, abs=0.05)
            checked += 1
    assert checked >= 2


def test_distance_bounds_by_hand():
    bounds = c.make_atom14_dists_bounds(1.5, 12.0)
    lower, upper, std = (bounds[k][0] for k in ("lower_bound", "upper_bound", "stddev"))
    n, ca, carbon, o = range(4)
    # Alanine's N-CA bond: 1.459 +- 0.020.
    assert lower[n, ca] == pytest.approx(1.459 - 12 * 0.020, abs=1e-6)
    assert upper[ca, n] == pytest.approx(1.459 + 12 * 0.020, abs=1e-6)
    # N...C by the law of cosines: 1.459, 1.525, 111.0 degrees.
    side = math.sqrt(1.459**2 + 1.525**2 - 2 * 1.459 * 1.525 * math.cos(math.radians(111.0)))
    assert (lower[n, carbon] + upper[n, carbon]) / 2 == pytest.approx(side, abs=1e-5)

    # Its deviation by finite differences of that formula.
    def length(b1, b2, angle):
        return math.sqrt(b1 * b1 + b2 * b2 - 2 * b1 * b2 * math.cos(angle))

    base, h = (1.459, 1.525, math.radians(111.0)), 1e-6
    errors = (0.020, 0.026, math.radians(2.7))
    slopes = [
        (length(*(v + h * (i == k) for i, v in enumerate(base))) - length(*base)) / h
        for k in range(3)
    ]
    expected = math.sqrt(sum((s * e) ** 2 for s, e in zip(slopes, errors, strict=True)))
    assert std[n, carbon] == pytest.approx(expected, rel=1e-4)
    # N...O are three bonds apart: only the van der Waals bound.
    assert lower[n, o] == pytest.approx(1.55 + 1.52 - 1.5, abs=1e-6) and upper[n, o] > 1e9
    assert not lower[:, 5:].any() and not np.diag(lower).any()
    for table in bounds.values():
        np.testing.assert_array_equal(table, np.swapaxes(table, 1, 2))
        assert not table[20].any()
    assert (bounds["lower_bound"] <= bounds["upper_bound"]).all()


def test_every_bond_and_angle_names_atoms_of_its_residue():
    for name in c.RESTYPE_NAMES[:20]:
        atoms = set(c.RESIDUE_ATOMS[name])
        bonded = {atom for bond in c.BONDS[name] for atom in bond[:2]}
        assert bonded == atoms
        assert all(set(angle[:3]) <= atoms for angle in c.ANGLES[name])
