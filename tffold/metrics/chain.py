"""Every metric of one chain."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from tffold import geometry
from tffold.config import HeadsConfig
from tffold.metrics.confidence import (
    confidence_calibration,
    predicted_lddt,
    predicted_tm_score,
)
from tffold.metrics.contacts import contact_precisions, contact_probability
from tffold.metrics.coordinates import ca_coordinates, ca_metrics
from tffold.metrics.superposition import superposition_scores

Tensors = Mapping[str, Any]


def chain_metrics(outputs: Tensors, batch: Tensors, heads: HeadsConfig) -> dict[str, float]:
    """Every metric of one example without cycle axis, as plain numbers.

    A complex is measured as one chain; only contacts are those within its chains.

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
        result |= contact_precisions(
            np.asarray(contact_probability(outputs["distogram"]["logits"], heads)),
            batch["pseudo_beta"],
            batch["pseudo_beta_mask"],
            batch["residue_index"],
            batch.get("asym_id"),
        )
    return result
