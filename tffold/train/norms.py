"""Gradient and update norms of each module, computed only in steps that are logged."""

from __future__ import annotations

from collections.abc import Callable, Sequence

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


def norm_names(variables: Sequence[keras.Variable]) -> list[str]:
    """The names of what ``module_norms`` returns."""
    return [
        prefix + name for prefix in (GRADIENT, UPDATE) for name in parameters_by_module(variables)
    ]


def module_norms(
    variables: Sequence[keras.Variable],
    step: tf.Tensor,
    gradient: tf.Tensor,
    changes: Callable[[], Sequence[tf.Tensor]],
    config: TrainConfig,
) -> tf.Tensor:
    """L2 norms of the mean clipped gradient [p] and of the update, by module: [norm_names].

    Zeros, at no cost, unless ``step`` (after the update) ``is_logged``; only then are the
    parameters' ``changes`` asked for.
    """

    def norms() -> tf.Tensor:
        def one(indices: list[int], arrays: Sequence[tf.Tensor]) -> tf.Tensor:
            return tf.sqrt(tf.add_n([tf.reduce_sum(tf.square(arrays[i])) for i in indices]))

        both = unflatten(gradient, variables), changes()
        return tf.stack([one(p, x) for x in both for p in parameters_by_module(variables).values()])

    zeros = tf.zeros([len(norm_names(variables))])
    return tf.cond(is_logged(step, config), norms, lambda: zeros)
