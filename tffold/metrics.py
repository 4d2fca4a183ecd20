"""How good a predicted structure is, and how well the network knows it.

Functions in `keras.ops` run within a compiled step; those that search
superpositions or rank pairs are plain NumPy and belong to validation.
Coordinates are Cα unless said otherwise, in Å; scores lie in 0..1 but for
pLDDT (0..100).  Violations are in `tffold.losses.violation_metrics`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import keras
import numpy as np
from keras import ops

from records import chemistry
from tffold import geometry
from tffold.config import HeadsConfig

Tensor = Any
Tensors = Mapping[str, Any]

_CA = chemistry.ATOM_ORDER["CA"]
GDT_TS_CUTOFFS = (1.0, 2.0, 4.0, 8.0)  # Å
GDT_HA_CUTOFFS = (0.5, 1.0, 2.0, 4.0)
CONTACT_DISTANCE = 8.0  # Å between Cβ (Cα for glycine)
LONG_RANGE = 24  # residues between contacts worth predicting


def ca_coordinates(outputs: Tensors, batch: Tensors) -> tuple[Tensor, Tensor, Tensor]:
    """Predicted and true Cα [R, 3] and which of the true ones are known [R], of one example."""
    predicted = outputs["structure_module"]["final_atom_positions"][:, _CA]
    mask = ops.cast(batch["all_atom_mask"][:, _CA], "float32")
    return predicted, batch["all_atom_positions"][:, _CA], mask


def drmsd(predicted: Tensor, true: Tensor, mask: Tensor) -> Tensor:
    """Root mean square deviation [...] in Å of the distances within points [..., i, 3].

    Needs no superposition; blind to mirror images.
    """
    error = geometry.pairwise_distances(predicted) - geometry.pairwise_distances(true)
    both = mask[..., :, None] * mask[..., None, :]
    known = ops.sum(mask, axis=-1)
    total = ops.sum(ops.square(error) * both, axis=(-1, -2))
    return ops.sqrt(total / ops.maximum(known * (known - 1.0), 1.0))


def ca_metrics(outputs: Tensors, batch: Tensors) -> dict[str, Tensor]:
    """`lddt_ca`, `drmsd_ca` and superposed `rmsd_ca` of one example, as tensors."""
    predicted, true, mask = ca_coordinates(outputs, batch)
    return {
        "lddt_ca": geometry.lddt(predicted, true, mask),
        "drmsd_ca": drmsd(predicted, true, mask),
        "rmsd_ca": geometry.superposed_rmsd(predicted, true, mask),
    }


# --- superposition searches -------------------------------------------------


def tm_d0(length: int) -> float:
    """The TM-score's distance scale in Å for a chain of `length` residues."""
    return max(1.24 * np.cbrt(length - 15.0) - 1.8, 0.5)


def _superposed_distances(
    predicted: np.ndarray, true: np.ndarray, weight: np.ndarray
) -> np.ndarray:
    """Distances [s, i] after superposing points [i, 3] on weights [s, i], by Kabsch's method."""
    share = weight / weight.sum(axis=-1, keepdims=True)
    from_centre = predicted - (share @ predicted)[:, None]  # [s, i, 3]
    to_centre = true - (share @ true)[:, None]
    covariance = np.swapaxes(from_centre * share[..., None], -1, -2) @ to_centre
    u, _, vt = np.linalg.svd(covariance)
    handed = np.sign(np.linalg.det(u) * np.linalg.det(vt))
    u[..., -1] *= np.where(handed == 0.0, 1.0, handed)[:, None]
    return np.linalg.norm(from_centre @ (u @ vt) - to_centre, axis=-1)


def _seeds(num: int, max_starts: int) -> np.ndarray:
    """Weights [s, i]: the whole chain, and fragments of it, halving down to four residues."""
    rows = []
    length = num
    while True:
        starts = np.arange(num - length + 1)
        if len(starts) > max_starts:
            starts = np.linspace(0, num - length, max_starts).round().astype(int)
        rows += [(np.arange(num) >= s) & (np.arange(num) < s + length) for s in starts]
        if length <= 4:
            return np.array(rows, float)
        length = max(length // 2, 4)


def superposition_scores(
    predicted: np.ndarray,
    true: np.ndarray,
    mask: np.ndarray,
    max_starts: int = 64,
    num_rounds: int = 20,
) -> dict[str, float]:
    """`tm_score`, `gdt_ts` and `gdt_ha`, each at the superposition that suits it best.

    Searched as the TM-score program does (Zhang and Skolnick 2004): superpose on
    fragments of several lengths, then again and again on the residues that came
    near.  Residues correspond by position; the scores are shares of those whose
    truth is known, of which there must be at least one.

    Args:
        predicted, true: [i, 3] Å; mask: [i];
        max_starts: fragments tried of each length; num_rounds: refinements at most.
    """
    known = np.asarray(mask) > 0
    num = int(known.sum())
    if num == 0:
        raise ValueError("no residue's true position is known: there is nothing to score")
    predicted, true = (np.asarray(x, float)[known] for x in (predicted, true))
    d0 = tm_d0(num)
    reach = float(np.clip(d0, 4.5, 8.0))
    cutoffs = sorted({*GDT_TS_CUTOFFS, *GDT_HA_CUTOFFS})
    best_tm, best_within = 0.0, dict.fromkeys(cutoffs, 0.0)
    weight = _seeds(num, max_starts)
    for round_number in range(num_rounds + 1):
        distance = _superposed_distances(predicted, true, weight)
        best_tm = max(best_tm, (1.0 / (1.0 + (distance / d0) ** 2)).mean(axis=-1).max())
        for cutoff in cutoffs:
            within = (distance <= cutoff).mean(axis=-1).max()
            best_within[cutoff] = max(best_within[cutoff], within)
        # Near residues, but never fewer than the three nearest.
        limit = reach - 1.0 if round_number == 0 else reach + 1.0
        third = np.sort(distance, axis=-1)[:, min(2, num - 1), None]
        near = (distance <= np.maximum(limit, third)).astype(float)
        moving = (near != weight).any(axis=-1)
        weight = np.unique(near[moving], axis=0)
        if len(weight) == 0:
            break
    return {
        "tm_score": float(best_tm),
        "gdt_ts": float(np.mean([best_within[cutoff] for cutoff in GDT_TS_CUTOFFS])),
        "gdt_ha": float(np.mean([best_within[cutoff] for cutoff in GDT_HA_CUTOFFS])),
    }


# --- what the network says of itself ----------------------------------------


def predicted_lddt(logits: Tensor) -> Tensor:
    """pLDDT [..., i] in 0..100: the expectation over bins [..., i, c] (Algorithm 29)."""
    probability = ops.softmax(ops.cast(logits, "float32"), axis=-1)
    num_bins = logits.shape[-1]
    centres = (np.arange(num_bins, dtype=np.float32) + 0.5) / num_bins
    return 100.0 * ops.sum(probability * centres, axis=-1)


def _error_bin_centres(heads: HeadsConfig) -> np.ndarray:
    """Å; DISCREPANCY: as in DeepMind's code bin 0 lies *above* the first edge, which is 0."""
    num_bins = heads.predicted_aligned_error_num_bins
    step = heads.predicted_aligned_error_max_bin / (num_bins - 2)
    return ((np.arange(num_bins) + 0.5) * step).astype(np.float32)


def max_aligned_error(heads: HeadsConfig) -> float:
    """Å; the largest error that can be predicted."""
    return float(_error_bin_centres(heads)[-1])


def predicted_aligned_error(logits: Tensor, heads: HeadsConfig) -> Tensor:
    """Expected error [i, j] in Å of Cα j in frame i, of logits [i, j, c] (supplement 1.9.7)."""
    probability = ops.softmax(ops.cast(logits, "float32"), axis=-1)
    return ops.sum(probability * _error_bin_centres(heads), axis=-1)


def predicted_tm_score(logits: Tensor, mask: Tensor, heads: HeadsConfig) -> Tensor:
    """Predicted TM-score (supplement 1.9.7, equation 40) over residues with `mask` [i]."""
    probability = ops.softmax(ops.cast(logits, "float32"), axis=-1)
    num_res = ops.maximum(ops.sum(mask), 19.0)
    d0 = 1.24 * ops.power(num_res - 15.0, 1.0 / 3.0) - 1.8
    by_bin = 1.0 / (1.0 + ops.square(_error_bin_centres(heads) / d0))
    expected = ops.sum(probability * by_bin, axis=-1)  # [i, j]
    total = ops.maximum(ops.sum(mask), 1.0)
    return ops.max(ops.sum(expected * mask[None, :], axis=-1) / total * mask)


def confidence_calibration(
    plddt: np.ndarray, lddt: np.ndarray, mask: np.ndarray
) -> dict[str, float]:
    """How pLDDT (0..100) follows the true lDDT (0..1) of residues [i].

    Returns `plddt` and `plddt_error`, its mean and mean absolute error (0..100),
    and, unless either is constant, `plddt_correlation` (Pearson's).
    """
    known = np.asarray(mask) > 0
    said, true = np.asarray(plddt, float)[known], 100.0 * np.asarray(lddt, float)[known]
    result = {"plddt": float(said.mean()), "plddt_error": float(np.abs(said - true).mean())}
    if said.std() > 0.0 and true.std() > 0.0:
        result["plddt_correlation"] = float(np.corrcoef(said, true)[0, 1])
    return result


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
    min_separation: int = LONG_RANGE,
) -> dict[str, float]:
    """Share of true contacts among the L, L/2 and L/5 likeliest pairs (L known residues).

    Args:
        probability: [i, j]; pseudo_beta: true Cβ [i, 3] Å; mask, residue_index: [i];
        min_separation: residues by which a pair must be apart.

    Returns `contact_precision_l`, `…_l2`, `…_l5`; nothing where the chain is so
    short that fewer pairs than that are far enough apart.
    """
    known = np.asarray(mask) > 0
    index = np.asarray(residue_index)[known]
    beta = np.asarray(pseudo_beta, float)[known]
    likely = np.asarray(probability, float)[np.ix_(known, known)]
    far = index[None, :] - index[:, None] >= min_separation
    first, second = np.nonzero(far)
    true = np.linalg.norm(beta[first] - beta[second], axis=-1) < CONTACT_DISTANCE
    ranked = true[np.argsort(-likely[first, second], kind="stable")]
    result = {}
    for divisor in divisors:
        top = max(len(index) // divisor, 1)
        if len(ranked) >= top:
            name = "contact_precision_l" + (str(divisor) if divisor > 1 else "")
            result[name] = float(ranked[:top].mean())
    return result


# --- all of one chain, and means over chains --------------------------------


def chain_metrics(outputs: Tensors, batch: Tensors, heads: HeadsConfig) -> dict[str, float]:
    """Every metric of one example without cycle axis, as plain numbers.

    Confidence and contacts are there if `outputs` holds the head they come from.

    Raises:
        ValueError: no Cα of the chain is known.
    """
    predicted, true, mask = (np.asarray(x) for x in ca_coordinates(outputs, batch))
    result = {name: float(value) for name, value in ca_metrics(outputs, batch).items()}
    result |= superposition_scores(predicted, true, mask)
    if "predicted_lddt" in outputs:
        plddt = np.asarray(predicted_lddt(outputs["predicted_lddt"]["logits"]))
        lddt = np.asarray(geometry.lddt_per_residue(predicted, true, mask))
        result |= confidence_calibration(plddt, lddt, mask)
    if "predicted_aligned_error" in outputs:
        logits = outputs["predicted_aligned_error"]["logits"]
        result["predicted_tm"] = float(predicted_tm_score(logits, batch["seq_mask"], heads))
    if "distogram" in outputs:
        result |= contact_precision(
            np.asarray(contact_probability(outputs["distogram"]["logits"], heads)),
            batch["pseudo_beta"],
            batch["pseudo_beta_mask"],
            batch["residue_index"],
        )
    return result


class ChainMean(keras.metrics.Mean):
    """Mean over chains of one number, as a Keras metric.

    `update_state(batch, outputs)` takes one example without cycle axis.
    """

    def __init__(self, function: Callable[[Tensors, Tensors], Any], name: str) -> None:
        """`function(outputs, batch)` gives the number."""
        super().__init__(name=name)
        self.function = function

    def update_state(self, batch: Tensors, outputs: Tensors, sample_weight: Any = None) -> None:
        """Count one more chain."""
        super().update_state(self.function(outputs, batch), sample_weight)


def keras_metrics() -> list[ChainMean]:
    """`lddt_ca`, `drmsd_ca` and `rmsd_ca` as Keras metrics."""
    functions = {"lddt_ca": geometry.lddt, "drmsd_ca": drmsd, "rmsd_ca": geometry.superposed_rmsd}
    return [
        ChainMean(lambda outputs, batch, f=function: f(*ca_coordinates(outputs, batch)), name)
        for name, function in functions.items()
    ]
