"""Distances between points, and their bins.  Å; Å² where a name ends in `_sq`."""

from __future__ import annotations

from typing import Any

import numpy as np
from keras import ops

Tensor = Any


def pairwise_distances_sq(points: Tensor) -> Tensor:
    """Squared distances [..., i, j] of points [..., i, 3], exact to rounding.

    Summed by coordinate: the shorter route through a matrix product cancels badly.
    """
    total = 0.0
    for axis in range(3):
        x = points[..., axis]
        total += ops.square(x[..., :, None] - x[..., None, :])
    return total


def pairwise_distances(points: Tensor, epsilon: float = 1e-10) -> Tensor:
    """Distances [..., i, j]; `epsilon` (Å²) keeps the gradient finite at zero."""
    return ops.sqrt(pairwise_distances_sq(points) + epsilon)


def bin_index(values: Tensor, edges: np.ndarray) -> Tensor:
    """How many of the ascending `edges` lie below each value: int32, same shape as `values`."""
    above = values[..., None] > ops.convert_to_tensor(np.asarray(edges, np.float32))
    return ops.sum(ops.cast(above, "int32"), axis=-1)


def dgram(points: Tensor, min_bin: float, max_bin: float, num_bins: int) -> Tensor:
    """One-hot distance bins of points (Algorithm 5; Algorithm 32, lines 1 and 2).

        d_ij = |x_i - x_j|                                              (32: 1)
        p_ij = one_hot(d_ij, v_bins)                                    (32: 2)

    Points [..., i, 3] -> [..., i, j, num_bins].
    Lower edges run evenly from `min_bin` to `max_bin`; the last bin is open
    upwards; below the first edge all bins are zero.

    DISCREPANCY: as in DeepMind's code the numbers given are bin edges (Algorithm 32: centres).
    """
    lower = np.linspace(min_bin, max_bin, num_bins, dtype=np.float32) ** 2
    upper = np.append(lower[1:], np.float32(1e8))
    distance_sq = pairwise_distances_sq(points)[..., None]
    return ops.cast(ops.logical_and(distance_sq > lower, distance_sq < upper), "float32")
