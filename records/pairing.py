"""Rows that are paired between the chains of a complex: by species, or ready pairs.

AlphaFold-Multimer pairs what a search of UniProt found for each chain (``uniprot_hits.sto``)
by species: the mnemonic in ``sp|P69905|HBA_HUMAN``.  Where there is none, a taxonomy id in
the header stands for it (``OX=9606``, ``TaxID=9606``).  ColabFold writes one alignment
over all chains instead, whose rows are pairs already: each is a species of its own.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from records import msa as msa_parser
from records.chains import species_key
from records.chemistry import GAP_INDEX
from records.errors import InputError
from records.msa import Alignment

MAX_ROWS = 50_000  # AlphaFold-Multimer's limit on UniProt hits of a chain
_MNEMONIC = re.compile(
    rb"(?:sp|tr)\|(?:[^|\s]+\|)?[A-Za-z0-9]+_([A-Za-z0-9]{1,5})(?:/\d+-\d+)?(?:\s|$)"
)
_TAXONOMY = re.compile(rb"\b(?:OX|TaxID|NCBI_TaxID)=(\d{1,8})\b")


@dataclass(frozen=True)
class Pairs:
    """U rows to pair, the query first: ``msa`` and ``deletions`` [U, R] as in ``Alignment``,
    ``species`` [U] int64 (``records.chains.species_key``), 0 = unknown."""

    msa: np.ndarray
    deletions: np.ndarray
    species: np.ndarray


def species_of(header: bytes) -> int:
    """The species of a row's name and description, 0 = unknown."""
    found = _MNEMONIC.match(header) or _TAXONOMY.search(header)
    return species_key(found[1].decode().upper()) if found else 0


def _headers(data: bytes, file: object) -> list[bytes]:
    """Name and description of each row of an A3M or Stockholm file, in order."""
    if not data.lstrip().startswith(b"# STOCKHOLM"):
        data = data.rstrip(b"\0 \r\n\t")
        if data.startswith(b"#"):
            data = data.partition(b"\n")[2]
        return [block.partition(b"\n")[0] for block in data[1:].split(b"\n>")]
    described: dict[bytes, bytes] = {}
    for line in data.splitlines():
        if line.startswith(b"#=GS"):
            words = line.split(None, 3)
            if len(words) == 4 and words[2] == b"DE":
                described[words[1]] = words[3]
    return [
        name + b" " + described.get(name, b"") for name in msa_parser.stockholm_rows(data, file)
    ]


def read_pairs(contents: Sequence[tuple[str, bytes]], sequence: str) -> Pairs | None:
    """The rows to pair of one chain, of its searches against UniProt; None without any.

    Rows that repeat an earlier one are left out, as in AlphaFold.

    Args:
        contents: names and contents of the files.
        sequence: the chain's.

    Raises:
        InputError: a file is no alignment, or another chain's.
    """
    rows, deletions, species = [], [], []
    for name, data in contents:
        alignment = msa_parser.parse(data, name)
        msa_parser.check_query(alignment, sequence, name)
        rows.append(alignment.msa[1:])
        deletions.append(alignment.deletions[1:])
        species += [species_of(header) for header in _headers(data, name)[1:]]
    return _without_repeats(rows, deletions, species, sequence) if contents else None


def _without_repeats(
    rows: Sequence[np.ndarray],
    deletions: Sequence[np.ndarray],
    species: Sequence[int],
    sequence: str,
) -> Pairs:
    query = msa_parser.encode(np.frombuffer(sequence.encode(), np.uint8)[None], "sequence")
    msa = np.concatenate([query, *rows])
    first: dict[bytes, int] = {}
    for number, row in enumerate(msa):
        first.setdefault(row.tobytes(), number)
    keep = list(first.values())[:MAX_ROWS]
    return Pairs(
        msa[keep],
        np.concatenate([np.zeros_like(query), *deletions])[keep],
        np.array([0, *species], np.int64)[keep],
    )


def is_of_several_chains(data: bytes) -> bool:
    """Whether this is ColabFold's alignment over several chains: '#76,82<tab>1,2' at its head."""
    first = data.partition(b"\n")[0]
    return first.startswith(b"#") and b"," in first.split(b"\t")[0]


def part_of(data: bytes, sequence: str, file: object) -> tuple[Alignment, Pairs]:
    """One chain's unpaired rows and pairs, of ColabFold's alignment over several chains.

    A row with residues in one chain is that chain's; one with residues in several is a
    pair, and has its own number as species, the same in each of them.

    Raises:
        InputError: the head's lengths are not those of the rows, or no chain has this
            sequence.
    """
    head, _, body = data.rstrip(b"\0 \r\n\t").partition(b"\n")
    mend = "make the alignment again"
    try:
        lengths = [int(length) for length in head[1:].split(b"\t")[0].split(b",")]
    except ValueError:
        lengths = []
    if not lengths or min(lengths) < 1:
        raise InputError(
            "not a list of lengths", file=file, item=head.decode("latin-1")[:60], mend=mend
        )
    whole = msa_parser.parse_a3m(body, file)
    if whole.msa.shape[1] != sum(lengths):
        raise InputError(
            f"rows have {whole.msa.shape[1]} columns, the lengths at the head sum up to "
            f"{sum(lengths)}",
            file=file,
            mend=mend,
        )
    cuts = np.cumsum(lengths)[:-1]
    parts = [Alignment(*both) for both in zip(
        np.split(whole.msa, cuts, axis=1), np.split(whole.deletions, cuts, axis=1), strict=True
    )]  # fmt: skip
    has = np.stack([(part.msa != GAP_INDEX).any(1) for part in parts])  # [chains, rows]
    chosen = None
    for number, part in enumerate(parts):
        try:
            msa_parser.check_query(part, sequence, file)
            chosen = number
            break
        except InputError:
            continue
    if chosen is None:
        raise InputError(
            "no chain of the alignment has this sequence", file=file,
            mend="the alignment belongs to another complex or version of it",
        )  # fmt: skip
    part = parts[chosen]
    several = has.sum(0) > 1
    own = np.flatnonzero(has[chosen] & ~several)
    paired = np.flatnonzero(has[chosen] & several)[1:]  # the first is the query
    query = np.zeros(1, np.int64)
    alignment = msa_parser.merge(
        [Alignment(part.msa[rows], part.deletions[rows]) for rows in [np.append(query, own)]],
        sequence,
    )
    # Equal rows of one chain are kept: their partners in the other chain may differ.
    letters = msa_parser.encode(np.frombuffer(sequence.encode(), np.uint8)[None], "sequence")
    return alignment, Pairs(
        np.concatenate([letters, part.msa[paired]]),
        np.concatenate([np.zeros_like(letters), part.deletions[paired]]),
        np.array([0, *(species_key(str(row)) for row in paired)], np.int64),
    )
