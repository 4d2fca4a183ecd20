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


def pad(
    features: Mapping[str, Tensor], table: Mapping[str, Feature], sizes: Mapping[str, Tensor | int]
) -> dict[str, Tensor]:
    """Zero-pad every feature to its shape in the feature table.

    Args:
        features: tensors with any leading axes before those of the table.
        sizes: the symbolic dimensions in numbers; those that are Python
            numbers become static.
    """
    padded = {}
    for name, value in features.items():
        shape = table[name].sizes(sizes)
        lead = len(value.shape) - len(shape)
        if any(isinstance(axis, str) for axis in table[name].shape):
            actual = tf.shape(value)
            missing = [size - actual[lead + axis] for axis, size in enumerate(shape)]
            value = tf.pad(value, [[0, 0]] * lead + [[0, count] for count in missing])
        static = [size if isinstance(size, int) else None for size in shape]
        padded[name] = tf.ensure_shape(value, [*value.shape[:lead], *static])
    return padded
