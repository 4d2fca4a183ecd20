"""Stand-ins of the learning example's two packages: their formats with made-up chains."""

from __future__ import annotations

import hashlib
import io
import struct
import tarfile
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

_BLAST = "-ABCDEFGHIKLMNPQRSTVWXYZU*OJ"


def backbone(num: int, seed: int = 0, spread: float = 1.0) -> np.ndarray:
    """N, CA, C, O [i, 4, 3] Å of a compact made-up chain with whole bonds.

    Its Cα lie on a grid of 3.8 Å that is filled row after row, to and fro.
    """
    side = int(np.ceil(num ** (1 / 3)))
    places = []
    for z in range(side):
        for y in range(side):
            row = y if z % 2 == 0 else side - 1 - y
            along = range(side) if (z * side + y) % 2 == 0 else range(side - 1, -1, -1)
            places += [(x, row, z) for x in along]
    ca = 3.8 * spread * np.array(places[:num], float)
    ca += 0.02 * np.random.default_rng(seed).normal(size=ca.shape)
    ahead = np.diff(ca, axis=0, append=2 * ca[-1:] - ca[-2:-1])
    behind = np.diff(ca, axis=0, prepend=2 * ca[:1] - ca[1:2])
    side_way = np.array([0.3, 0.5, 0.8])
    return np.stack(
        [ca - 0.38 * behind + 0.3, ca, ca + 0.4 * ahead + 0.3, ca + 0.4 * ahead + 1.2 * side_way],
        axis=1,
    )


def structure_database(chains: Mapping[str, tuple[str, np.ndarray, int]]) -> bytes:
    """``structure_db.dat`` of name (1ABC_A) -> sequence, backbone [i, 4, 3] Å, first residue."""
    out = b"made up".ljust(24, b"\0") + struct.pack("<Q", len(chains))
    start, letters, atoms = 0, b"", []
    for name, (sequence, places, first) in chains.items():
        for word in name.split("_"):
            out += struct.pack("<I", len(word)) + word.encode()
        origin = places.min(axis=(0, 1))
        out += struct.pack("<IHH3f", start, len(sequence), first, *origin)
        start += len(sequence)
        letters += sequence.encode()
        atoms.append(np.round((places - origin) / 0.01).astype("<u2"))
    rows = np.concatenate(atoms).tobytes()
    return out + struct.pack("<Q", start) + letters + struct.pack("<Q", start) + rows


def blast_volume(sequences: Sequence[str]) -> tuple[bytes, bytes]:
    """``.pin`` and ``.psq`` of a BLAST protein database of version 4."""
    offsets, residues = [1], b"\0"
    for sequence in sequences:
        residues += bytes(_BLAST.index(letter) for letter in sequence) + b"\0"
        offsets.append(len(residues))
    title, date = b"made up", b"today"
    index = struct.pack(">II", 4, 1)
    for text in (title, date):
        index += struct.pack(">I", len(text)) + text
    index += struct.pack(">I", len(sequences)) + struct.pack("<Q", len(residues))
    index += struct.pack(">I", max(map(len, sequences)))
    headers = struct.pack(f">{len(offsets)}I", *range(len(offsets)))
    return index + headers + struct.pack(f">{len(offsets)}I", *offsets), residues


def write_package(path: Path, files: Mapping[str, bytes]) -> dict[str, str]:
    """A Debian package with files under /usr/share; the checksum of each."""
    data = io.BytesIO()
    with tarfile.open(fileobj=data, mode="w:xz") as archive:
        for name, content in files.items():
            member = tarfile.TarInfo(f"./usr/share/{name}")
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    out = b"!<arch>\n"
    for name, content in (
        ("debian-binary", b"2.0\n"), ("control.tar.xz", b"odd"), ("data.tar.xz", data.getvalue()),
    ):  # fmt: skip
        out += f"{name:<16}{0:<12}{0:<6}{0:<6}{100644:<8}{len(content):<10}`\n".encode()
        out += content + b"\n" * (len(content) % 2)
    path.write_bytes(out)
    return {name: hashlib.sha256(content).hexdigest() for name, content in files.items()}
