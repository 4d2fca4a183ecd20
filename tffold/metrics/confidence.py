"""What the network says of itself: pLDDT, predicted aligned error, predicted TM-score."""

from __future__ import annotations

from typing import Any

import numpy as np
from keras import ops

from tffold.config import HeadsConfig
from tffold.geometry import rigid
from tffold.geometry.rigid import Rigid

Tensor = Any


def predicted_lddt(logits: Tensor) -> Tensor:
    """pLDDT [..., i] in 0..100: the expectation over bins (Algorithm 29, lines 2 and 3).

        p_i = softmax(logits_i)                                         (2)
        r_i = p_i · v_bins,  v_bins = [1, 3, ..., 99]                   (3)

    ``logits`` [..., i, c].
    """
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


def predicted_tm_score(
    logits: Tensor, mask: Tensor, heads: HeadsConfig, chain: Tensor | None = None
) -> Tensor:
    """Predicted TM-score (supplement 1.9.7, equation 40) over residues with `mask` [i].

    With `chain` [i] the ipTM of complexes (Evans et al. 2021): each residue's mean is over those
    of other chains alone; 0 where there is but one chain.
    """
    probability = ops.softmax(ops.cast(logits, "float32"), axis=-1)
    by_bin = _closeness(_error_bin_centres(heads), mask)
    expected = ops.sum(probability * by_bin, axis=-1)  # [i, j]
    return _best_frame(expected, mask, mask, chain)


def true_tm_score(
    error: Tensor, mask: Tensor, frame_mask: Tensor, chain: Tensor | None = None
) -> Tensor:
    """What `predicted_tm_score` foretells, of the true errors [i, j] in Å of Cα j in frame i.

    `mask` [i] is 1 where Cα is known, `frame_mask` [i] where the whole backbone is. With `chain`
    [i] the interface TM-score that ipTM foretells.
    """
    return _best_frame(_closeness(error, mask), mask, frame_mask, chain)


def aligned_error(predicted: Rigid, true: Rigid) -> Tensor:
    """Error [i, j] in Å of origin j in frame i, of frames [i] (supplement 1.9.7)."""

    def local(frames: Rigid) -> Tensor:
        return rigid.invert_apply(rigid.expand(frames), frames.trans)  # [i, j, 3]

    return ops.sqrt(ops.sum(ops.square(local(predicted) - local(true)), axis=-1))


def _closeness(error: Tensor, mask: Tensor) -> Tensor:
    """The TM-score's share of errors in Å, by the scale for as many residues as `mask` [i] has."""
    num_res = ops.maximum(ops.sum(mask), 19.0)
    d0 = 1.24 * ops.power(num_res - 15.0, 1.0 / 3.0) - 1.8
    return 1.0 / (1.0 + ops.square(error / d0))


def _best_frame(share: Tensor, mask: Tensor, frame_mask: Tensor, chain: Tensor | None) -> Tensor:
    """The largest mean of a row of `share` [i, j] over residues j, those of other chains alone."""
    counted = mask[None, :]
    if chain is not None:
        apart = ops.not_equal(chain[:, None], chain[None, :])
        counted = counted * ops.cast(apart, "float32")
    total = ops.maximum(ops.sum(counted, axis=-1), 1.0)
    return ops.max(ops.sum(share * counted, axis=-1) / total * frame_mask)


def ranking_score(ptm: float, iptm: float) -> float:
    """By what predictions of complexes are ranked (Evans et al. 2021)."""
    return 0.8 * iptm + 0.2 * ptm


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
