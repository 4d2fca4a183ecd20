"""Residue and atom vocabularies, and the maps between atom14 and atom37.

atom37 gives every heavy atom name of the 20 amino acids one fixed column;
atom14 packs the atoms of one residue type densely (supplement 1.2.1, 1.8.2).
"""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np

RESTYPES: tuple[str, ...] = tuple("ARNDCQEGHILKMFPSTWYV")
RESTYPES_WITH_X: tuple[str, ...] = (*RESTYPES, "X")
UNKNOWN_INDEX = 20
GAP_INDEX = 21  # MSA only
MSA_MASK_INDEX = 22  # masked MSA token
RESTYPE_ORDER: dict[str, int] = {letter: i for i, letter in enumerate(RESTYPES_WITH_X)}

NUM_ATOM14 = 14
NUM_ATOM37 = 37


def read_table(name: str) -> list[dict[str, str]]:
    """Rows of one of the CSV files beside this module."""
    with (Path(__file__).parent / name).open(newline="", encoding="ascii") as file:
        return list(csv.DictReader(file))


RESTYPE_1TO3: dict[str, str] = {
    "A": "ALA", "R": "ARG", "N": "ASN", "D": "ASP", "C": "CYS",
    "Q": "GLN", "E": "GLU", "G": "GLY", "H": "HIS", "I": "ILE",
    "L": "LEU", "K": "LYS", "M": "MET", "F": "PHE", "P": "PRO",
    "S": "SER", "T": "THR", "W": "TRP", "Y": "TYR", "V": "VAL",
}  # fmt: skip
RESTYPE_3TO1: dict[str, str] = {three: one for one, three in RESTYPE_1TO3.items()}
RESTYPE_NAMES: tuple[str, ...] = (*(RESTYPE_1TO3[letter] for letter in RESTYPES), "UNK")

ATOM_TYPES: tuple[str, ...] = tuple(row["atom"] for row in read_table("atom37_order.csv"))
ATOM_ORDER: dict[str, int] = {name: i for i, name in enumerate(ATOM_TYPES)}

# Residue name -> 14 atom names, '' where there is none.
ATOM14_NAMES: dict[str, list[str]] = {
    row["residue"]: [row[str(slot)] for slot in range(NUM_ATOM14)]
    for row in read_table("atom14_order.csv")
}
RESIDUE_ATOMS: dict[str, tuple[str, ...]] = {
    residue: tuple(name for name in names if name) for residue, names in ATOM14_NAMES.items()
}


def _atom_maps() -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    to_37 = np.zeros([21, NUM_ATOM14], np.int32)
    to_14 = np.zeros([21, NUM_ATOM37], np.int32)
    mask_14 = np.zeros([21, NUM_ATOM14], np.float32)
    mask_37 = np.zeros([21, NUM_ATOM37], np.float32)
    for residue, name in enumerate(RESTYPE_NAMES):
        for slot, atom in enumerate(ATOM14_NAMES[name]):
            if atom:
                column = ATOM_ORDER[atom]
                to_37[residue, slot], to_14[residue, column] = column, slot
                mask_14[residue, slot] = mask_37[residue, column] = 1.0
    return to_37, to_14, mask_14, mask_37


# Absent atoms map to index 0: combine with the masks.
(
    RESTYPE_ATOM14_TO_ATOM37,  # [21, 14] int32
    RESTYPE_ATOM37_TO_ATOM14,  # [21, 37] int32
    RESTYPE_ATOM14_MASK,  # [21, 14] float32
    RESTYPE_ATOM37_MASK,  # [21, 37] float32
) = _atom_maps()


# (residue, atom, atom): names that a rotation by pi of the last chi angle swaps.
AMBIGUOUS_ATOMS: tuple[tuple[str, str, str], ...] = tuple(
    (row["residue"], row["atom"], row["swapped_with"]) for row in read_table("ambiguous_atoms.csv")
)


def _renaming() -> tuple[np.ndarray, np.ndarray]:
    ambiguous = np.zeros([21, NUM_ATOM14], np.float32)
    matrices = np.tile(np.eye(NUM_ATOM14, dtype=np.float32), [21, 1, 1])
    for residue, first, second in AMBIGUOUS_ATOMS:
        row = RESTYPE_NAMES.index(residue)
        a, b = (ATOM14_NAMES[residue].index(atom) for atom in (first, second))
        ambiguous[row, [a, b]] = 1.0
        matrices[row, [a, b]] = matrices[row, [b, a]]
    return ambiguous, matrices


# [21, 14] and [21, 14, 14]; a matrix times atom14 coordinates swaps the names.
ATOM14_AMBIGUOUS, RENAMING_MATRICES = _renaming()


# HHblits' alphabet: the letters in alphabetical order, X, gap.
HHBLITS_LETTERS = "ACDEFGHIKLMNPQRSTVWYX-"
HHBLITS_AA_TO_ID: dict[str, int] = {letter: i for i, letter in enumerate(HHBLITS_LETTERS)}
HHBLITS_AA_TO_ID |= {
    "B": HHBLITS_AA_TO_ID["D"],
    "Z": HHBLITS_AA_TO_ID["E"],
    "U": HHBLITS_AA_TO_ID["C"],
    "J": HHBLITS_AA_TO_ID["X"],
    "O": HHBLITS_AA_TO_ID["X"],
}
# [22] int32: HHblits' index -> RESTYPES_WITH_X index, gap 21.
MAP_HHBLITS_TO_RESTYPE = np.array(
    [RESTYPE_ORDER.get(letter, GAP_INDEX) for letter in HHBLITS_LETTERS], np.int32
)


def sequence_to_aatype(sequence: str) -> np.ndarray:
    """Residue types [R] int32 of a one-letter sequence; other letters are unknown (20)."""
    return np.array([RESTYPE_ORDER.get(letter, UNKNOWN_INDEX) for letter in sequence], np.int32)
