"""Cα coordinates: distances, superposed deviation, lDDT."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from keras import ops

from records import chemistry
from tffold import geometry

Tensor = Any
Tensors = Mapping[str, Any]

_CA = chemistry.ATOM_ORDER["CA"]


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
