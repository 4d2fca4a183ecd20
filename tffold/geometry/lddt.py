"""Local distance difference test on Cα (supplement 1.9.6; Mariani et al. 2013)."""

from __future__ import annotations

from typing import Any

from keras import ops

from tffold.geometry.distances import pairwise_distances

Tensor = Any


def _preserved(predicted: Tensor, true: Tensor, mask: Tensor, cutoff: float) -> tuple:
    """Weights and scores [..., i, j] of every scored pair of residues."""
    true_distance = pairwise_distances(true)
    error = ops.abs(pairwise_distances(predicted) - true_distance)
    other = 1.0 - ops.eye(ops.shape(true)[-2], dtype="float32")
    within = ops.cast(true_distance < cutoff, "float32")
    weight = within * mask[..., :, None] * mask[..., None, :] * other
    score = sum(ops.cast(error < limit, "float32") for limit in (0.5, 1.0, 2.0, 4.0)) / 4.0
    return weight, score


def _ratio(weight: Tensor, score: Tensor, axis: Any) -> Tensor:
    # Multiplying by the reciprocal, as DeepMind's code does, decides which bin of the
    # pLDDT loss a value on an edge falls into.
    epsilon = 1e-10
    return (1.0 / (epsilon + ops.sum(weight, axis=axis))) * (
        epsilon + ops.sum(weight * score, axis=axis)
    )


def lddt(predicted: Tensor, true: Tensor, mask: Tensor, cutoff: float = 15.0) -> Tensor:
    """lDDT in 0..1 over all pairs.

    Args:
        predicted, true: [..., i, 3] Å; mask: [..., i], 1 where the true atom is known;
        cutoff: Å, pairs that are farther apart in the truth do not count.

    Returns [...]; 1 where no pair counts.
    """
    weight, score = _preserved(predicted, true, mask, cutoff)
    return _ratio(weight, score, (-1, -2))


def lddt_per_residue(predicted: Tensor, true: Tensor, mask: Tensor, cutoff: float = 15.0) -> Tensor:
    """lDDT in 0..1 of each residue [..., i]; 1 where no pair counts. See `lddt`."""
    weight, score = _preserved(predicted, true, mask, cutoff)
    return _ratio(weight, score, -1)
