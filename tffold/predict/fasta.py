"""FASTA files: sequences, and complexes in AlphaFold-Multimer's and in ColabFold's form."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from records import paths
from records.chemistry import RESTYPES_WITH_X
from records.errors import InputError
from records.gunzip import gunzipped
from records.paths import Place
from records.structure import AGAIN

SUFFIXES = (".fasta", ".fa", ".faa", ".fas", ".seq")
CHAIN_BREAK = ":"  # between the chains of one record, as ColabFold writes them
_LETTERS = frozenset(RESTYPES_WITH_X)


@dataclass(frozen=True)
class Record:
    """A header and the lines below it: ``line`` is the header's, ``rows`` numbered lines."""

    line: int
    header: str
    rows: Sequence[tuple[int, str]]

    @property
    def name(self) -> str:
        """The header's first word."""
        return (self.header.split() or [""])[0]

    @property
    def item(self) -> str:
        """For messages."""
        return f"line {self.line}, >{self.name}"

    @property
    def sequences(self) -> list[str]:
        """Of its chains, in capitals; mostly one."""
        letters = "".join("".join(row.split()) for _, row in self.rows).upper()
        return [part.removesuffix("*") for part in letters.split(CHAIN_BREAK)]

    def check(self, path: Place) -> None:
        """Raises InputError for a record without name or sequence, and for strange letters."""
        if not self.name:
            raise InputError("no name", file=path, item=self.item, mend="write '>name'")
        if not all(self.sequences):
            mend = "leave it out" if len(self.sequences) == 1 else f"a '{CHAIN_BREAK}' too many"
            raise InputError("empty sequence", file=path, item=self.item, mend=mend)
        last = self.rows[-1][0]
        for number, row in self.rows:
            letters = row.rstrip()
            if number == last:
                letters = letters.removesuffix("*")
            letters = letters.replace(f"*{CHAIN_BREAK}", f" {CHAIN_BREAK}")
            for column, letter in enumerate(letters, start=1):
                if letter.upper() not in _LETTERS and letter != CHAIN_BREAK and letter.strip():
                    raise InputError(
                        f"{letter!r} is no amino acid",
                        file=path,
                        item=f"line {number}, column {column}, >{self.name}",
                        mend="use the 20 letters, X for an unknown residue",
                    )


def is_fasta(name: str) -> bool:
    """Whether a file of that name is one."""
    return name.lower().removesuffix(".gz").endswith(SUFFIXES)


def read_fasta(path: Place) -> list[Record]:
    """The records of a file, compressed or not; their letters are not checked yet.

    Raises:
      InputError: the file is not there, empty or no FASTA file.
    """
    data = gunzipped(paths.read_bytes(path), path, AGAIN)
    blocks: list[tuple[int, str, list[tuple[int, str]]]] = []
    for number, line in enumerate(data.decode("latin-1").splitlines(), start=1):
        if line.startswith(">"):
            blocks.append((number, line[1:], []))
        elif line.strip() and not line.startswith(";"):
            if not blocks:
                raise InputError(
                    "text before the first header",
                    file=path,
                    item=f"line {number}",
                    mend="write '>name' above each sequence",
                )
            blocks[-1][2].append((number, line))
    if not blocks:
        raise InputError("holds no sequence", file=path, mend="write '>name' and a sequence")
    return [Record(*block) for block in blocks]
