"""What several losses share."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from keras import ops

from tffold.config import LossConfig

Tensor = Any
Tensors = Mapping[str, Any]


def masked_mean(values: Tensor, mask: Tensor, epsilon: float = 1e-8) -> Tensor:
    """Mean over all axes where `mask` (same shape) is 1; 0, not NaN, where it never is."""
    return ops.sum(values * mask) / (ops.sum(mask) + epsilon)


def softmax_cross_entropy(logits: Tensor, labels: Tensor) -> Tensor:
    """Cross-entropy [...] of logits [..., c], taken to float32, against class indices [...]."""
    logits = ops.cast(logits, "float32")
    one_hot = ops.one_hot(labels, logits.shape[-1], dtype="float32")
    return ops.logsumexp(logits, axis=-1) - ops.sum(logits * one_hot, axis=-1)


def sigmoid_cross_entropy(logits: Tensor, labels: Tensor) -> Tensor:
    """Binary cross-entropy of logits, taken to float32, against labels in 0..1, elementwise."""
    logits = ops.cast(logits, "float32")
    return ops.softplus(logits) - logits * labels


def resolution_filter(batch: Tensors, config: LossConfig) -> Tensor:
    """1 if the structure's resolution (Å) lies in the configured range, else 0 (supplement 1.9.6).

    Unknown resolution, NMR and distillation are stored as 0 and so left out.
    """
    resolution = batch["resolution"]
    good = ops.logical_and(resolution >= config.min_resolution, resolution <= config.max_resolution)
    return ops.cast(good, "float32")
