"""Torsion angles and the eight rigid groups of a residue (supplement 1.8.2, Table 2).

Group 0 is the backbone (N, CA, C, CB), 1 pre-omega and 2 phi (no heavy atoms),
3 psi (O), 4 to 7 the side chain beyond chi1 to chi4.
"""

from __future__ import annotations

import numpy as np

from records.chemistry.residues import (
    ATOM14_NAMES,
    ATOM_ORDER,
    NUM_ATOM14,
    RESTYPE_NAMES,
    read_table,
)

RIGID_GROUP_NAMES = ("backbone", "pre_omega", "phi", "psi", "chi1", "chi2", "chi3", "chi4")

# Residue name -> the four atoms of each of its chi angles.
CHI_ATOMS: dict[str, list[tuple[str, str, str, str]]] = {name: [] for name in RESTYPE_NAMES}


def _chi_tables() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    indices = np.zeros([21, 4, 4], np.int32)
    mask = np.zeros([21, 4], np.float32)
    pi_periodic = np.zeros([21, 4], np.float32)
    for row in read_table("chi_atoms.csv"):
        residue, chi = RESTYPE_NAMES.index(row["residue"]), int(row["chi"]) - 1
        atoms = (row["atom1"], row["atom2"], row["atom3"], row["atom4"])
        CHI_ATOMS[row["residue"]].append(atoms)
        indices[residue, chi] = [ATOM_ORDER[atom] for atom in atoms]
        mask[residue, chi] = 1.0
        pi_periodic[residue, chi] = float(row["pi_periodic"])
    return indices, mask, pi_periodic


# Atom37 indices of the chi angles' atoms [21, 4, 4], which angles a residue
# has [21, 4], and which of them look the same after a rotation by pi [21, 4].
CHI_ATOM_INDICES, CHI_MASK, CHI_PI_PERIODIC = _chi_tables()


def _group_atoms() -> tuple[np.ndarray, np.ndarray, dict[str, dict[str, np.ndarray]]]:
    group = np.zeros([21, NUM_ATOM14], np.int32)
    positions = np.zeros([21, NUM_ATOM14, 3], np.float32)
    by_name: dict[str, dict[str, np.ndarray]] = {name: {} for name in RESTYPE_NAMES}
    for row in read_table("rigid_group_atoms.csv"):
        residue = RESTYPE_NAMES.index(row["residue"])
        slot = ATOM14_NAMES[row["residue"]].index(row["atom"])
        xyz = np.array([float(row[f"{axis}_angstrom"]) for axis in "xyz"])
        group[residue, slot] = RIGID_GROUP_NAMES.index(row["group"])
        positions[residue, slot] = xyz
        by_name[row["residue"]][row["atom"]] = xyz
    return group, positions, by_name


# Each atom's group [21, 14] and its place (Å) in that group's frame [21, 14, 3].
ATOM14_TO_RIGID_GROUP, ATOM14_IDEAL_POSITIONS, _IDEAL = _group_atoms()


def _frame_4x4(ex: np.ndarray, ey: np.ndarray, origin: np.ndarray) -> np.ndarray:
    """Transform whose x axis is along `ex` and whose xy plane holds `ey`."""
    ex = ex / np.linalg.norm(ex)
    ey = ey - ex * (ey @ ex)
    ey = ey / np.linalg.norm(ey)
    frame = np.eye(4)
    frame[:3] = np.stack([ex, ey, np.cross(ex, ey), origin], axis=-1)
    return frame


def _default_frames() -> np.ndarray:
    frames = np.tile(np.eye(4), [21, 8, 1, 1])
    for residue, name in enumerate(RESTYPE_NAMES):
        ideal = _IDEAL[name]
        if not ideal:
            continue
        n, ca, c = ideal["N"], ideal["CA"], ideal["C"]
        frames[residue, 2] = _frame_4x4(n - ca, np.array([1.0, 0.0, 0.0]), n)
        frames[residue, 3] = _frame_4x4(c - ca, ca - n, c)
        for chi, (first, second, third, _) in enumerate(CHI_ATOMS[name]):
            if chi == 0:
                frames[residue, 4] = _frame_4x4(
                    ideal[third] - ideal[second], ideal[first] - ideal[second], ideal[third]
                )
            else:  # the axis starts at the previous group's origin, which lies on its x axis
                frames[residue, 4 + chi] = _frame_4x4(
                    ideal[third], np.array([-1.0, 0.0, 0.0]), ideal[third]
                )
    return frames.astype(np.float32)


# [21, 8, 4, 4]: a group's frame at torsion angle zero in its parent's frame
# (chi2 to chi4: the previous chi group; the others: the backbone).
# DISCREPANCY: groups that a residue lacks hold the identity, where DeepMind's
# tables hold zeros; they are masked everywhere, and so stay proper rotations.
RIGID_GROUP_DEFAULT_FRAME = _default_frames()


def _frame_atoms() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    # An unknown residue has a backbone too.
    atoms = np.zeros([21, 8, 3], np.int32)
    exists = np.zeros([21, 8], np.float32)
    ambiguous = np.zeros([21, 8], np.float32)
    for residue, name in enumerate(RESTYPE_NAMES):
        bases = {0: ("C", "CA", "N"), 3: ("CA", "C", "O")}
        bases |= {4 + chi: names[1:] for chi, names in enumerate(CHI_ATOMS[name])}
        for group, triple in bases.items():
            atoms[residue, group] = [ATOM_ORDER[atom] for atom in triple]
            exists[residue, group] = 1.0
        ambiguous[residue, 4:] = CHI_PI_PERIODIC[residue]
    return atoms, exists, ambiguous


# The atom37 triples (point on -x, origin, point in the xy plane) that define
# each label frame [21, 8, 3], which exist [21, 8], and which have two names [21, 8].
RIGID_GROUP_ATOM37_INDICES, RIGID_GROUP_EXISTS, RIGID_GROUP_AMBIGUOUS = _frame_atoms()
