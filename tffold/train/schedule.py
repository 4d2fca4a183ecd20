"""Learning rate by samples seen (supplement 1.11.3 and Table 4)."""

from __future__ import annotations

import tensorflow as tf

from tffold.config import TrainConfig


def learning_rate(samples: tf.Tensor, config: TrainConfig) -> tf.Tensor:
    """Linear warm-up, then constant, then one decay.

    Args:
      samples: [] how many samples have been seen, this step's included.
      config: gives ``learning_rate``, ``warmup_samples``, ``decay_samples`` (0 = no decay)
        and ``decay_factor``.

    Returns:
      [] float32.
    """
    samples = tf.cast(samples, tf.float32)
    rate = tf.constant(config.learning_rate, tf.float32)
    if config.warmup_samples:
        rate *= tf.minimum(samples / float(config.warmup_samples), 1.0)
    if config.decay_samples:
        rate *= tf.where(samples > float(config.decay_samples), config.decay_factor, 1.0)
    return rate
