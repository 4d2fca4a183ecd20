"""Reads the structure database of Debian's ``promod3-data`` and chooses chains to learn from.

The format is not described anywhere that we know.  It was found by reading sizes: after a short
header comes the number of entries, the entries name a PDB id and a chain, and the arrays behind
them are preceded by their lengths, which are all the same number of residues.  What the numbers
mean was then checked on coordinates: as 0.01 Å, with each chain's own origin, they give
Cα–Cα steps of 3.8 Å and, for seven chains, their PDB entries at 0.005 Å RMSD.

Little-endian.  An entry: PDB id and chain name (each a uint32 length and letters), offset (uint32),
size and first residue (uint16), origin (three float32).  Then arrays, each after its length as
uint64: residue letters; N, CA, C, O as 12 uint16; two int16 dihedrals; a uint16 accessibility; a
uint16 depth; a DSSP letter; two profiles, which are not read.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from records import chemistry
from records.errors import InputError
from records.sources import normalized

SCALE = 0.01  # Å
MIN_LENGTH, MAX_LENGTH = 40, 200
AGAIN = "get promod3-data 3.2.1 again: another version may have another format"
_LETTERS = frozenset(b"ACDEFGHIKLMNPQRSTVWY")
_HEADER = 4096  # bytes within which the entries begin


@dataclass(frozen=True)
class Entry:
    """One chain, as 1ubq_A: ``backbone`` [i, 4, 3] Å of N, CA, C, O.

    ``first_residue`` counts from 1.
    """

    name: str
    first_residue: int
    sequence: str
    backbone: np.ndarray


def read_database(path: Path) -> list[Entry]:
    """All chains of ``structure_db.dat``.  Raises InputError for a file of another format."""
    try:
        data = memoryview(path.read_bytes())
    except OSError as error:
        raise InputError(str(error.strerror), file=path, mend=AGAIN) from error
    try:
        return _decode(data)
    except (ValueError, IndexError, UnicodeDecodeError) as error:
        raise InputError(f"not a structure database ({error})", file=path, mend=AGAIN) from error


def _number(data: memoryview, at: int, size: int) -> int:
    if at + size > len(data):
        raise ValueError("cut off")
    return int.from_bytes(data[at : at + size], "little")


def _find_entries(data: memoryview) -> int:
    """Where the number of entries stands: before a 4-letter PDB id with its length."""
    found = re.search(rb"\x04\0\0\0[0-9][0-9A-Z]{3}[\x01-\x04]\0\0\0", data[:_HEADER])
    if not found or found.start() < 8:
        raise ValueError("no entries")
    return found.start() - 8


def _decode(data: memoryview) -> list[Entry]:
    at = _find_entries(data)
    count = _number(data, at, 8)
    at += 8
    heads = []
    for _ in range(count):
        words = []
        for _ in range(2):
            size = _number(data, at, 4)
            words.append(bytes(data[at + 4 : at + 4 + size]).decode("ascii"))
            at += 4 + size
        start, size = _number(data, at, 4), _number(data, at + 4, 2)
        first = _number(data, at + 6, 2)
        heads.append((normalized("_".join(words)), start, size, first))
        at += 8 + 12
    total = _number(data, at, 8)
    letters = np.frombuffer(data, np.uint8, total, at + 8)
    at += 8 + total
    if _number(data, at, 8) != total:
        raise ValueError("as many coordinates as residues were expected")
    atoms = np.frombuffer(data, "<u2", total * 12, at + 8).reshape(total, 4, 3)
    entries = []
    for name, start, size, first in heads:
        if start + size > total:
            raise ValueError(f"{name} reaches beyond the end")
        part = slice(start, start + size)
        sequence = letters[part].tobytes().decode("ascii")
        entries.append(Entry(name, first, sequence, atoms[part] * np.float32(SCALE)))
    return entries


def reason_against(entry: Entry) -> str:
    """Why a chain is not one to learn from; '' if it is.

    Gap-free, 40 to 200 residues from before residue 41 on; compact, as single domains are; no
    residue above a quarter of the sequence.
    """
    length = len(entry.sequence)
    if not MIN_LENGTH <= length <= MAX_LENGTH:
        return "length"
    if entry.first_residue >= 41:
        return "starts late"
    codes = np.frombuffer(entry.sequence.encode(), np.uint8)
    if not set(codes.tolist()) <= _LETTERS:
        return "unknown residues"
    if np.bincount(codes).max() > length / 4:
        return "one residue in four"
    n, ca, c = (entry.backbone[:, atom].astype(float) for atom in range(3))
    step = np.linalg.norm(np.diff(ca, axis=0), axis=-1)
    if step.min() < 2.6 or step.max() > 4.2:
        return "broken"
    if np.linalg.norm(n[1:] - c[:-1], axis=-1).max() > 2.0:
        return "broken peptide bond"
    far = np.subtract.outer(np.arange(length), np.arange(length)) >= 6
    near = np.linalg.norm(ca[:, None] - ca[None], axis=-1) < 8.0
    if (far & near).sum() < 0.7 * length:
        return "few contacts"
    radius = np.sqrt(((ca - ca.mean(0)) ** 2).sum(-1).mean())
    if radius > 1.3 * 2.2 * length**0.38:
        return "not compact"
    return ""


def beta_carbons(entry: Entry) -> np.ndarray:
    """Cβ [i, 3] Å where the backbone wants it, by each residue type's ideal geometry.

    Distances and contacts are learnt between Cβ, which the database does not hold.  Without these
    only glycines, which stand in with their Cα, would have any.
    """
    n, ca, c = (entry.backbone[:, atom].astype(float) for atom in range(3))

    def unit(vectors: np.ndarray) -> np.ndarray:
        return vectors / np.linalg.norm(vectors, axis=-1, keepdims=True)

    x = unit(c - ca)
    y = unit(n - ca - x * ((n - ca) * x).sum(-1, keepdims=True))
    aatype = chemistry.sequence_to_aatype(entry.sequence)
    ideal = chemistry.ATOM14_IDEAL_POSITIONS[aatype, 4]  # [i, 3] in the frame of C, CA, N
    return ca + x * ideal[:, :1] + y * ideal[:, 1:2] + np.cross(x, y) * ideal[:, 2:]


def pdb_lines(entry: Entry) -> Iterator[str]:
    """The chain as a PDB file with full confidence (B-factor 100): backbone and Cβ."""
    serial = 0
    backbone = entry.backbone.astype(float)
    atoms = np.concatenate([backbone, beta_carbons(entry)[:, None]], axis=1)  # [i, 5, 3]
    for number, (letter, places) in enumerate(zip(entry.sequence, atoms, strict=True), 1):
        residue = chemistry.RESTYPE_1TO3[letter]
        names = ("N", "CA", "C", "O") + (("CB",) if letter != "G" else ())
        for atom, (x, y, z) in zip(names, places, strict=False):
            serial += 1
            yield (
                f"ATOM  {serial:5d}  {atom:<3s} {residue} A{number:4d}    "
                f"{x:8.3f}{y:8.3f}{z:8.3f}{1.0:6.2f}{100.0:6.2f}          {atom[0]:>2s}\n"
            )
    yield "END\n"
