"""Bond lengths, bond angles and van der Waals radii (supplement 1.9.11).

Means and standard deviations are Engh and Huber's (2001); lengths in Å,
angles in radians.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from records.chemistry.residues import (
    ATOM14_NAMES,
    ATOM_TYPES,
    NUM_ATOM14,
    RESTYPE_NAMES,
    read_table,
)


class MeanStd(NamedTuple):
    """A literature value and its standard deviation."""

    mean: float
    std: float


class Bond(NamedTuple):
    """Two bonded atoms; lengths in Å."""

    atom1: str
    atom2: str
    length: float
    std: float


class Angle(NamedTuple):
    """The angle at `atom2`, in radians."""

    atom1: str
    atom2: str
    atom3: str
    angle: float
    std: float


# Radii (Å) by element, which is the first letter of an atom's name.
VDW_RADIUS: dict[str, float] = {"C": 1.7, "N": 1.55, "O": 1.52, "S": 1.8}
ATOM37_VDW_RADIUS = np.array([VDW_RADIUS[name[0]] for name in ATOM_TYPES], np.float32)

# The peptide bond between residues i and i+1; the second entry where i+1 is proline.
PEPTIDE_BOND_LENGTH = MeanStd(1.329, 0.014)
PEPTIDE_BOND_LENGTH_PROLINE = MeanStd(1.341, 0.016)
COS_CA_C_N = MeanStd(-0.4473, 0.0311)  # 116.568 +- 1.995 degrees
COS_C_N_CA = MeanStd(-0.5203, 0.0353)  # 121.352 +- 2.315 degrees
CA_CA_DISTANCE = 3.80209737096  # between neighbours in trans


def _bonds() -> dict[str, list[Bond]]:
    table: dict[str, list[Bond]] = {name: [] for name in RESTYPE_NAMES}
    for row in read_table("bonds.csv"):
        first, second = row["atoms"].split("-")
        table[row["residue"]].append(
            Bond(first, second, float(row["mean_angstrom"]), float(row["std_angstrom"]))
        )
    return table


def _angles() -> dict[str, list[Angle]]:
    table: dict[str, list[Angle]] = {name: [] for name in RESTYPE_NAMES}
    for row in read_table("angles.csv"):
        mean, std = (math.radians(float(row[key])) for key in ("mean_degree", "std_degree"))
        table[row["residue"]].append(Angle(*row["atoms"].split("-"), mean, std))
    return table


BONDS: dict[str, list[Bond]] = _bonds()
ANGLES: dict[str, list[Angle]] = _angles()


def _opposite_side(first: Bond, second: Bond, angle: Angle) -> MeanStd:
    """Length of the third side of a triangle, and its deviation by linear error propagation."""
    cos, sin = math.cos(angle.angle), math.sin(angle.angle)
    a, b = first.length, second.length
    length = math.sqrt(a * a + b * b - 2.0 * a * b * cos)
    by_angle = a * b * sin / length
    by_a, by_b = (a - b * cos) / length, (b - a * cos) / length
    std = math.hypot(by_angle * angle.std, by_a * first.std, by_b * second.std)
    return MeanStd(length, std)


def make_atom14_dists_bounds(
    overlap_tolerance_angstrom: float = 1.5, bond_length_tolerance_factor: float = 15.0
) -> dict[str, np.ndarray]:
    """Allowed distances within a residue (supplement 1.9.11, within-residue bounds).

    Bonded atoms, and atoms two bonds apart, may depart from the literature by
    `bond_length_tolerance_factor` standard deviations; all others must keep
    their van der Waals radii apart, less `overlap_tolerance_angstrom`.

    Returns:
        `lower_bound`, `upper_bound` and `stddev`, each float32 [21, 14, 14] in Å;
        zero where an atom does not exist and on the diagonal.
    """
    lower = np.zeros([21, NUM_ATOM14, NUM_ATOM14], np.float32)
    upper = np.zeros_like(lower)
    stddev = np.zeros_like(lower)
    for residue, name in enumerate(RESTYPE_NAMES):
        slots = {atom: slot for slot, atom in enumerate(ATOM14_NAMES[name]) if atom}
        for atom1, i in slots.items():
            for atom2, j in slots.items():
                if i != j:
                    radii = VDW_RADIUS[atom1[0]] + VDW_RADIUS[atom2[0]]
                    lower[residue, i, j] = radii - overlap_tolerance_angstrom
                    upper[residue, i, j] = 1e10
        bonds = {frozenset(bond[:2]): bond for bond in BONDS[name]}
        limits = {pair: MeanStd(bond.length, bond.std) for pair, bond in bonds.items()}
        for angle in ANGLES[name]:
            first = bonds[frozenset(angle[:2])]
            second = bonds[frozenset(angle[1:3])]
            limits[frozenset((angle.atom1, angle.atom3))] = _opposite_side(first, second, angle)
        for pair, (mean, std) in limits.items():
            i, j = (slots[atom] for atom in pair)
            margin = bond_length_tolerance_factor * std
            for index in ((residue, i, j), (residue, j, i)):
                lower[index], upper[index] = mean - margin, mean + margin
                stddev[index] = std
    return {"lower_bound": lower, "upper_bound": upper, "stddev": stddev}
