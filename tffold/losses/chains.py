"""How far apart the chains of a complex lie (Evans et al. 2021)."""

from __future__ import annotations

from typing import Any

from keras import ops

from records import chemistry
from tffold.config import HeadsConfig, LossConfig
from tffold.losses.common import Tensors

Tensor = Any
_CA = chemistry.ATOM_ORDER["CA"]
_ALLOWED = 4.0  # Å by which two centres may be nearer than they are in truth
_UNIT = 20.0  # Å


def chain_center_loss(
    outputs: Tensors, batch: Tensors, config: LossConfig, heads: HeadsConfig
) -> dict[str, Tensor]:
    """Penalty on chains whose centres of mass are nearer to each other than in truth.

        c_k = mean of chain k's Cα
        L = mean_kl((min(|c_k - c_l| - |c_k^true - c_l^true| + 4 Å, 0) / 20 Å)²)

    k and l are all chains with resolved residues in the crop, pairs of a chain with itself among
    them; a chain's Cα are those that truth knows. It only pushes apart.
    """
    mask = ops.cast(batch["all_atom_mask"][:, _CA], "float32")
    chain = batch["asym_id"]
    same_chain = ops.cast(ops.equal(chain[:, None], chain[None, :]), "float32") * mask[None, :]
    # A chain's residues share its weight of one, so that no list of chains is needed.
    size = ops.sum(same_chain, axis=-1)
    weight = mask / ops.maximum(size, 1.0)

    def distances(positions: Tensor) -> Tensor:
        """Between the centres of i's and j's chains, [i, j]."""
        total = 1e-10
        for x in range(3):
            # Not a matrix product, see `tffold.geometry.rigid`.
            sums = ops.sum(same_chain * positions[None, :, x], axis=-1)
            centre = sums / ops.maximum(size, 1.0)
            total += ops.square(centre[:, None] - centre[None, :])
        return ops.sqrt(total)

    predicted = outputs["structure_module"]["final_atom_positions"][:, _CA]
    nearer = distances(predicted) - distances(batch["all_atom_positions"][:, _CA]) + _ALLOWED
    error = ops.square(ops.minimum(nearer, 0.0) / _UNIT)
    total = ops.sum(error * weight[:, None] * weight[None, :])
    return {"loss": total / ops.maximum(ops.square(ops.sum(weight)), 1.0)}
