"""THE loss table: every term, its weight and its function (supplement 1.9, equation 7)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from keras import ops

from tffold.config import HeadsConfig, LossConfig
from tffold.losses import chains, fape, heads, torsion, violations
from tffold.losses.common import Tensors

Tensor = Any
LossFunction = Callable[[Tensors, Tensors, LossConfig, HeadsConfig], dict[str, Tensor]]


class LossTerm(NamedTuple):
    """One row of the table.

    `function(outputs, batch, config, heads)` returns scalars: `loss`, which
    counts, and parts to show beside it.  `weight` names the field of
    `LossConfig` that weighs the term within its head; None weighs 1.
    """

    head: str
    name: str
    weight: str | None
    function: LossFunction


# What weighs each head in the total.
HEAD_WEIGHTS: dict[str, str] = {
    "structure_module": "structure_module_weight",
    "distogram": "distogram_weight",
    "masked_msa": "masked_msa_weight",
    "predicted_lddt": "predicted_lddt_weight",
    "predicted_aligned_error": "predicted_aligned_error_weight",
    "experimentally_resolved": "experimentally_resolved_weight",
}

LOSS_TERMS: tuple[LossTerm, ...] = (
    LossTerm("structure_module", "backbone_fape", "backbone_fape_weight", fape.backbone_fape),
    LossTerm("structure_module", "sidechain_fape", "sidechain_fape_weight", fape.sidechain_fape),
    LossTerm("structure_module", "chi_loss", "chi_weight", torsion.torsion_loss),
    LossTerm("structure_module", "angle_norm_loss", "angle_norm_weight", torsion.angle_norm_loss),
    LossTerm("structure_module", "chain_center", "chain_center_weight", chains.chain_center_loss),
    LossTerm("structure_module", "violation", "violation_weight", violations.violation_loss),
    LossTerm("distogram", "distogram", None, heads.distogram_loss),
    LossTerm("masked_msa", "masked_msa", None, heads.masked_msa_loss),
    LossTerm("predicted_lddt", "predicted_lddt", None, heads.predicted_lddt_loss),
    LossTerm(
        "predicted_aligned_error",
        "predicted_aligned_error",
        None,
        heads.predicted_aligned_error_loss,
    ),
    LossTerm(
        "experimentally_resolved",
        "experimentally_resolved",
        None,
        heads.experimentally_resolved_loss,
    ),
)


def compute_losses(
    outputs: Tensors, batch: Tensors, config: LossConfig, heads_config: HeadsConfig
) -> tuple[Tensor, dict[str, Tensor]]:
    """Total loss and its parts of one example and one pass.

    A term or head whose weight is zero is not computed: its buffers cost memory,
    and zero times a NaN gradient is NaN.

    Args:
        outputs: the model's answer, nested by head; batch: labels without cycle axis.

    Returns:
        The total, and scalars by name: `total_loss`; of every head `<head>/loss`
        and, as it enters the total, `<head>/weighted`; of the structure module
        also `structure_module/<term>`, unweighted, `structure_module/fape` (the
        last layer's), and with the violation term
        `structure_module/{violations,metrics}/…`.
    """
    parts: dict[str, Tensor] = {}
    total = ops.zeros((), "float32")
    scale = ops.sqrt(ops.sum(batch["seq_mask"])) if config.scale_by_sqrt_length else 1.0
    for head, weight_name in HEAD_WEIGHTS.items():
        head_weight = getattr(config, weight_name)
        if head_weight == 0.0:
            continue
        loss = ops.zeros((), "float32")
        for term in LOSS_TERMS:
            weight = 1.0 if term.weight is None else getattr(config, term.weight)
            if term.head != head or weight == 0.0:
                continue
            found = term.function(outputs, batch, config, heads_config)
            loss += weight * found["loss"]
            parts |= {f"{head}/{name}": value for name, value in found.items() if name != "loss"}
            if term.weight is not None:
                parts[f"{head}/{term.name}"] = found["loss"]
        parts[f"{head}/loss"] = loss
        parts[f"{head}/weighted"] = head_weight * loss * scale
        total += parts[f"{head}/weighted"]
    parts["total_loss"] = total
    return total, parts
