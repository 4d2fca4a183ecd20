"""One polymer chain as arrays: sequence, atom37 coordinates, masks (supplement 1.2.1).

``atoms_to_arrays`` is where every file format ends up.  It settles, per residue,
which alternate location is kept, what a modified residue's atoms are called and
which of arginine's two terminal nitrogens is NH1.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from Bio.Data import PDBData

from records.chemistry import (
    ATOM_ORDER,
    ATOM_TYPES,
    RESIDUE_ATOMS,
    RESTYPE_1TO3,
    RESTYPE_3TO1,
    sequence_to_aatype,
)
from records.errors import InputError

# Atoms taken of a residue, by its letter: its type's, and the last residue's second oxygen.
# Of an unknown residue (X) what every amino acid but glycine shares.
ATOMS_OF: dict[str, frozenset[str]] = {
    "X": frozenset(("N", "CA", "C", "CB", "O", "OXT")),
    **{one: frozenset((*RESIDUE_ATOMS[three], "OXT")) for one, three in RESTYPE_1TO3.items()},
}
AGAIN = "get the file again"
LEAVE_OUT = "leave the chain out"
MAX_COORDINATE = 1.0e6  # Å; anything beyond is not a coordinate


class Atom(NamedTuple):
    """One atom line: residue index from 0, names, altloc ('' if none), xyz in Å."""

    residue: int
    comp: str
    name: str
    altloc: str
    x: float
    y: float
    z: float
    occupancy: float
    b_factor: float


@dataclass(frozen=True)
class Chain:
    """A protein chain of R residues, observed or not.

    ``positions`` [R, 37, 3] in Å (0 where absent), ``mask`` [R, 37] uint8,
    ``b_factor`` [R] mean over the residue's atoms (the pLDDT of a prediction),
    ``resolution`` in Å (0 if unknown), ``release_date`` YYYY-MM-DD or ''.
    """

    chain_id: str  # "1ubq_A": file's entry, author's chain name
    sequence: str
    positions: np.ndarray
    mask: np.ndarray
    b_factor: np.ndarray
    resolution: float = 0.0
    release_date: str = ""
    unknown: tuple[str, ...] = ()  # "ZZZ 17": residue names without a one-letter code

    @property
    def aatype(self) -> np.ndarray:
        """[R] uint8 in RESTYPES_WITH_X order."""
        return np.asarray(sequence_to_aatype(self.sequence), np.uint8)

    @property
    def num_res(self) -> int:
        return len(self.sequence)


def one_letter(component: str) -> str:
    """The standard residue's letter; modified residues map to their parent, else 'X'.

    The table (Biopython's, from the PDB's chemical components) is the kind that
    AlphaFold used, so sequences agree with published alignments: MSE is M, SEP is
    S.  Chromophores that stand for several residues become one X, as there.
    """
    letter = RESTYPE_3TO1.get(component)
    if letter is None:
        letter = PDBData.protein_letters_3to1_extended.get(component.upper().ljust(3), "X")
    return letter if len(letter) == 1 and letter in RESTYPE_1TO3 else "X"


def parent_atom_name(component: str, name: str) -> str:
    """What the parent residue calls this atom (selenium stands where sulphur would)."""
    if name == "SE" and component in ("MSE", "MME", "FME"):
        return "SD"
    return name


def _pick_altloc(atoms: Sequence[Atom]) -> str:
    """The alternate location with the highest mean occupancy; ties go to the first name.

    DISCREPANCY: AlphaFold (through Biopython) chooses atom by atom, which can mix two
    conformers in one residue; here a residue is of one conformer.
    """
    totals: dict[str, list[float]] = {}
    for atom in atoms:
        if atom.altloc:
            totals.setdefault(atom.altloc, []).append(atom.occupancy)
    if not totals:
        return ""
    return min(totals, key=lambda loc: (-sum(totals[loc]) / len(totals[loc]), loc))


def atoms_to_arrays(
    sequence: str, atoms: Iterable[Atom]
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Atom lines to positions [R, 37, 3] Å, mask [R, 37] uint8 and mean B-factor [R].

    Atoms that the residue's parent type does not have are left out, and the first of
    two lines for one atom wins.  Raises InputError for a coordinate that is no number.
    """
    num_res = len(sequence)
    positions = np.zeros((num_res, 37, 3))
    mask = np.zeros((num_res, 37), np.uint8)
    b_factor = np.zeros(num_res, np.float32)
    by_residue: dict[int, list[Atom]] = {}
    for atom in atoms:
        by_residue.setdefault(atom.residue, []).append(atom)
    for index, lines in by_residue.items():
        allowed = ATOMS_OF[sequence[index]]
        keep = _pick_altloc(lines)
        b_values = []
        for atom in lines:
            if atom.altloc not in ("", keep):
                continue
            name = parent_atom_name(atom.comp, atom.name)
            if name not in allowed or mask[index, ATOM_ORDER[name]]:
                continue
            column = ATOM_ORDER[name]
            positions[index, column] = atom.x, atom.y, atom.z
            mask[index, column] = 1
            b_values.append(atom.b_factor)
        if b_values:
            b_factor[index] = sum(b_values) / len(b_values)
    bad = ~(np.abs(positions) < MAX_COORDINATE)  # NaN too
    if bad.any():
        index, column, _ = np.argwhere(bad)[0].tolist()
        raise InputError(
            "coordinate is not finite",
            item=f"residue {index + 1} {sequence[index]} atom {ATOM_TYPES[column]}",
            mend=AGAIN,
        )
    positions = positions.astype(np.float32)
    _name_arginine_nitrogens(sequence, positions, mask)
    return positions, mask, b_factor


def _name_arginine_nitrogens(sequence: str, positions: np.ndarray, mask: np.ndarray) -> None:
    """NH1 is the terminal nitrogen nearer to CD (IUPAC); swap in place where it is not."""
    cd, nh1, nh2 = (ATOM_ORDER[name] for name in ("CD", "NH1", "NH2"))
    arginine = np.frombuffer(sequence.encode(), np.uint8) == ord("R")
    complete = arginine & (mask[:, [cd, nh1, nh2]].sum(-1) == 3)
    to_nh1 = np.linalg.norm(positions[:, nh1] - positions[:, cd], axis=-1)
    to_nh2 = np.linalg.norm(positions[:, nh2] - positions[:, cd], axis=-1)
    swap = np.flatnonzero(complete & (to_nh1 > to_nh2))
    positions[swap[:, None], [nh1, nh2]] = positions[swap[:, None], [nh2, nh1]]


def check_backbone(chain: Chain) -> None:
    """Raise InputError for a chain that nothing can be learned from."""
    if not chain.mask.any():
        raise InputError("no residue is observed", mend=LEAVE_OUT)
    n, ca, c = (ATOM_ORDER[name] for name in ("N", "CA", "C"))
    if not (chain.mask[:, [n, ca, c]].sum(-1) == 3).any():
        what = "C-alpha only" if not chain.mask[:, [n, c]].any() else "no complete backbone"
        raise InputError(what, mend=LEAVE_OUT)


def located(error: InputError, file: object, item: str | None = None) -> InputError:
    """The same error, told with the file and with the item before its own item."""
    items = ", ".join(part for part in (item, error.item) if part)
    return type(error)(error.what, file=file, item=items or None, mend=error.mend)
