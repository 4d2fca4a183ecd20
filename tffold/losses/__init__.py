"""Losses of one example and one pass (supplement 1.9), all in float32.

Start at `table`: the one place that names every term and its weight.
"""

from tffold.losses.renaming import rename_ground_truth
from tffold.losses.table import HEAD_WEIGHTS, LOSS_TERMS, LossTerm, compute_losses
from tffold.losses.violations import find_violations, violation_metrics

__all__ = [
    "HEAD_WEIGHTS",
    "LOSS_TERMS",
    "LossTerm",
    "compute_losses",
    "find_violations",
    "rename_ground_truth",
    "violation_metrics",
]
