"""Random numbers that depend only on (seed, position, pass, purpose).

``position`` is the place of an example in the endless training sequence:
step x global batch + place in the batch.  Whatever is drawn for it is the same
whichever worker or thread draws it and however often training was restarted.
Scalars are drawn with NumPy where an example's record, crop and templates are chosen, arrays with
TensorFlow's stateless operations inside the graph; both are Philox streams.
"""

from __future__ import annotations

import enum
from typing import Any

import numpy as np
import tensorflow as tf

Tensor = Any

_CYCLES = 256  # passes that a key tells apart
_PURPOSES = 256
_MASK_64 = (1 << 64) - 1


class Draw(enum.IntEnum):
    """What a random number is for: each purpose has a stream of its own."""

    SOURCE = 0
    ACCEPTANCE = 1
    SHUFFLE = 2
    SUBSTITUTE = 3
    CHOICES = 4
    RECYCLES = 5
    BLOCKS = 6
    DISTILLATION_ROWS = 7
    ROWS = 8
    MASK = 9
    REPLACEMENT = 10
    UNIFORM_LETTER = 11
    PROFILE_ROW = 12


def generator(seed: int, position: int, draw: Draw, index: int = 0) -> np.random.Generator:
    """A NumPy generator for one purpose.  Use ``random`` alone of it: its doubles
    are Philox's bits whatever NumPy's version, which other methods do not promise.
    """
    counter = [0, index & _MASK_64, position & _MASK_64, int(draw)]
    return np.random.Generator(np.random.Philox(key=seed & _MASK_64, counter=counter))


def uniform_integer(random: np.random.Generator, low: int, high: int) -> int:
    """An integer between ``low`` and ``high``, both included."""
    return low + int(random.random() * (high - low + 1))


def key(seed: int, position: Tensor) -> Tensor:
    """The [2] int64 key of one example."""
    return tf.stack([tf.cast(seed, tf.int64), tf.cast(position, tf.int64)])


def operation_seed(key: Tensor, draw: Draw, cycle: Tensor | int) -> Tensor:
    """The [2] int64 seed of TensorFlow's stateless operations for one purpose and pass."""
    place = key[1] * _CYCLES + tf.cast(cycle, tf.int64)
    return tf.stack([key[0], place * _PURPOSES + int(draw)])


def uniform(shape: Any, key: Tensor, draw: Draw, cycle: Tensor | int) -> Tensor:
    """Floats in [0, 1)."""
    return tf.random.stateless_uniform(shape, operation_seed(key, draw, cycle), alg="philox")


def integers(shape: Any, key: Tensor, draw: Draw, cycle: Tensor | int, below: Tensor) -> Tensor:
    """int32 in [0, below)."""
    return tf.random.stateless_uniform(
        shape,
        operation_seed(key, draw, cycle),
        minval=0,
        maxval=below,
        dtype=tf.int32,
        alg="philox",
    )


def permutation(size: Tensor, key: Tensor, draw: Draw, cycle: Tensor | int) -> Tensor:
    """A random order of ``range(size)``, int32."""
    ranks = tf.random.stateless_uniform(
        [size],
        operation_seed(key, draw, cycle),
        minval=None,
        maxval=None,
        dtype=tf.int32,
        alg="philox",
    )
    return tf.argsort(ranks, stable=True)
