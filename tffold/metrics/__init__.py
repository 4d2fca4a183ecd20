"""How good a predicted structure is, and how well the network knows it.

Functions in `keras.ops` run within a compiled step; those that search
superpositions or rank pairs are plain NumPy and belong to validation.
Coordinates are Cα unless said otherwise, in Å; scores lie in 0..1 but for
pLDDT (0..100).  Violations are in `tffold.losses.violation_metrics`.
"""

from tffold.metrics.chain import chain_metrics
from tffold.metrics.complexes import complex_metrics, iptm_by_pair
from tffold.metrics.confidence import (
    aligned_error,
    confidence_calibration,
    max_aligned_error,
    predicted_aligned_error,
    predicted_lddt,
    predicted_tm_score,
    ranking_score,
    true_tm_score,
)
from tffold.metrics.contacts import (
    contact_precision,
    contact_precisions,
    contact_probability,
    expected_distance,
)
from tffold.metrics.coordinates import ca_coordinates, ca_metrics, drmsd
from tffold.metrics.interfaces import Interface, dockq, interface_scores
from tffold.metrics.superposition import superposing_motion, superposition_scores, tm_d0

__all__ = [
    "Interface",
    "aligned_error",
    "ca_coordinates",
    "ca_metrics",
    "chain_metrics",
    "complex_metrics",
    "confidence_calibration",
    "contact_precision",
    "contact_precisions",
    "contact_probability",
    "dockq",
    "drmsd",
    "expected_distance",
    "interface_scores",
    "iptm_by_pair",
    "max_aligned_error",
    "predicted_aligned_error",
    "predicted_lddt",
    "predicted_tm_score",
    "ranking_score",
    "superposing_motion",
    "superposition_scores",
    "tm_d0",
    "true_tm_score",
]
