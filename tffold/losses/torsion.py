"""Torsion angle loss (supplement 1.9.1, Algorithm 27)."""

from __future__ import annotations

from typing import Any

from keras import ops

from records import chemistry
from tffold.config import HeadsConfig, LossConfig
from tffold.geometry import atom37_to_torsion_angles
from tffold.geometry.atoms import lookup
from tffold.losses.common import Tensors, masked_mean

Tensor = Any


def _true_chi(batch: Tensors) -> tuple[Tensor, Tensor, Tensor]:
    chi = batch["chi_angles"]
    true = ops.stack([ops.sin(chi), ops.cos(chi)], axis=-1)
    turn = 1.0 - 2.0 * lookup(chemistry.CHI_PI_PERIODIC, batch["aatype"])
    return true, true * turn[..., None], batch["chi_mask"]


def _true_torsions(batch: Tensors) -> tuple[Tensor, Tensor, Tensor]:
    torsions = atom37_to_torsion_angles(
        batch["aatype"], batch["all_atom_positions"], batch["all_atom_mask"]
    )
    mask = torsions["torsion_angles_mask"] * batch["seq_mask"][:, None]
    return torsions["torsion_angles_sin_cos"], torsions["alt_torsion_angles_sin_cos"], mask


def torsion_loss(
    outputs: Tensors, batch: Tensors, config: LossConfig, heads: HeadsConfig
) -> dict[str, Tensor]:
    """Squared distance on the unit circle to the nearer of the truth's names (Algorithm 27).

        L_torsion = mean_if(min(|α_i^f - α_i^true,f|², |α_i^f - α_i^alt,f|²))        (3)

    Lines 1 and 2, the length and the unit vectors, are the structure module's.
    Mean over layers and angles.  DISCREPANCY: Algorithm 27 takes all seven
    angles; DeepMind's code, and so the default here, chi1 to chi4;
    `torsion_all_angles` follows the paper.
    """
    predicted = outputs["structure_module"]["sidechains"]["angles_sin_cos"]
    if config.torsion_all_angles:
        true, alternative, mask = _true_torsions(batch)
    else:
        predicted = predicted[..., 3:, :]
        true, alternative, mask = _true_chi(batch)
    error = ops.minimum(
        ops.sum(ops.square(predicted - true), axis=-1),
        ops.sum(ops.square(predicted - alternative), axis=-1),
    )
    loss = masked_mean(error, ops.broadcast_to(mask, ops.shape(error)), 1e-10)
    return {"loss": loss}


def angle_norm_loss(
    outputs: Tensors, batch: Tensors, config: LossConfig, heads: HeadsConfig
) -> dict[str, Tensor]:
    """How far the raw angle vectors' lengths are from one (Algorithm 27, lines 1 and 4).

    l_i^f = |α_i^f|                                                 (1)
    L_anglenorm = mean_if(|l_i^f - 1|)                              (4)
    """
    raw = outputs["structure_module"]["sidechains"]["unnormalized_angles_sin_cos"]
    error = ops.abs(ops.sqrt(ops.sum(ops.square(raw), axis=-1) + 1e-6) - 1.0)
    mask = ops.broadcast_to(batch["seq_mask"][:, None], ops.shape(error))
    loss = masked_mean(error, mask, 1e-10)
    return {"loss": loss}
