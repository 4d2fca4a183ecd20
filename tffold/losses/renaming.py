"""Names of symmetric atoms, chosen in favour of the prediction (supplement 1.8.5, Algorithm 26)."""

from __future__ import annotations

from typing import Any

import numpy as np
from keras import ops

from records import chemistry
from tffold.losses.common import Tensors

Tensor = Any

# Slots that are ambiguous in any residue type: a contiguous few of the 14.
_SLOTS = np.flatnonzero(chemistry.ATOM14_AMBIGUOUS.any(axis=0))
_FIRST, _LAST = int(_SLOTS[0]), int(_SLOTS[-1]) + 1


def _distances(some: Tensor, others: Tensor) -> Tensor:
    """Distances [p, q] in Å of points [p, 3] and [q, 3], by coordinate."""
    total = 1e-10
    for x in range(3):
        total += ops.square(some[:, None, x] - others[None, :, x])
    return ops.sqrt(total)


def rename_ground_truth(batch: Tensors, positions: Tensor) -> dict[str, Tensor]:
    """Rename truth's symmetric atoms where that fits the prediction better (Algorithm 26).

        d_ab, d_ab^true, d_ab^alt = distances of atoms a and b                       (1 to 3)
        for all residues i:                                                          (4)
            if Σ_ab |d_ab - d_ab^alt| < Σ_ab |d_ab - d_ab^true|:                     (5)
                x_i^true <- x_i^alt                                                  (6)
                T_i^true <- T_i^alt                                                  (7)

    a runs over i's ambiguous atoms, b over all unambiguous ones. `sidechain_fape` does line 7.

    Args:
        batch: the atom14 labels; positions: predicted [R, 14, 3] Å.

    Returns `alt_naming_is_better` [R] (1.0 where renamed), `renamed_atom14_gt_positions`
    [R, 14, 3] and `renamed_atom14_gt_exists` [R, 14].
    """
    positions = ops.stop_gradient(positions)
    exists, alt_exists = batch["atom14_gt_exists"], batch["atom14_alt_gt_exists"]
    truth, alt_truth = batch["atom14_gt_positions"], batch["atom14_alt_gt_positions"]
    ambiguous = batch["atom14_atom_is_ambiguous"]
    num_res = positions.shape[0]

    def some(values: Tensor) -> Tensor:
        # [R, 14, 3] -> [R few, 3]
        return ops.reshape(values[:, _FIRST:_LAST], (-1, 3))

    def every(values: Tensor) -> Tensor:
        # [R, 14, 3] -> [R 14, 3]
        return ops.reshape(values, (-1, 3))

    unambiguous = ops.reshape(exists * (1.0 - ambiguous), (-1,))
    predicted = _distances(some(positions), every(positions))

    def deviation(true_positions: Tensor) -> Tensor:
        error = ops.abs(predicted - _distances(some(true_positions), every(true_positions)))
        per_atom = ops.sum(error * unambiguous, axis=-1)
        per_atom = ops.reshape(per_atom, (num_res, _LAST - _FIRST))
        return ops.sum(per_atom * (exists * ambiguous)[:, _FIRST:_LAST], axis=-1)

    better = ops.cast(deviation(alt_truth) < deviation(truth), "float32")
    swap = better[:, None]
    return {
        "alt_naming_is_better": better,
        "renamed_atom14_gt_positions": (1.0 - swap[..., None]) * truth
        + swap[..., None] * alt_truth,
        "renamed_atom14_gt_exists": (1.0 - swap) * exists + swap * alt_exists,
    }
