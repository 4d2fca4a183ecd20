"""Padding to the sizes of the feature table."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import tensorflow as tf

from records.schema import Feature

Tensor = Any


def with_static_shapes(
    features: Mapping[str, Tensor], table: Mapping[str, Feature], sizes: Mapping[str, Tensor | int]
) -> dict[str, Tensor]:
    """The features, each held to its shape in the feature table after any leading axes.

    Args:
        sizes: the symbolic dimensions; those that are Python numbers become static.
    """
    held = {}
    for name, value in features.items():
        shape = [size if isinstance(size, int) else None for size in table[name].sizes(sizes)]
        lead = value.shape[: len(value.shape) - len(shape)]
        held[name] = tf.ensure_shape(value, [*lead, *shape])
    return held


def pad(
    features: Mapping[str, Tensor], table: Mapping[str, Feature], sizes: Mapping[str, Tensor | int]
) -> dict[str, Tensor]:
    """Zero-pad every feature to its shape in the feature table."""
    padded = {}
    for name, value in features.items():
        if any(isinstance(axis, str) for axis in table[name].shape):
            # One operation for all axes: there are many features, and a graph takes time to make.
            behind = tf.stack(table[name].sizes(sizes)) - tf.shape(value)
            value = tf.pad(value, tf.stack([tf.zeros_like(behind), behind], axis=1))
        padded[name] = value
    return with_static_shapes(padded, table, sizes)
