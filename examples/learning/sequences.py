"""Reads the sequences of a BLAST protein database, as Debian's ``metastudent-data`` holds three.

Two files of a database of version 4 suffice, so that no BLAST+ need be installed.  ``.pin``:
version, kind, title and date (each after its length), number of sequences, residues (8 bytes
little-endian), longest; then the offsets of headers and of sequences, one more than there are
sequences; all else big-endian uint32.  ``.psq``: one byte a residue (NCBIstdaa), a zero byte
between sequences.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np

from records.durable import whole_file
from records.errors import InputError

_LETTERS = np.frombuffer(b"-ABCDEFGHIKLMNPQRSTVWXYZU*OJ", np.uint8)
_AGAIN = "get metastudent-data 2.0.1 again: another version may have another format"


def read_blast(prefix: Path) -> Iterator[bytes]:
    """The sequences of ``prefix``.pin and ``prefix``.psq.  Raises InputError."""
    index_path, path = (prefix.with_name(prefix.name + suffix) for suffix in (".pin", ".psq"))
    try:
        index, residues = index_path.read_bytes(), np.fromfile(path, np.uint8)
    except OSError as error:
        raise InputError(str(error.strerror), file=error.filename, mend=_AGAIN) from error

    def number(at: int) -> int:
        return int.from_bytes(index[at : at + 4], "big")

    if (number(0), number(4)) != (4, 1):
        raise InputError("not a protein database of version 4", file=index_path, mend=_AGAIN)
    at = 8
    for _ in ("title", "date"):
        at += 4 + number(at)
    count = number(at)
    at += 4 + 8 + 4 + 4 * (count + 1)
    if len(index) < at + 4 * (count + 1):
        raise InputError("is cut off", file=index_path, mend=_AGAIN)
    offsets = np.frombuffer(index, ">u4", count + 1, at).astype(np.int64)
    if (np.diff(offsets) < 1).any() or offsets[-1] > len(residues):
        raise InputError("does not fit to its index", file=path, mend=_AGAIN)
    if residues.max(initial=0) >= len(_LETTERS):
        raise InputError("holds no residues", file=path, mend=_AGAIN)
    letters = _LETTERS[residues].tobytes()
    for start, end in zip(offsets[:-1].tolist(), offsets[1:].tolist(), strict=True):
        yield letters[start : end - 1]


def write_fasta(prefixes: Iterable[Path], file: Path) -> int:
    """Every distinct sequence of several databases, once, as FASTA; how many there were."""
    seen: set[bytes] = set()
    with whole_file(file) as out:
        for prefix in prefixes:
            for sequence in read_blast(prefix):
                if sequence not in seen:
                    seen.add(sequence)
                    out.write(b">s%d\n%s\n" % (len(seen), sequence))
    return len(seen)
