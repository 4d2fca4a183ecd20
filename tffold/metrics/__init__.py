"""How good a predicted structure is, and how well the network knows it.

Functions in `keras.ops` run within a compiled step; those that search
superpositions or rank pairs are plain NumPy and belong to validation.
Coordinates are Cα unless said otherwise, in Å; scores lie in 0..1 but for
pLDDT (0..100).  Violations are in `tffold.losses.violation_metrics`.
"""

from tffold.metrics.chain import chain_metrics
from tffold.metrics.confidence import (
    confidence_calibration,
    max_aligned_error,
    predicted_aligned_error,
    predicted_lddt,
    predicted_tm_score,
    ranking_score,
)
from tffold.metrics.contacts import (
    contact_precision,
    contact_precisions,
    contact_probability,
    expected_distance,
)
from tffold.metrics.coordinates import ca_coordinates, ca_metrics, drmsd
from tffold.metrics.superposition import superposition_scores, tm_d0

__all__ = [
    "ca_coordinates",
    "ca_metrics",
    "chain_metrics",
    "confidence_calibration",
    "contact_precision",
    "contact_precisions",
    "contact_probability",
    "drmsd",
    "expected_distance",
    "max_aligned_error",
    "predicted_aligned_error",
    "predicted_lddt",
    "predicted_tm_score",
    "ranking_score",
    "superposition_scores",
    "tm_d0",
]
