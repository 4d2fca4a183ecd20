"""The chains of a biological assembly: an mmCIF entry's chains, moved by its operators.

An assembly (``_pdbx_struct_assembly_gen``) lists chains and an expression of operators,
``1,2`` or ``(1-60)`` or ``(X0)(1-5)``: each chain is there once for each operator, or for
each product of one operator of every bracket.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import combinations, product

import numpy as np

from records.chemistry import ATOM_ORDER
from records.errors import InputError
from records.mmcif import Entry
from records.structure import AGAIN, LEAVE_OUT, Chain, located

ASYMMETRIC_UNIT = "asym"
CONTACT = 5.0  # Å between any two atoms: DockQ's native contacts
_BURIED_RADIUS, _BURIED_NEIGHBOURS = 10.0, 16  # Å between Cβ, residues within it
_BRACKET = re.compile(r"\(([^()]+)\)")
_SPAN = re.compile(r"([0-9]{1,12})-([0-9]{1,12})")
_BLOCK = 1 << 22  # distances at a time


@dataclass(frozen=True)
class PlacedChain:
    """A chain where the assembly has it.

    ``name`` is the author's, with a number for each further copy (A, A-2, A-3);
    ``source`` is the author's name in the file.
    """

    name: str
    source: str
    chain: Chain


@dataclass(frozen=True)
class Interface:
    """Two chains that touch: pairs of residues with atoms within 5 Å, and how many of these
    are buried, that is both residues have at least 16 Cβ of the assembly within 10 Å."""

    first: str
    second: str
    contacts: int
    buried: int


def read_assembly(entry: Entry, assembly: str, max_chains: int) -> list[PlacedChain]:
    """The protein chains of an assembly, in the order of its lists.

    Args:
        entry: the file.
        assembly: its name, mostly "1", or "asym" for the chains as they are.
        max_chains: more are not built.

    Raises:
        InputError: there is no such assembly, it names what the file does not have, it has too
            many chains or none, or a chain cannot serve.
    """
    try:
        plan = _asymmetric_unit(entry) if assembly == ASYMMETRIC_UNIT else _plan(entry, assembly)
        names = entry.protein_asyms()
        count = sum(len(_proteins(asyms, names)) * _count(groups) for asyms, groups in plan)
        check_count(count, max_chains, item=f"assembly {assembly}")
        operators = _operators(entry)
        chains: dict[str, Chain] = {}
        copies: Counter[str] = Counter()
        placed = []
        for asyms, groups in plan:
            moves = [_product(steps, operators) for steps in product(*map(_listed, groups))]
            for asym in _proteins(asyms, names):
                source = names[asym]
                if source not in chains:
                    chains[source] = entry.chain(source)
                for move in moves:
                    copies[source] += 1
                    number = copies[source]
                    name = source if number == 1 else f"{source}-{number}"
                    placed.append(PlacedChain(name, source, _moved(chains[source], name, move)))
    except InputError as error:
        raise error if error.file else located(error, entry.path) from error
    return placed


def check_count(count: int, max_chains: int, file: object = None, item: str | None = None) -> None:
    """Raises InputError for no chains and for too many."""
    if count > max_chains:
        raise InputError(
            f"{count} protein chains, more than {max_chains}",
            file=file,
            item=item,
            mend="leave it out or raise --max-chains",
        )
    if not count:
        raise InputError("no protein chain", file=file, item=item, mend=LEAVE_OUT)


def _asymmetric_unit(entry: Entry) -> list[tuple[list[str], list[str]]]:
    return [(list(entry.protein_asyms()), [])]


def _proteins(asyms: Sequence[str], names: dict[str, str]) -> list[str]:
    return [asym for asym in asyms if asym in names]


def _plan(entry: Entry, assembly: str) -> list[tuple[list[str], list[str]]]:
    """Of each line of the assembly: label names of chains, brackets of operators."""
    rows = entry.rows(
        "_pdbx_struct_assembly_gen.", ["assembly_id", "oper_expression", "asym_id_list"]
    )
    if not rows:
        raise InputError(
            "the file lists no assemblies", mend="pass --assembly asym to take its chains as is"
        )
    known = set(entry.asyms())
    plan = []
    for name, expression, listed in rows:
        if name != assembly:
            continue
        asyms = [asym.strip() for asym in listed.split(",") if asym.strip()]
        missing = [asym for asym in asyms if asym not in known]
        if missing:
            raise InputError(
                f"names chains that the file does not have: {', '.join(missing[:5])}",
                item=f"assembly {assembly}",
                mend=AGAIN,
            )
        plan.append((asyms, _brackets(expression)))
    if not plan:
        have = ", ".join(dict.fromkeys(name for name, _, _ in rows))
        raise InputError(f"no assembly {assembly}", mend=f"the file has {have}")
    return plan


def _brackets(expression: str) -> list[str]:
    """'(1-60)(X0,X1)' -> ['1-60', 'X0,X1'].  Raises InputError for what is none."""
    text = expression.replace(" ", "")
    if "(" not in text and ")" not in text:
        text = f"({text})"
    brackets = _BRACKET.findall(text)
    if not brackets or "".join(f"({part})" for part in brackets) != text:
        raise InputError("not a list of operators", item=expression[:60], mend=AGAIN)
    return brackets


def _range(item: str) -> tuple[int, int] | None:
    found = _SPAN.fullmatch(item)
    return (int(found[1]), int(found[2])) if found else None


def _count(brackets: Sequence[str]) -> int:
    """How many products of operators there are, without making them."""
    sizes = []
    for bracket in brackets:
        spans = map(_range, bracket.split(","))
        sizes.append(sum(max(0, span[1] - span[0] + 1) if span else 1 for span in spans))
    return math.prod(sizes)


def _listed(bracket: str) -> list[str]:
    """'1-3,P' -> ['1', '2', '3', 'P']"""
    names: list[str] = []
    for item in bracket.split(","):
        span = _range(item)
        names += [item] if span is None else map(str, range(span[0], span[1] + 1))
    return names


def _operators(entry: Entry) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Name -> rotation [3, 3] and translation [3] in Å.  Raises InputError for no rotation."""
    items = [f"matrix[{row}][{column}]" for row in (1, 2, 3) for column in (1, 2, 3)]
    items += [f"vector[{row}]" for row in (1, 2, 3)]
    operators = {}
    for name, *texts in entry.rows("_pdbx_struct_oper_list.", ["id", *items]):
        try:
            values = np.array([float(text) for text in texts])
        except ValueError:
            raise InputError("not numbers", item=f"operator {name}", mend=AGAIN) from None
        # [9] -> [3, 3]
        rotation, translation = values[:9].reshape(3, 3), values[9:]
        if not np.isfinite(values).all() or not (
            np.allclose(rotation @ rotation.T, np.eye(3), atol=1e-3)
            and np.linalg.det(rotation) > 0.0
        ):
            raise InputError("not a rotation", item=f"operator {name}", mend=AGAIN)
        operators[name] = rotation, translation
    return operators


def _product(
    steps: Sequence[str], operators: dict[str, tuple[np.ndarray, np.ndarray]]
) -> tuple[np.ndarray, np.ndarray]:
    """The motion of operators written one after another: the last one acts first."""
    rotation, translation = np.eye(3), np.zeros(3)
    for step in reversed(steps):
        if step not in operators:
            raise InputError(
                "no such operator in the file", item=f"operator {step[:20]}", mend=AGAIN
            )
        by, to = operators[step]
        rotation, translation = by @ rotation, by @ translation + to
    return rotation, translation


def _moved(chain: Chain, name: str, move: tuple[np.ndarray, np.ndarray]) -> Chain:
    rotation, translation = move
    chain = replace(chain, chain_id=f"{chain.chain_id.rpartition('_')[0]}_{name}")
    if np.array_equal(rotation, np.eye(3)) and not translation.any():
        return chain  # the very numbers of the file
    positions = chain.positions.astype(np.float64) @ rotation.T + translation
    return replace(chain, positions=(positions * chain.mask[..., None]).astype(np.float32))


def interfaces(placed: Sequence[PlacedChain]) -> list[Interface]:
    """Every two chains of an assembly that touch."""
    neighbours = _neighbour_counts([one.chain for one in placed])
    found = []
    for (i, one), (j, other) in combinations(enumerate(placed), 2):
        touching = _touching(one.chain, other.chain)
        if len(touching):
            inside = (neighbours[i][touching[:, 0]] >= _BURIED_NEIGHBOURS) & (
                neighbours[j][touching[:, 1]] >= _BURIED_NEIGHBOURS
            )
            found.append(Interface(one.name, other.name, len(touching), int(inside.sum())))
    return found


def _touching(one: Chain, other: Chain) -> np.ndarray:
    """[n, 2] pairs of residues with atoms within ``CONTACT``."""
    atoms = []
    for chain in (one, other):
        residue, slot = np.nonzero(chain.mask)
        atoms.append((residue, chain.positions[residue, slot].astype(np.float64)))
    (residues, xyz), (other_residues, other_xyz) = (
        _near(*atoms[side], atoms[1 - side][1]) for side in (0, 1)
    )
    pairs = set()
    step = max(1, _BLOCK // max(len(other_xyz), 1))
    for start in range(0, len(xyz), step):
        part = xyz[start : start + step]
        # [n, 1, 3] - [1, m, 3] -> [n, m]
        distance_sq = ((part[:, None] - other_xyz[None]) ** 2).sum(-1)
        first, second = np.nonzero(distance_sq < CONTACT**2)
        pairs.update(
            zip(residues[start + first].tolist(), other_residues[second].tolist(), strict=True)
        )
    return np.array(sorted(pairs), np.int64).reshape(-1, 2)


def _near(
    residues: np.ndarray, xyz: np.ndarray, other: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Only the atoms that lie in the other chain's box, grown by ``CONTACT``."""
    inside = ((xyz > other.min(0) - CONTACT) & (xyz < other.max(0) + CONTACT)).all(-1)
    return residues[inside], xyz[inside]


def _neighbour_counts(chains: Sequence[Chain]) -> list[np.ndarray]:
    """Of each chain [R]: other residues' Cβ (Cα where there is none) within 10 Å of its own."""
    ca, cb = ATOM_ORDER["CA"], ATOM_ORDER["CB"]
    points, sizes = [], [chain.num_res for chain in chains]
    for chain in chains:
        has_cb = chain.mask[:, cb, None] > 0
        xyz = np.where(has_cb, chain.positions[:, cb], chain.positions[:, ca]).astype(np.float64)
        known = (chain.mask[:, cb] + chain.mask[:, ca]) > 0
        points.append(np.where(known[:, None], xyz, np.nan))
    every = np.concatenate(points)
    counts = np.zeros(len(every), np.int64)
    step = max(1, _BLOCK // len(every))
    for start in range(0, len(every), step):
        part = every[start : start + step]
        # [n, 1, 3] - [1, R, 3] -> [n, R]; a comparison with NaN is false
        distance_sq = ((part[:, None] - every[None]) ** 2).sum(-1)
        counts[start : start + step] = (distance_sq < _BURIED_RADIUS**2).sum(-1) - 1
    return np.split(counts, np.cumsum(sizes)[:-1])
