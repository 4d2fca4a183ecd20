"""Losses of the heads beside the structure module (supplement 1.9.6 to 1.9.10)."""

from __future__ import annotations

from typing import Any

import numpy as np
from keras import ops

from records import chemistry
from tffold.config import HeadsConfig, LossConfig
from tffold.geometry import bin_index, lddt_per_residue, pairwise_distances_sq, rigid
from tffold.losses.common import (
    Tensors,
    masked_mean,
    resolution_filter,
    sigmoid_cross_entropy,
    softmax_cross_entropy,
)

Tensor = Any
_CA = chemistry.ATOM_ORDER["CA"]


def distogram_loss(
    outputs: Tensors, batch: Tensors, config: LossConfig, heads: HeadsConfig
) -> dict[str, Tensor]:
    """Cross-entropy of binned Cβ distances (supplement 1.9.8)."""
    edges = np.linspace(
        heads.distogram_first_break, heads.distogram_last_break, heads.distogram_num_bins - 1
    )
    true_bin = bin_index(pairwise_distances_sq(batch["pseudo_beta"]), edges**2)
    mask = batch["pseudo_beta_mask"]
    error = softmax_cross_entropy(outputs["distogram"]["logits"], true_bin)
    return {"loss": masked_mean(error, mask[:, None] * mask[None, :], 1e-6)}


def masked_msa_loss(
    outputs: Tensors, batch: Tensors, config: LossConfig, heads: HeadsConfig
) -> dict[str, Tensor]:
    """Cross-entropy of the masked MSA entries (supplement 1.9.9)."""
    error = softmax_cross_entropy(outputs["masked_msa"]["logits"], batch["true_msa"])
    return {"loss": masked_mean(error, batch["bert_mask"])}


def predicted_lddt_loss(
    outputs: Tensors, batch: Tensors, config: LossConfig, heads: HeadsConfig
) -> dict[str, Tensor]:
    """Cross-entropy of the binned lDDT-Cα (supplement 1.9.6); bins have no gradient."""
    predicted = outputs["structure_module"]["final_atom_positions"][:, _CA]
    mask = ops.cast(batch["all_atom_mask"][:, _CA], "float32")
    lddt = lddt_per_residue(predicted, batch["all_atom_positions"][:, _CA], mask)
    num_bins = heads.predicted_lddt_num_bins
    true_bin = ops.minimum(ops.cast(ops.floor(lddt * num_bins), "int32"), num_bins - 1)
    error = softmax_cross_entropy(outputs["predicted_lddt"]["logits"], true_bin)
    return {"loss": masked_mean(error, mask) * resolution_filter(batch, config)}


def predicted_aligned_error_loss(
    outputs: Tensors, batch: Tensors, config: LossConfig, heads: HeadsConfig
) -> dict[str, Tensor]:
    """Cross-entropy of the binned error of Cα j in frame i (supplement 1.9.7).

    DISCREPANCY: the first edge is zero, so that bin 0 holds errors of exactly zero alone. In
    DeepMind's code rounding decides which pairs of a residue with itself lie there, and a compiler
    may turn them over. Here bin 1, the errors up to half an Å, holds them all; or, with
    `zero_error_bin`, bin 0 does, as in DeepMind's multimer code.
    """
    backbone = outputs["structure_module"]["backbone"]
    frames = rigid.Rigid(backbone.rot[-1], backbone.trans[-1])
    true_frames = rigid.from_tensor_7(batch["backbone_affine_tensor"])

    def local(r: rigid.Rigid) -> Tensor:
        return rigid.invert_apply(rigid.expand(r), r.trans)  # [i, j, 3]

    error_sq = ops.sum(ops.square(local(frames) - local(true_frames)), axis=-1)
    edges = np.linspace(
        0.0,
        heads.predicted_aligned_error_max_bin,
        heads.predicted_aligned_error_num_bins - 1,
    )
    true_bin = ops.maximum(bin_index(error_sq, edges**2), 1)
    if config.zero_error_bin:
        true_bin = true_bin * (1 - ops.eye(true_bin.shape[0], dtype="int32"))
    mask = batch["backbone_affine_mask"]
    error = softmax_cross_entropy(outputs["predicted_aligned_error"]["logits"], true_bin)
    loss = masked_mean(error, mask[:, None] * mask[None, :])
    return {"loss": loss * resolution_filter(batch, config)}


def experimentally_resolved_loss(
    outputs: Tensors, batch: Tensors, config: LossConfig, heads: HeadsConfig
) -> dict[str, Tensor]:
    """Binary cross-entropy of whether each atom was resolved (supplement 1.9.10)."""
    resolved = ops.cast(batch["all_atom_mask"], "float32")
    error = sigmoid_cross_entropy(outputs["experimentally_resolved"]["logits"], resolved)
    loss = masked_mean(error, batch["atom37_atom_exists"])
    return {"loss": loss * resolution_filter(batch, config)}
