"""Which chains are learnt from and which are held out: components of relatives, never split.

Chains are linked by an alignment at 30 % identity or an e-value below 1e-2, all against all, or by
a SCOPe superfamily where a table of them is given.  Validation takes one chain from each of the
smaller components, and its relatives are used for nothing.

The published split is ``split.tsv`` beside this file: chain, component, use.  It knew SCOPe
superfamilies, which find relatives that sequences do not tell; the two packages hold none, so a
split made anew here without a table is weaker.  A chain that a split does not name is used for
nothing at all: some were kept back, so that others can judge what was learnt.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from records.durable import write_whole
from records.errors import InputError
from records.sources import read_lines

TRAIN, VALIDATION, RELATIVE = "train", "validation", "relative"
USES = (TRAIN, VALIDATION, RELATIVE)
PUBLISHED = Path(__file__).parent / "split.tsv"
# A validation chain: residues, rows of its alignment, chains in its component at most.
LENGTHS, MIN_ROWS, MAX_COMPONENT = range(50, 129), 64, 12


def components(chains: Sequence[str], links: Iterable[tuple[str, str]]) -> dict[str, int]:
    """Chain -> number of its component: chains that links join, directly or not.

    Components are numbered in the order of their first chain.
    """
    parent = {chain: chain for chain in chains}

    def root(chain: str) -> str:
        while parent[chain] != chain:
            parent[chain] = parent[parent[chain]]
            chain = parent[chain]
        return chain

    for first, second in links:
        parent[root(first)] = root(second)
    numbers: dict[str, int] = {}
    return {chain: numbers.setdefault(root(chain), len(numbers)) for chain in chains}


def superfamily_links(path: Path, chains: Iterable[str]) -> list[tuple[str, str]]:
    """Links between chains that share a superfamily.

    ``path`` has a chain and its superfamilies (b.63.1,c.2.1) a line.  Raises InputError.
    """
    known, first, links = set(chains), {}, []
    for words in read_lines(path):
        if len(words) != 2:
            raise InputError(
                "not a chain and its superfamilies", file=path, item=" ".join(words),
                mend="write one a line: 1a1x_A b.63.1",
            )  # fmt: skip
        if words[0] in known:
            links += [(first.setdefault(name, words[0]), words[0]) for name in words[1].split(",")]
    return links


def choose(
    component: Mapping[str, int],
    lengths: Mapping[str, int],
    rows: Mapping[str, int],
    count: int,
    seed: int = 0,
) -> dict[str, str]:
    """Chain -> use: one validation chain from each of ``count`` components, drawn by ``seed``.

    Components of at most 12 chains; chains of 50 to 128 residues with 64 rows or more.
    """
    sizes = Counter(component.values())
    fit = [
        chain
        for chain in sorted(component)
        if lengths[chain] in LENGTHS
        and rows.get(chain, 0) >= MIN_ROWS
        and sizes[component[chain]] <= MAX_COMPONENT
    ]
    random.Random(seed).shuffle(fit)
    held: dict[int, str] = {}
    for chain in fit:
        if len(held) < count:
            held.setdefault(component[chain], chain)
    return {
        chain: TRAIN if number not in held else (VALIDATION if held[number] == chain else RELATIVE)
        for chain, number in component.items()
    }


def read_split(path: Path = PUBLISHED) -> dict[str, tuple[int, str]]:
    """Chain -> component and use.  Raises InputError for a line that is none of a split's."""
    split = {}
    for words in read_lines(path):
        if len(words) != 3 or not words[1].isdigit() or words[2] not in USES:
            raise InputError(
                "not a chain, its component and its use", file=path, item=" ".join(words),
                mend=f"write one a line: 1a1x_A 265 train; uses are {', '.join(USES)}",
            )  # fmt: skip
        split[words[0]] = (int(words[1]), words[2])
    return split


def write_split(path: Path, component: Mapping[str, int], use: Mapping[str, str]) -> None:
    """A table for ``read_split``; chains without a use are left out."""
    lines = (f"{chain}\t{component[chain]}\t{use[chain]}\n" for chain in sorted(use))
    write_whole(path, "".join(lines))


def crossing(
    split: Mapping[str, tuple[int, str]], links: Iterable[tuple[str, str]]
) -> list[tuple[str, str]]:
    """Links from a training chain to one of validation: there must be none."""
    apart = {TRAIN, VALIDATION}
    return [
        pair
        for pair in links
        if all(chain in split for chain in pair) and {split[chain][1] for chain in pair} == apart
    ]
