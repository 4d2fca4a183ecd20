"""Adam with averaged weights (supplement 1.11.3, 1.11.7): a pure function, and one in place.

Keras' own Adam is not used: it adds epsilon to the root of the *uncorrected* second moment.
Gradients here are tiny (each example's is clipped to norm 0.1 over 93 million parameters), so
for the first thousand steps that would be another optimizer.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import tensorflow as tf

from tffold.config import TrainConfig


class TrainState(NamedTuple):
    """All that an update changes, as tensors (or, between steps, as variables).

    The two lists run parallel: one float32 array for each trained parameter. The moments are
    vectors [p] of all of them, see ``flatten``.
    """

    parameters: list
    first_moment: object
    second_moment: object
    average: list  # exponential moving average of the parameters, for evaluation
    step: object  # [] int32 steps taken, skipped updates included
    updates: object  # [] int32 updates made; Adam's own count


def flatten(arrays: Sequence[tf.Tensor]) -> tf.Tensor:
    """All arrays one after the other in one vector.

    Clipping, accumulating and reducing over replicas are then one operation each, not one for
    each of some hundreds of arrays, which would be a third of what XLA has to compile.
    """
    # Gathers give sparse gradients.
    return tf.concat([tf.reshape(tf.convert_to_tensor(x), [-1]) for x in arrays], axis=0)


def unflatten(vector: tf.Tensor, like: Sequence[tf.Tensor]) -> list[tf.Tensor]:
    """The inverse of ``flatten`` for arrays of the shapes of ``like``."""
    parts = tf.split(vector, [math.prod(x.shape) for x in like])
    return [tf.reshape(part, x.shape) for part, x in zip(parts, like, strict=True)]


def clip_by_global_norm(gradient: tf.Tensor, clip_norm: float) -> tuple[tf.Tensor, tf.Tensor]:
    """Scales a gradient [p] down to an L2 norm of ``clip_norm``; also returns the norm before."""
    norm = tf.sqrt(tf.reduce_sum(tf.square(gradient)))
    return gradient * (clip_norm / tf.maximum(norm, clip_norm)), norm


class Adam:
    """One step of Adam (Kingma & Ba 2015, Algorithm 1) and of the weight average, in its parts.

    Args:
      updates: [] int32 updates made before.
      rate: [] learning rate.
      config: betas, epsilon and the average's decay.
      rate_scales: by what each array's rate is multiplied; empty: by 1.
    """

    def __init__(
        self,
        updates: tf.Tensor,
        rate: tf.Tensor,
        config: TrainConfig,
        rate_scales: Sequence[float] = (),
    ) -> None:
        self.beta_1, self.beta_2 = config.adam_beta_1, config.adam_beta_2
        self.ema_decay = config.ema_decay
        self.rate_scales = rate_scales
        count = tf.cast(updates + 1, tf.float32)
        # 1 - beta**count without cancellation.
        correction_1 = -tf.math.expm1(count * math.log(self.beta_1)) if self.beta_1 else 1.0
        correction_2 = -tf.math.expm1(count * math.log(self.beta_2)) if self.beta_2 else 1.0
        # The corrections are moved from the arrays to two scalars:
        #   m / c1 / (sqrt(v / c2) + eps) = sqrt(c2) / c1 * m / (sqrt(v) + sqrt(c2) * eps)
        root = tf.sqrt(correction_2)
        self.rate, self.epsilon = rate * root / correction_1, config.adam_epsilon * root

    def first_change(self, first: tf.Tensor, gradient: tf.Tensor) -> tf.Tensor:
        """What is added to the first moment [p]."""
        return (1.0 - self.beta_1) * (gradient - first)

    def second_change(self, second: tf.Tensor, gradient: tf.Tensor) -> tf.Tensor:
        """What is added to the second moment [p]."""
        return (1.0 - self.beta_2) * (tf.square(gradient) - second)

    def way(self, first: tf.Tensor, second: tf.Tensor, like: Sequence) -> tf.Tensor:
        """What is taken from the parameters [p], by the moments after the step."""
        way = self.rate * first / (tf.sqrt(second) + self.epsilon)
        if all(scale == 1.0 for scale in self.rate_scales):
            return way
        parts = unflatten(way, like)
        return flatten([part * s for part, s in zip(parts, self.rate_scales, strict=True)])

    def average_change(self, average: tf.Tensor, value: tf.Tensor) -> tf.Tensor:
        """What is added to a parameter's average, by its value after the step."""
        return (1.0 - self.ema_decay) * (value - average)


# Told what is taken from the parameters [p], or None in a skipped update.
Watch = Callable[[tf.Tensor | None], tf.Tensor]


def adam_update(
    state: TrainState,
    gradient: tf.Tensor,
    rate: tf.Tensor,
    apply: tf.Tensor,
    config: TrainConfig,
    rate_scales: Sequence[float] = (),
    watch: Watch = lambda way: tf.zeros([0]),
) -> tuple[TrainState, tf.Tensor]:
    """One step of ``Adam`` as a pure function.

    Args:
      state: before the step.
      gradient: [p], of all trained parameters.
      rate: [] learning rate.
      apply: [] bool; False keeps everything but ``step`` as it was.
      config, rate_scales: see ``Adam``.
      watch: see ``Watch``.

    Returns:
      The state after the step, and what ``watch`` returned.
    """
    adam = Adam(state.updates, rate, config, rate_scales)

    def updated() -> tuple[list, tf.Tensor, tf.Tensor, list, tf.Tensor]:
        first = state.first_moment + adam.first_change(state.first_moment, gradient)
        second = state.second_moment + adam.second_change(state.second_moment, gradient)
        way = adam.way(first, second, state.parameters)
        ways = unflatten(way, state.parameters)
        values = [value - part for value, part in zip(state.parameters, ways, strict=True)]
        averages = [
            average + adam.average_change(average, value)
            for average, value in zip(state.average, values, strict=True)
        ]
        return values, first, second, averages, watch(way)

    def kept() -> tuple[list, tf.Tensor, tf.Tensor, list, tf.Tensor]:
        return *tf.nest.map_structure(tf.identity, tuple(state[:4])), watch(None)

    *arrays, seen = tf.cond(apply, updated, kept)
    after = TrainState(*arrays, state.step + 1, state.updates + tf.cast(apply, tf.int32))
    return after, seen


def adam_update_in_place(
    state: TrainState,
    gradient: tf.Tensor,
    rate: tf.Tensor,
    apply: tf.Tensor,
    config: TrainConfig,
    rate_scales: Sequence[float] = (),
    watch: Watch = lambda way: tf.zeros([0]),
) -> tf.Tensor:
    """The same step, bit for bit, on variables that keep their memory.

    The pure function makes all arrays anew beside the old ones, which costs as much memory again
    and, as the new ones lie elsewhere, leaves holes.

    Args:
      state: variables; for the rest see ``adam_update``.

    Returns:
      What ``watch`` returned.
    """
    adam = Adam(state.updates, rate, config, rate_scales)

    def updated() -> tf.Tensor:
        first, second = state.first_moment, state.second_moment
        first.assign_add(adam.first_change(first, gradient))
        second.assign_add(adam.second_change(second, gradient))
        way = adam.way(first, second, state.parameters)
        ways = unflatten(way, state.parameters)
        for value, part in zip(state.parameters, ways, strict=True):
            value.assign_sub(part)
        for average, value in zip(state.average, state.parameters, strict=True):
            average.assign_add(adam.average_change(average, value))
        return watch(way)

    seen = tf.cond(apply, updated, lambda: watch(None))
    state.step.assign(state.step + 1)
    state.updates.assign(state.updates + tf.cast(apply, tf.int32))
    return seen
