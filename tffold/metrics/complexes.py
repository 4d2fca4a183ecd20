"""Every metric of a complex, beside those that it has as one long chain."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import combinations
from typing import Any

import numpy as np

from records import chemistry
from tffold.config import HeadsConfig
from tffold.geometry import rigid
from tffold.metrics.confidence import (
    aligned_error,
    predicted_tm_score,
    ranking_score,
    true_tm_score,
)
from tffold.metrics.interfaces import Interface, interface_scores

Tensors = Mapping[str, Any]

_N, _CA, _C = (chemistry.ATOM_ORDER[name] for name in ("N", "CA", "C"))


def complex_metrics(
    outputs: Tensors, batch: Tensors, heads: HeadsConfig
) -> tuple[dict[str, float], list[Interface]]:
    """Metrics of one example whose labels lie as its chains were matched, and of its interfaces.

    See `interface_scores`. With the aligned-error head also `predicted_iptm`, what it foretells,
    `interface_tm`, the difference of the two, `iptm_error`, and the `ranking_score`; of an
    interface they are those of its two chains as if they were the whole complex.

    Returns nothing for an example of one chain.
    """
    chain = np.where(np.asarray(batch["seq_mask"]) > 0, batch["asym_id"], 0)
    if len(np.unique(chain[chain > 0])) < 2:
        return {}, []
    predicted = np.asarray(outputs["structure_module"]["final_atom_positions"])
    exists = np.asarray(batch["atom37_atom_exists"])
    true, mask = (np.asarray(batch[n]) for n in ("all_atom_positions", "all_atom_mask"))
    whole, interfaces = interface_scores(predicted, exists, true, mask, chain)
    if "predicted_aligned_error" not in outputs:
        return whole, interfaces
    logits = np.asarray(outputs["predicted_aligned_error"]["logits"])
    residues = np.flatnonzero(chain)
    said = _said_and_true(logits, predicted, true, mask, chain, residues, heads)
    ptm = float(predicted_tm_score(logits, np.asarray(chain > 0, np.float32), heads))
    whole |= said | {"ranking_score": ranking_score(ptm, said["predicted_iptm"])}
    for one in interfaces:
        of_both = np.flatnonzero((chain == one.first) | (chain == one.second))
        one.scores.update(_said_and_true(logits, predicted, true, mask, chain, of_both, heads))
    return whole, interfaces


def _said_and_true(
    logits: np.ndarray,
    predicted: np.ndarray,
    true: np.ndarray,
    mask: np.ndarray,
    chain: np.ndarray,
    residues: np.ndarray,
    heads: HeadsConfig,
) -> dict[str, float]:
    """ipTM and the interface TM-score that it foretells, over these residues alone."""
    chain = chain[residues]
    every = np.ones(len(residues), np.float32)
    iptm = float(predicted_tm_score(logits[np.ix_(residues, residues)], every, heads, chain))

    def frames(positions: np.ndarray) -> rigid.Rigid:
        atoms = positions[residues].astype(np.float32)
        return rigid.from_3_points(*(atoms[:, slot] for slot in (_N, _CA, _C)))

    known = mask[residues].astype(np.float32)
    error = aligned_error(frames(predicted), frames(true))
    tm = true_tm_score(error, known[:, _CA], known[:, [_N, _CA, _C]].prod(-1), chain)
    result = {"predicted_iptm": iptm}
    if len(np.unique(chain[known[:, _CA] > 0])) > 1:
        result |= {"interface_tm": float(tm), "iptm_error": abs(iptm - float(tm))}
    return result


def iptm_by_pair(
    logits: np.ndarray, chain: np.ndarray, heads: HeadsConfig
) -> dict[tuple[int, int], float]:
    """ipTM of every two chains as if they were the whole complex.

    `logits`: [R, R, bins] of the aligned-error head; `chain`: [R].
    """
    found = {}
    for first, second in combinations(np.unique(chain).tolist(), 2):
        residues = np.flatnonzero((chain == first) | (chain == second))
        part = np.asarray(logits)[np.ix_(residues, residues)]
        every = np.ones(len(residues), np.float32)
        found[first, second] = float(predicted_tm_score(part, every, heads, chain[residues]))
    return found
