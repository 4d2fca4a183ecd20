"""Gradient and update norms of each module, computed only in steps that are logged."""

from __future__ import annotations

from collections.abc import Sequence

import keras
import tensorflow as tf

from tffold.config import TrainConfig
from tffold.train.optimizer import unflatten

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


def module_norms(
    variables: Sequence[keras.Variable],
    step: tf.Tensor,
    gradient: tf.Tensor,
    before: Sequence[tf.Tensor],
    after: Sequence[tf.Tensor],
    config: TrainConfig,
) -> dict[str, tf.Tensor]:
    """L2 norms by name of the mean clipped gradient [p] and of the update, [] each, by module.

    Zeros, at no cost, unless ``step`` (after the update) ``is_logged``.
    """
    modules = parameters_by_module(variables)

    def norms() -> tf.Tensor:
        def one(indices: list[int], arrays: Sequence[tf.Tensor]) -> tf.Tensor:
            return tf.sqrt(tf.add_n([tf.reduce_sum(tf.square(arrays[i])) for i in indices]))

        gradients = unflatten(gradient, before)
        changes = [new - old for new, old in zip(after, before, strict=True)]
        return tf.stack([one(p, x) for x in (gradients, changes) for p in modules.values()])

    names = [prefix + module for prefix in (GRADIENT, UPDATE) for module in modules]
    values = tf.cond(is_logged(step, config), norms, lambda: tf.zeros([len(names)]))
    return dict(zip(names, tf.unstack(values), strict=True))
