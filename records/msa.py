"""Multiple sequence alignments: A3M and Stockholm to residue codes and deletions.

The parsers work on whole files with numpy.  Biopython has no A3M reader (its FASTA reader
and a loop over letters take some forty times as long), and its Stockholm reader, some
ten times slower, keeps every annotation (``benchmarks/convert.py`` measures both); it
serves as the tests' independent reader.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from records.chemistry import HHBLITS_AA_TO_ID, HHBLITS_LETTERS
from records.errors import InputError

GAP = ord("-")
MAX_DELETION = 255  # counts are stored as uint8
_INVALID = 255
_LOWER = bytes(range(ord("a"), ord("z") + 1))


def _code_table() -> np.ndarray:
    """[256] uint8: letter of either case to HHblits code, 255 where there is none."""
    table = np.full(256, _INVALID, np.uint8)
    for letter, code in HHBLITS_AA_TO_ID.items():
        table[ord(letter.upper())] = table[ord(letter.lower())] = code
    return table


_CODES = _code_table()
X_CODE = int(_CODES[ord("X")])


@dataclass(frozen=True)
class Alignment:
    """N aligned rows over R query columns, the query first.

    ``msa`` [N, R] uint8 in HHblits order, ``deletions`` [N, R] uint8: residues left out
    just before each column, at most 255.
    """

    msa: np.ndarray
    deletions: np.ndarray

    @property
    def depth(self) -> int:
        return self.msa.shape[0]


def encode(letters: np.ndarray, file: object, first_row: int = 0) -> np.ndarray:
    """ASCII letters [N, R] to HHblits codes; InputError names row and letter."""
    codes = _CODES[letters]
    bad = codes == _INVALID
    if bad.any():
        row, column = (int(index[0]) for index in np.nonzero(bad))
        raise InputError(
            f"{chr(int(letters[row, column]))!r} is no residue letter",
            file=file,
            item=f"row {first_row + row + 1}, column {column + 1}",
            mend="make the alignment again",
        )
    return codes


def parse_a3m(data: bytes, file: object = "a3m") -> Alignment:
    """A3M: aligned columns in upper case or '-', insertions in lower case.

    Reads ColabFold's too (a ``#lengths`` first line, NUL at the end), for one chain.
    Raises InputError for an empty alignment, unequal rows and foreign letters.
    """
    data = data.rstrip(b"\0 \r\n\t")
    if data.startswith(b"#"):
        first, _, data = data.partition(b"\n")
        if b"," in first.split(b"\t")[0]:
            raise InputError(
                "alignment of several chains", file=file, item=first.decode("latin-1"),
                mend="give one alignment per chain",
            )  # fmt: skip
    if b"\0" in data:
        raise InputError("several alignments in one file", file=file, mend="split it at the NULs")
    if not data.startswith(b">"):
        what = "no FASTA header '>' at the start" if data else "alignment holds no sequence"
        raise InputError(what, file=file, mend="make the alignment again")
    rows = []
    for block in data[1:].split(b"\n>"):
        _, _, row = block.partition(b"\n")
        rows.append(row.translate(None, b"\n\r\t ."))
    lengths = np.array([len(row) for row in rows], np.int64)
    if not lengths.all():
        empty = int(np.flatnonzero(lengths == 0)[0])
        raise InputError("empty row", file=file, item=f"row {empty + 1}", mend="remove it")
    buffer = np.frombuffer(b"".join(rows), np.uint8)
    aligned = (buffer < ord("a")) | (buffer > ord("z"))
    starts = np.concatenate([[0], np.cumsum(lengths)[:-1]])
    columns = np.add.reduceat(aligned, starts, dtype=np.int64)
    num_col = int(columns[0])
    if num_col == 0 or (columns != num_col).any():
        row = int(np.flatnonzero(columns != num_col)[0]) if num_col else 0
        raise InputError(
            f"row has {columns[row]} columns, the query {num_col}",
            file=file,
            item=f"row {row + 1}",
            mend="the file is cut off or no a3m: make the alignment again",
        )
    positions = np.flatnonzero(aligned)
    # [N * R] -> [N, R]
    letters = buffer[positions].reshape(-1, num_col)
    deletions = np.diff(positions, prepend=-1).reshape(-1, num_col) - 1
    deletions[:, 0] = positions[::num_col] - starts
    return Alignment(encode(letters, file), np.minimum(deletions, MAX_DELETION).astype(np.uint8))


def stockholm_rows(
    data: bytes, file: object = "sto", max_rows: int | None = None
) -> dict[bytes, bytes]:
    """Name -> aligned row, all of one length, the query first, as they are written.

    ``max_rows`` reads only that many sequences.  Raises InputError.
    """
    if not data.strip():
        raise InputError("alignment holds no sequence", file=file, mend="make the alignment again")
    chunks: dict[bytes, list[bytes]] = {}
    ended = False
    for line in data.splitlines():
        if not line or line.startswith(b"#") or line.isspace():
            continue
        if line.startswith(b"//"):
            ended = True
            break
        name, _, chunk = line.partition(b" ")
        if name in chunks:
            chunks[name].append(chunk.strip())
        elif max_rows is None or len(chunks) < max_rows:
            chunks[name] = [chunk.strip()]
    if not ended:
        raise InputError("no closing '//': cut off", file=file, mend="make the alignment again")
    rows = {name: b"".join(parts) for name, parts in chunks.items()}
    width = len(next(iter(rows.values()), b""))
    if not width:
        raise InputError("alignment holds no sequence", file=file, mend="make the alignment again")
    for number, row in enumerate(rows.values(), start=1):
        if len(row) != width:
            raise InputError(
                f"row has {len(row)} columns, the query {width}",
                file=file,
                item=f"row {number}",
                mend="the file is cut off: make the alignment again",
            )
    return rows


def parse_stockholm(data: bytes, file: object = "sto", max_rows: int | None = None) -> Alignment:
    """Stockholm: columns in which the query (first row) has a gap become deletions.

    ``max_rows`` reads only that many sequences, as AlphaFold limits JackHMMER's output.
    Raises InputError.
    """
    rows = list(stockholm_rows(data, file, max_rows).values())
    return _drop_query_gaps(rows, len(rows[0]), file)


_UPPER_GAPS = bytes.maketrans(_LOWER + b"._~", _LOWER.upper() + b"---")


def _drop_query_gaps(rows: Sequence[bytes], width: int, file: object) -> Alignment:
    keep = np.frombuffer(rows[0].translate(_UPPER_GAPS), np.uint8) != GAP
    num_col = int(keep.sum())
    if num_col == 0:
        raise InputError("the query row is all gaps", file=file, mend="make the alignment again")
    msa = np.empty((len(rows), num_col), np.uint8)
    deletions = np.empty((len(rows), num_col), np.uint8)
    step = max(1, 4_000_000 // width)  # bounds the scratch memory of wide alignments
    for start in range(0, len(rows), step):
        part = rows[start : start + step]
        # [n * width] -> [n, width]
        letters = np.frombuffer(b"".join(part).translate(_UPPER_GAPS), np.uint8).reshape(-1, width)
        stop = start + len(part)
        msa[start:stop] = encode(letters[:, keep], file, start)
        dropped = ((letters != GAP) & ~keep).cumsum(axis=1, dtype=np.int32)[:, keep]
        counts = np.diff(dropped, axis=1, prepend=0)
        deletions[start:stop] = np.minimum(counts, MAX_DELETION)
    return Alignment(msa, deletions)


def parse(data: bytes, file: object, max_rows: int | None = None) -> Alignment:
    """Stockholm or A3M, told apart by content, as files are often misnamed."""
    if data.lstrip().startswith(b"# STOCKHOLM"):
        return parse_stockholm(data, file, max_rows)
    alignment = parse_a3m(data, file)
    if max_rows is None:
        return alignment
    return Alignment(alignment.msa[:max_rows], alignment.deletions[:max_rows])


def check_query(alignment: Alignment, sequence: str, file: object) -> None:
    """The first row must be the chain's sequence; X in it matches any residue.

    Searches replace letters that they do not know (modified residues) by X.
    Raises InputError that names the first difference.
    """
    query = alignment.msa[0]
    wanted = encode(np.frombuffer(sequence.encode(), np.uint8)[None], file)[0]
    mend = "the alignment belongs to another chain or version of it"
    if len(query) != len(wanted):
        raise InputError(
            "alignment query does not match the chain",
            file=file,
            item=f"query has {len(query)} residues, the chain {len(wanted)}",
            mend=mend,
        )
    differs = (query != wanted) & (query != X_CODE) & (wanted != X_CODE)
    if differs.any():
        index = int(np.flatnonzero(differs)[0])
        raise InputError(
            "alignment query does not match the chain",
            file=file,
            item=f"residue {index + 1} is {HHBLITS_LETTERS[query[index]]}, "
            f"in the chain {sequence[index]}; {int(differs.sum())} differ",
            mend=mend,
        )


def merge(alignments: Sequence[Alignment], sequence: str) -> Alignment:
    """One alignment of all, in order, without exact duplicates, the query first.

    Two rows are duplicates when their aligned columns agree, whatever was deleted, as in
    AlphaFold.  Row 0 is the chain's own sequence (no deletions).  All must have R columns.
    """
    query = encode(np.frombuffer(sequence.encode(), np.uint8)[None], "sequence")
    msa = np.concatenate([query, *(a.msa for a in alignments)])
    deletions = np.concatenate([np.zeros_like(query), *(a.deletions for a in alignments)])
    seen: set[bytes] = set()
    keep = []
    for index, row in enumerate(msa):
        key = row.tobytes()
        if key not in seen:
            seen.add(key)
            keep.append(index)
    # The alignments' own query rows duplicate row 0 unless they hold X for a residue.
    own_queries = set(np.cumsum([1, *(a.depth for a in alignments)])[:-1].tolist())
    keep = [index for index in keep if index not in own_queries]
    return Alignment(msa[keep], deletions[keep])


def stockholm_to_a3m(data: bytes, file: object = "sto") -> bytes:
    """Stockholm as A3M: what the query has no residue for becomes lower case.

    Rows whose aligned part repeats an earlier row's are left out, as AlphaFold does
    before HHsearch.  Raises InputError.
    """
    rows = stockholm_rows(data, file)
    sequences = {name: row.translate(_UPPER_GAPS) for name, row in rows.items()}
    keep = np.frombuffer(next(iter(sequences.values())), np.uint8) != GAP
    seen: set[bytes] = set()
    lines = []
    for name, sequence in sequences.items():
        letters = np.frombuffer(sequence, np.uint8)
        aligned = letters[keep].tobytes()
        if aligned not in seen:
            seen.add(aligned)
            lowered = np.where(keep | (letters == GAP), letters, letters | 32)
            row = lowered[keep | (letters != GAP)].astype(np.uint8).tobytes()
            lines.append(b">" + name + b"\n" + row + b"\n")
    return b"".join(lines)
