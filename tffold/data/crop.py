"""Residue crop, template choice and padding (supplement 1.2.2, 1.2.8)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import tensorflow as tf

from records.schema import Feature
from tffold.data.keys import uniform_integer

Tensor = Any


def draw_crop_start(
    random: np.random.Generator, num_res: int, crop_size: int, *, clamped: bool
) -> int:
    """Where the crop of ``crop_size`` residues begins (supplement 1.2.8).

    With n = num_res - crop_size: uniform over 0..n when the backbone FAPE is
    clamped; otherwise x is uniform over 0..n and the start over 0..n - x, which
    favours the N-terminus.  A chain that fits is taken whole.
    """
    last = num_res - crop_size
    if last <= 0:
        return 0
    if not clamped:
        last -= uniform_integer(random, 0, last)
    return uniform_integer(random, 0, last)


def draw_templates(
    random: np.random.Generator, num_hits: int, *, top: int, max_templates: int
) -> list[int]:
    """Which template hits an example is given in training (supplement 1.2.2).

    Of the n best hits (at most ``top``) k = min(uniform over 0..n,
    ``max_templates``) are drawn without replacement, in random order.
    """
    available = min(num_hits, top)
    count = min(uniform_integer(random, 0, available), max_templates)
    order = np.argsort(random.random(available), kind="stable")
    return [int(hit) for hit in order[:count]]


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
            target = table[name].sizes(sizes)
            actual = tf.shape(value)
            value = tf.pad(value, [[0, size - actual[i]] for i, size in enumerate(target)])
        padded[name] = value
    return with_static_shapes(padded, table, sizes)
