"""Gradient and update norms of each module, computed only in steps that are logged."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence

import keras
import tensorflow as tf

from tffold.config import TrainConfig

GRADIENT, UPDATE = "optim/gradient_norm/", "optim/update_norm/"
_OUTER = ("alphafold", "alphafold_iteration")
_GROUP = "group-"


def module_of(path: str) -> str:
    """The module, as people speak of it, that owns the parameter of a path."""
    modules = [part for part in path.split("/")[:-1] if part not in _OUTER]
    if modules[:1] == ["evoformer"] and len(modules) > 1:
        modules = modules[1:]
    return modules[0].removeprefix(_GROUP) if modules else "other"


def parameters_by_module(variables: Sequence[keras.Variable]) -> dict[str, list[int]]:
    """For each module the indices of its parameters in ``variables``."""
    indices: dict[str, list[int]] = {}
    for index, variable in enumerate(variables):
        indices.setdefault(module_of(variable.path), []).append(index)
    return indices


def is_logged(step: int | tf.Tensor, config: TrainConfig) -> bool | tf.Tensor:
    """Whether the scalars up to this step, the first being 1, are written."""
    return (step == 1) | (step % config.log_every == 0) | (step >= config.steps)


def norm_names(variables: Sequence[keras.Variable]) -> list[str]:
    """The names of what ``module_norms`` returns."""
    return [
        prefix + name for prefix in (GRADIENT, UPDATE) for name in parameters_by_module(variables)
    ]


def module_norms(
    variables: Sequence[keras.Variable],
    step: tf.Tensor,
    gradient: tf.Tensor,
    change: tf.Tensor | None,
    config: TrainConfig,
) -> tf.Tensor:
    """L2 norms of the mean clipped gradient and of the change, [p] each, by module: [norm_names].

    No change is None. Zeros, at no cost, unless ``step`` (after the update) ``is_logged``.
    """
    modules = list(parameters_by_module(variables))
    owners = [modules.index(module_of(variable.path)) for variable in variables]
    sizes = [math.prod(variable.shape) for variable in variables]
    # Neighbours of one module are one slice: some tens of operations, not some for each array.
    runs = [
        (owner, sum(size for _, size in run))
        for owner, run in itertools.groupby(zip(owners, sizes, strict=True), lambda pair: pair[0])
    ]

    def norms() -> tf.Tensor:
        def by_module(vector: tf.Tensor | None) -> tf.Tensor:
            if vector is None:
                return tf.zeros([len(modules)])
            parts = tf.split(vector, [size for _, size in runs])
            squares = tf.stack([tf.reduce_sum(tf.square(part)) for part in parts])
            return tf.math.unsorted_segment_sum(squares, [m for m, _ in runs], len(modules))

        return tf.sqrt(tf.concat([by_module(gradient), by_module(change)], axis=0))

    zeros = tf.zeros([2 * len(modules)])
    return tf.cond(is_logged(step, config), norms, lambda: zeros)
