"""The arguments of an exported step, made by rule on either side: NumPy alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

BATCH, WEIGHT, ONES, ZEROS = "batch", "weight", "ones", "zeros"


def make(specs: Sequence[Mapping[str, Any]], batch: Mapping[str, np.ndarray]) -> list[np.ndarray]:
    """The arrays of ``specs``: each has ``kind``, ``shape``, ``dtype``, and ``name`` of a feature.

    Weights are normal numbers of standard deviation 0.05, by a generator that the argument's own
    number seeds; those that normalise (``ONES``) are one more.
    """
    arrays = []
    for number, spec in enumerate(specs):
        kind, shape = spec["kind"], tuple(spec["shape"])
        if kind == BATCH:
            array = batch[spec["name"]]
        elif kind == ZEROS:
            array = np.zeros(shape)
        else:
            array = 0.05 * np.random.default_rng(number).standard_normal(shape) + (kind == ONES)
        arrays.append(np.ascontiguousarray(array, spec["dtype"]).reshape(shape))
    return arrays
