"""What is done to a chain's alignment to see what the network takes from it.

Each function takes the raw features of a record and gives others; the query, which is the first
row, always stays as it is.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

Raw = Mapping[str, Any]
_BY_ROW = ("msa", "deletion_matrix")
ROWS = (4, 16, 64)  # to which alignments are cut


def query_alone(raw: Raw) -> Raw:
    """Without the alignment: what the sequence alone tells."""
    return {**raw, **{name: np.asarray(raw[name])[:1] for name in _BY_ROW}}


def first_rows(count: int) -> Callable[[Raw], Raw]:
    """So many rows alone, drawn at random: what a shallow alignment of the same chain tells."""

    def cut(raw: Raw) -> Raw:
        others = np.random.default_rng(0).permutation(len(raw["msa"]) - 1)[: count - 1] + 1
        kept = np.concatenate([[0], np.sort(others)])
        return {**raw, **{name: np.asarray(raw[name])[kept] for name in _BY_ROW}}

    return cut


def shuffled_columns(raw: Raw) -> Raw:
    """Each column's letters, gaps and deletions dealt anew to the rows below the query.

    Every column keeps its profile; which letters stand together in one row, and with it all
    covariation and all likeness between rows, is destroyed.
    """
    rng = np.random.default_rng(0)
    letters = np.asarray(raw["msa"])
    # [rows below the query, residues]: an order of the rows for each column
    order = rng.permuted(np.tile(np.arange(1, len(letters))[:, None], letters.shape[1]), axis=0)
    shuffled = {}
    for name in _BY_ROW:
        values = np.asarray(raw[name])
        below = np.take_along_axis(values, order, axis=0)
        shuffled[name] = np.concatenate([values[:1], below])
    return {**raw, **shuffled}


CONTROLS: dict[str, Callable[[Raw], Raw]] = {
    "query_alone": query_alone,
    "shuffled_columns": shuffled_columns,
    **{f"rows_{count}": first_rows(count) for count in ROWS},
}
