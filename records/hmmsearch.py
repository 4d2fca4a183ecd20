"""What hmmsearch found with a chain's profile: hits with their pairwise alignment.

AlphaFold-Multimer searches ``pdb_seqres`` so.  The profile's match columns, ``x`` in the line
``#=GC RF``, are the query's residues.
"""

from __future__ import annotations

import re

import numpy as np

from records.chemistry import HHBLITS_LETTERS
from records.errors import InputError
from records.hhr import Hit
from records.msa import Alignment, stockholm_rows

_NAME = re.compile(rb"(\S+)/(\d{1,9})-(\d{1,9})")
_MEND = "make the search again"


def parse_hmmsearch(data: bytes, sequence: str, file: object = "sto") -> list[Hit]:
    """All hits of ``hmmsearch -A``, in file order; none where nothing was found.

    ``sum_probs`` is, as in an hhr, the sum over aligned residues of the probability that
    they are aligned rightly (``#=GR … PP``, one digit each).

    DISCREPANCY: AlphaFold-Multimer ranks these hits by E-value.  Here they are ranked by
    that sum, like HHsearch's.

    Args:
        data: the file.
        sequence: the query.
        file: its name, for messages.

    Raises:
        InputError: the file is no such alignment, or another query's.
    """
    if not re.search(rb"^[^#/\s]", data, re.MULTILINE):
        return []
    rows = stockholm_rows(data, file)
    reference, sure = _annotations(data)
    match = np.frombuffer(reference, np.uint8) == ord("x")
    if len(match) != len(next(iter(rows.values()))) or match.sum() != len(sequence):
        raise InputError(
            f"the profile has {match.sum()} match columns (#=GC RF), the chain {len(sequence)} "
            "residues",
            file=file,
            mend="the hits belong to another chain or version of it",
        )
    hits = []
    for number, (name, row) in enumerate(rows.items(), start=1):
        hit = _hit(number, name, row, sure.get(name, b""), match, sequence, file)
        if hit is not None:
            hits.append(hit)
    return hits


def _annotations(data: bytes) -> tuple[bytes, dict[bytes, bytes]]:
    """The line of match columns, and each row's line of probabilities."""
    reference: list[bytes] = []
    sure: dict[bytes, list[bytes]] = {}
    for line in data.splitlines():
        words = line.split()
        if line.startswith(b"#=GC RF") and len(words) == 3:
            reference.append(words[2])
        elif line.startswith(b"#=GR") and len(words) == 4 and words[2] == b"PP":
            sure.setdefault(words[1], []).append(words[3])
    return b"".join(reference), {name: b"".join(parts) for name, parts in sure.items()}


def _hit(
    number: int,
    name: bytes,
    row: bytes,
    sure: bytes,
    match: np.ndarray,
    sequence: str,
    file: object,
) -> Hit | None:
    """One hit; None where no residue is aligned."""
    item = f"hit {number}"
    found = _NAME.fullmatch(name)
    if not found:
        raise InputError("not a name with a stretch, 1abc_A/1-99", file=file, item=item, mend=_MEND)
    first, last = int(found[2]), int(found[3])
    letters = np.frombuffer(row.upper(), np.uint8)
    residues = (letters >= ord("A")) & (letters <= ord("Z"))
    if first < 1 or residues.sum() != last - first + 1:
        raise InputError(
            f"{residues.sum()} residues, {first}-{last} in the name", file=file, item=item,
            mend=_MEND,
        )  # fmt: skip
    aligned = match & residues
    if not aligned.any():
        return None
    digits = np.frombuffer(sure, np.uint8)
    # "*" is 0.95 to 1, "9" 0.85 to 0.95, …
    values = np.where(digits == ord("*"), 1.0, np.clip(digits - 48.0, 0.0, 9.0) / 10.0)
    if len(values) != len(row):
        raise InputError("no line of probabilities", file=file, item=item, mend=_MEND)
    query_index = (np.cumsum(match) - 1)[aligned].astype(np.int32)
    return Hit(
        number=number,
        name=found[1].decode("latin-1"),
        sum_probs=round(float(values[aligned].sum()), 3),
        aligned_cols=int(aligned.sum()),
        query_start=int(query_index[0]),
        hit_start=first - 1,
        query_residues=sequence[query_index[0] : query_index[-1] + 1],
        hit_residues=letters[residues].tobytes().decode(),
        query_index=query_index,
        hit_index=(np.cumsum(residues) - 2 + first)[aligned].astype(np.int32),
    )


def profile_alignment(alignment: Alignment) -> bytes:
    """An alignment as Stockholm for ``hmmbuild --hand``: the query's columns alone."""
    table = np.frombuffer(HHBLITS_LETTERS.encode(), np.uint8)
    lines = [b"# STOCKHOLM 1.0\n"]
    lines += [b"row%d %s\n" % (n, table[row].tobytes()) for n, row in enumerate(alignment.msa)]
    lines.append(b"#=GC RF %s\n//\n" % (b"x" * alignment.msa.shape[1]))
    return b"".join(lines)
