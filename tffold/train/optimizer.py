"""Adam with averaged weights as a pure function of tensors (supplement 1.11.3, 1.11.7).

Keras' own Adam is not used: it adds epsilon to the root of the *uncorrected* second moment.
Gradients here are tiny (each example's is clipped to norm 0.1 over 93 million parameters), so
for the first thousand steps that would be another optimizer.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
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


def adam_update(
    state: TrainState,
    gradient: tf.Tensor,
    rate: tf.Tensor,
    apply: tf.Tensor,
    config: TrainConfig,
    rate_scales: Sequence[float] = (),
) -> TrainState:
    """One step of Adam (Kingma & Ba 2015, Algorithm 1) and of the weight average.

    Args:
      state: before the step.
      gradient: [p], of all trained parameters.
      rate: [] learning rate.
      apply: [] bool; False keeps everything but ``step`` as it was.
      config: betas, epsilon and the average's decay.
      rate_scales: by what each array's rate is multiplied; empty: by 1.

    Returns:
      The state after the step.
    """
    beta_1, beta_2 = config.adam_beta_1, config.adam_beta_2
    count = tf.cast(state.updates + 1, tf.float32)
    # 1 - beta**count without cancellation.
    correction_1 = -tf.math.expm1(count * math.log(beta_1)) if beta_1 else tf.ones([])
    correction_2 = -tf.math.expm1(count * math.log(beta_2)) if beta_2 else tf.ones([])
    # The corrections are moved from the arrays to two scalars:
    #   m / c1 / (sqrt(v / c2) + eps) = sqrt(c2) / c1 * m / (sqrt(v) + sqrt(c2) * eps)
    root = tf.sqrt(correction_2)
    rate, epsilon = rate * root / correction_1, config.adam_epsilon * root

    def updated() -> tuple[list, tf.Tensor, tf.Tensor, list]:
        first, second = state.first_moment, state.second_moment
        first = first + (1.0 - beta_1) * (gradient - first)
        second = second + (1.0 - beta_2) * (tf.square(gradient) - second)
        ways = unflatten(rate * first / (tf.sqrt(second) + epsilon), state.parameters)
        if any(scale != 1.0 for scale in rate_scales):
            ways = [way * scale for way, scale in zip(ways, rate_scales, strict=True)]
        values = [value - way for value, way in zip(state.parameters, ways, strict=True)]
        averages = [
            average + (1.0 - config.ema_decay) * (value - average)
            for average, value in zip(state.average, values, strict=True)
        ]
        return values, first, second, averages

    def kept() -> tuple[list, tf.Tensor, tf.Tensor, list]:
        return tf.nest.map_structure(tf.identity, tuple(state[:4]))

    arrays = tf.cond(apply, updated, kept)
    return TrainState(*arrays, state.step + 1, state.updates + tf.cast(apply, tf.int32))
