"""HHsearch and HHblits result files (.hhr): hits with their pairwise alignment."""

from __future__ import annotations

import re
from dataclasses import dataclass

import numpy as np

from records.errors import InputError

_STATS = re.compile(r"(\w+)=\s*([-+.\deE]+)")
_LINE = re.compile(r"^([QT]) (\S+)\s+(\d+) ([A-Za-z.~-]+) +(\d+) \((\d+)\)")
_TEMPLATE = re.compile(r"^([0-9][a-zA-Z0-9]{3})_([a-zA-Z0-9.-]+)$")
_MEND = "make the search again"


@dataclass(frozen=True)
class Hit:
    """One hit: which template residues lie on which query residues.

    ``query_index`` and ``hit_index`` [n] int32, from 0, are the aligned pairs; index 0 of
    the hit is the first residue of the template's database sequence.  ``query_residues``
    and ``hit_residues`` are the two stretches without gaps, from ``query_start`` and
    ``hit_start`` on.
    """

    number: int
    name: str  # "4zhl_U"
    sum_probs: float
    aligned_cols: int
    query_start: int
    hit_start: int
    query_residues: str
    hit_residues: str
    query_index: np.ndarray
    hit_index: np.ndarray

    @property
    def pdb_chain(self) -> tuple[str, str] | None:
        """('4zhl', 'U'), or None where the name is no PDB chain."""
        match = _TEMPLATE.match(self.name)
        return (match[1].lower(), match[2]) if match else None


def parse_hhr(data: bytes, file: object = "hhr") -> list[Hit]:
    """All hits in file order; a file without hits gives an empty list.

    Raises InputError for a file that is not an hhr, or whose alignments do not add up
    (cut off, edited).
    """
    text = data.decode("latin-1").replace("\r\n", "\n")
    if not text.startswith("Query"):
        what = "not an hhr file: no 'Query' line first" if text.strip() else "empty hhr file"
        raise InputError(what, file=file, mend=_MEND)
    head, *sections = re.split(r"^No (?=\d+ *$)", text, flags=re.MULTILINE)
    if not re.search(r"^ *No +Hit ", head, re.MULTILINE):
        raise InputError("no table of hits: cut off", file=file, mend=_MEND)
    announced = len(re.findall(r"^ *\d+ \S", head.split(" No Hit", 1)[-1], re.MULTILINE))
    if len(sections) < announced:
        raise InputError(
            f"{announced} hits listed, {len(sections)} aligned: cut off", file=file, mend=_MEND
        )
    return [_parse_hit(section.split("\n"), file) for section in sections]


def _parse_hit(lines: list[str], file: object) -> Hit:
    item = f"hit {lines[0].strip()}"

    def wrong(what: str) -> InputError:
        return InputError(what, file=file, item=item, mend=_MEND)

    if len(lines) < 3 or not lines[1].startswith(">"):
        raise wrong("no '>' name line: cut off")
    name = lines[1][1:].split(None, 1)[0] if lines[1][1:].strip() else ""
    stats = dict(_STATS.findall(lines[2]))
    try:
        sum_probs = float(stats["Sum_probs"])
        aligned_cols = int(stats["Aligned_cols"])
    except (KeyError, ValueError):
        raise wrong("no Sum_probs or Aligned_cols") from None
    if not np.isfinite(sum_probs):
        raise wrong("Sum_probs is not finite")
    parts: dict[str, list[str]] = {"Q": [], "T": []}
    starts: dict[str, int] = {}
    ends: dict[str, int] = {}
    for line in lines[3:]:
        match = _LINE.match(line)
        if not match or match[2] == "Consensus":
            continue
        which, _, first, letters, last, _ = match.groups()
        first, last = int(first), int(last)
        count = sum(letters.count(gap) for gap in "-.~")
        if last - first + 1 != len(letters) - count or first != ends.get(which, first - 1) + 1:
            raise wrong(f"{which} line {first}-{last} does not add up")
        starts.setdefault(which, first)
        ends[which] = last
        parts[which].append(letters)
    query, hit = "".join(parts["Q"]), "".join(parts["T"])
    if not query or len(query) != len(hit):
        raise wrong(f"query and template lines differ in length ({len(query)}, {len(hit)})")
    query_letters = np.frombuffer(query.encode(), np.uint8)
    hit_letters = np.frombuffer(hit.encode(), np.uint8)
    gaps = np.frombuffer(b"-.~", np.uint8)
    in_query, in_hit = ~np.isin(query_letters, gaps), ~np.isin(hit_letters, gaps)
    both = in_query & in_hit
    if starts["Q"] < 1 or starts["T"] < 1 or not both.any():
        raise wrong("no aligned residues")
    return Hit(
        number=int(lines[0]),
        name=name,
        sum_probs=sum_probs,
        aligned_cols=aligned_cols,
        query_start=starts["Q"] - 1,
        hit_start=starts["T"] - 1,
        query_residues=query_letters[in_query].tobytes().decode().upper(),
        hit_residues=hit_letters[in_hit].tobytes().decode().upper(),
        query_index=(np.cumsum(in_query) - 2 + starts["Q"])[both].astype(np.int32),
        hit_index=(np.cumsum(in_hit) - 2 + starts["T"])[both].astype(np.int32),
    )
