"""Distances and contacts as the distogram has them, and how precise the likeliest are."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from keras import ops

from tffold.config import HeadsConfig

Tensor = Any

CONTACT_DISTANCE = 8.0  # Å between Cβ (Cα for glycine)
# Residues by which the two of a pair are apart: at least, and at most (0 = any).
LONG_RANGE = (24, 0)
MEDIUM_RANGE = (12, 23)


def expected_distance(logits: Tensor, heads: HeadsConfig) -> Tensor:
    """Expected Cβ distance [i, j] in Å, of distogram logits [i, j, c].

    By the bins' centres; the first and the last, which are open, are taken as wide
    as the others, so that nothing seems farther than about 22 Å.
    """
    edges = np.linspace(
        heads.distogram_first_break, heads.distogram_last_break, heads.distogram_num_bins - 1
    )
    step = edges[1] - edges[0]
    centres = np.append(edges - step / 2, edges[-1] + step / 2).astype(np.float32)
    return ops.sum(ops.softmax(ops.cast(logits, "float32"), axis=-1) * centres, axis=-1)


def contact_probability(logits: Tensor, heads: HeadsConfig) -> Tensor:
    """Probability [i, j] of less than 8 Å, of distogram logits [i, j, c].

    Bins that reach beyond 8 Å do not count: with the published edges, up to 7.94 Å.
    """
    edges = np.linspace(
        heads.distogram_first_break, heads.distogram_last_break, heads.distogram_num_bins - 1
    )
    near = np.append(edges <= CONTACT_DISTANCE, False).astype(np.float32)
    return ops.sum(ops.softmax(ops.cast(logits, "float32"), axis=-1) * near, axis=-1)


def contact_precision(
    probability: np.ndarray,
    pseudo_beta: np.ndarray,
    mask: np.ndarray,
    residue_index: np.ndarray,
    divisors: Sequence[int] = (1, 2, 5),
    separation: tuple[int, int] = LONG_RANGE,
    name: str = "contact_precision",
    chain: np.ndarray | None = None,
) -> dict[str, float]:
    """Share of true contacts among the L, L/2 and L/5 likeliest pairs (L known residues).

    Args:
        probability: [i, j]; pseudo_beta: true Cβ [i, 3] Å; mask, residue_index: [i];
        separation: residues by which a pair is apart, at least and at most (0 = any);
        chain: [i]; pairs of different chains do not count.

    Returns `<name>_l`, `…_l2`, `…_l5`; nothing where the chain is so short that
    fewer pairs than that are so far apart.
    """
    known = np.asarray(mask) > 0
    index = np.asarray(residue_index)[known]
    beta = np.asarray(pseudo_beta, float)[known]
    likely = np.asarray(probability, float)[np.ix_(known, known)]
    apart = index[None, :] - index[:, None]
    least, most = separation
    chosen = (apart >= least) & ((apart <= most) if most else True)
    if chain is not None:
        chain = np.asarray(chain)[known]
        chosen &= chain[:, None] == chain[None, :]
    first, second = np.nonzero(chosen)
    true = np.linalg.norm(beta[first] - beta[second], axis=-1) < CONTACT_DISTANCE
    ranked = true[np.argsort(-likely[first, second], kind="stable")]
    result = {}
    for divisor in divisors:
        top = max(len(index) // divisor, 1)
        if len(ranked) >= top:
            ending = "_l" + (str(divisor) if divisor > 1 else "")
            result[name + ending] = float(ranked[:top].mean())
    return result


def contact_precisions(
    probability: np.ndarray,
    pseudo_beta: np.ndarray,
    mask: np.ndarray,
    residue_index: np.ndarray,
    chain: np.ndarray | None = None,
) -> dict[str, float]:
    """`contact_precision_…` of long range (24 residues or more) and `medium_…` (12 to 23)."""
    arrays = (probability, pseudo_beta, mask, residue_index)
    return contact_precision(*arrays, chain=chain) | contact_precision(
        *arrays, separation=MEDIUM_RANGE, name="medium_contact_precision", chain=chain
    )
