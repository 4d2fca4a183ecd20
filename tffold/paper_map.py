"""Where each algorithm of the paper is: docs/paper_map.md, made from docstrings.

    python -m tffold.paper_map > docs/paper_map.md

A class or function implements an algorithm if the first paragraph of its docstring says so in a
parenthesis: "(Algorithm 10)", "(Algorithms 13 and 14)", "(Algorithm 20, lines 6 to 14; Algorithm
23, line 1)". Other mentions do not count.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

TITLES = (
    "MSABlockDeletion",
    "Inference",
    "InputEmbedder",
    "relpos",
    "one_hot",
    "EvoformerStack",
    "MSARowAttentionWithPairBias",
    "MSAColumnAttention",
    "MSATransition",
    "OuterProductMean",
    "TriangleMultiplicationOutgoing",
    "TriangleMultiplicationIncoming",
    "TriangleAttentionStartingNode",
    "TriangleAttentionEndingNode",
    "PairTransition",
    "TemplatePairStack",
    "TemplatePointwiseAttention",
    "ExtraMsaStack",
    "MSAColumnGlobalAttention",
    "StructureModule",
    "rigidFrom3Points",
    "InvariantPointAttention",
    "BackboneUpdate",
    "computeAllAtomCoordinates",
    "makeRotX",
    "renameSymmetricGroundTruthAtoms",
    "torsionAngleLoss",
    "computeFAPE",
    "predictPerResidueLDDT",
    "RecyclingInference",
    "RecyclingTraining",
    "RecyclingEmbedder",
)
ABSENT: dict[int, str] = {}  # algorithms that the code does not have, with the reason
ROOT = Path(__file__).parents[1]
NOT_CODE = {"config.py", "paper_map.py"}  # settings name the algorithms that they belong to
MENTION = re.compile(r"\((Algorithms? \d[^()]*)\)")

HEAD = """# Where the paper's algorithms are

Each algorithm of the supplement of Jumper et al. 2021, and what implements it. The docstring there
opens with the equations and says where the code departs from them. Made from the docstrings:

```sh not run: writes this page
python -m tffold.paper_map > docs/paper_map.md
```

| | algorithm | where |
|-|-|-|
"""


class Place(NamedTuple):
    """A class or function, and which lines of an algorithm it has ("" for all)."""

    file: str
    name: str
    lines: str


def numbered(mention: str) -> Iterator[tuple[int, str]]:
    """(algorithm, lines) of what stands in a parenthesis."""
    for item in mention.split("; "):
        parts = re.fullmatch(r"Algorithms? ((?:\d+(?:, | and | to )?)+?)(?:, (lines? .+))?", item)
        if parts is None:
            raise ValueError(f"cannot read {item!r}: write 'Algorithm 20, lines 6 to 14'")
        numbers, lines = parts.groups()
        ends = re.fullmatch(r"(\d+) to (\d+)", numbers)
        found = range(int(ends[1]), int(ends[2]) + 1) if ends else re.findall(r"\d+", numbers)
        yield from ((int(number), lines or "") for number in found)


def named_nodes(tree: ast.Module) -> Iterator[tuple[str, ast.AST]]:
    """Classes, functions and methods with their dotted names."""

    def inside(node: ast.AST, prefix: str) -> Iterator[tuple[str, ast.AST]]:
        for child in ast.iter_child_nodes(node):
            if isinstance(child, ast.ClassDef | ast.FunctionDef):
                yield prefix + child.name, child
                yield from inside(child, f"{prefix}{child.name}.")

    return inside(tree, "")


def places() -> dict[int, list[Place]]:
    """By algorithm: what implements it."""
    found: dict[int, list[Place]] = {number + 1: [] for number in range(len(TITLES))}
    for path in sorted((ROOT / "tffold").rglob("*.py")):
        if path.name in NOT_CODE:
            continue
        file = path.relative_to(ROOT).as_posix()
        for name, node in named_nodes(ast.parse(path.read_text(encoding="utf-8"))):
            opening = (ast.get_docstring(node) or "").split("\n\n")[0].replace("\n", " ")
            for mention in MENTION.findall(opening):
                for number, lines in numbered(mention):
                    found[number].append(Place(file, name, lines))
    return found


def markdown() -> str:
    """The page."""
    rows = []
    for number, where in places().items():
        if bool(where) == (number in ABSENT):
            raise ValueError(f"Algorithm {number} must be in a docstring or in ABSENT, not both")
        cell = "<br>".join(
            f"[{place.file}](../{place.file}): `{place.name}`"
            + (f" ({place.lines})" if place.lines else "")
            for place in where
        )
        rows.append(f"| {number} | {TITLES[number - 1]} | {cell or 'absent: ' + ABSENT[number]} |")
    return HEAD + "\n".join(rows) + "\n"


if __name__ == "__main__":
    print(markdown(), end="")
