"""PDB files: the protein chains of the first model, as arrays."""

from __future__ import annotations

import os
from collections.abc import Sequence

import gemmi
import numpy as np

from records.errors import InputError
from records.structure import AGAIN, Atom, Chain, atoms_to_arrays, located, one_letter


def read_chains(text: str, file: object, *, unknown: bool) -> list[tuple[str, list[gemmi.Residue]]]:
    """Name and residues of every protein chain of the first model, in order.

    Waters, ligands and nucleic acids are left out; residues of an unknown type are too, or,
    if ``unknown``, only where the file calls them no part of the chain (HETATM).  Raises
    InputError.
    """
    try:
        # The format is ASCII; a name cut inside a longer character could not be decoded.
        structure = gemmi.read_pdb_string(text.encode("ascii", "replace").decode("ascii"))
    except (RuntimeError, ValueError) as error:
        raise InputError("not a PDB file", file=file, item=str(error), mend=AGAIN) from error
    if not len(structure) or not len(structure[0]):
        raise InputError("holds no atoms", file=file, mend=AGAIN)
    chains = []
    for chain in structure[0]:
        residues = [
            residue
            for residue in chain
            if one_letter(residue.name) != "X" or (unknown and residue.het_flag == "A")
        ]
        if residues:
            chains.append((chain.name, residues))
    return chains


def residues_to_arrays(
    residues: Sequence[gemmi.Residue], file: object
) -> tuple[str, np.ndarray, np.ndarray, np.ndarray]:
    """Sequence, positions [R, 37, 3] Å, mask [R, 37] uint8 and mean B-factor [R], no hydrogens.

    Raises InputError for a coordinate that is no number.
    """
    sequence = "".join(one_letter(residue.name) for residue in residues)
    atoms = (
        Atom(
            index, residue.name, atom.name, atom.altloc.strip("\0"),
            atom.pos.x, atom.pos.y, atom.pos.z, atom.occ, atom.b_iso,
        )
        for index, residue in enumerate(residues)
        for atom in residue
        if not atom.is_hydrogen()
    )  # fmt: skip
    try:
        return sequence, *atoms_to_arrays(sequence, atoms)
    except InputError as error:
        raise located(error, file) from error


def read_models(path: str | os.PathLike, text: str, name: str) -> dict[str, Chain]:
    """The protein chains of a predicted structure, by their names in the file.

    The sequence is what the atoms say (a prediction has every residue), SEQRES is not
    needed; B-factors are the per-residue confidence.  Raises InputError.
    """
    parts: dict[str, list[gemmi.Residue]] = {}
    for part, residues in read_chains(text, path, unknown=True):
        parts.setdefault(part, []).extend(residues)
    chains = {}
    for part, residues in parts.items():
        # Microheterogeneity would repeat a number with another name; a prediction has none.
        sequence, positions, mask, b_factor = residues_to_arrays(residues, path)
        unknown = tuple(
            f"{residue.name} {residue.seqid}"
            for residue, letter in zip(residues, sequence, strict=True)
            if letter == "X"
        )
        chains[part] = Chain(name, sequence, positions, mask, b_factor, unknown=unknown)
    return chains


def read_model(path: str | os.PathLike, text: str, name: str) -> Chain:
    """A predicted structure: its single protein chain.  Raises InputError."""
    chains = read_models(path, text, name)
    if len(chains) != 1:
        raise InputError(
            f"{len(chains)} protein chains, not one",
            file=path,
            item=" ".join(sorted(chains)) or None,
            mend="a predicted structure holds one chain; of a complex, pass --complexes",
        )
    return next(iter(chains.values()))
