"""Random numbers that depend only on (seed, position, pass, purpose).

``position`` is the place of an example in the endless training sequence:
step x global batch + place in the batch.  Whatever is drawn for it is the same
whichever worker or thread draws it and however often training was restarted.
Everything is drawn inside the graph.  Which record, crop and templates an
example has is drawn from NumPy's Philox stream, written in TensorFlow here;
the rest by TensorFlow's stateless operations, whose Philox is a smaller one.
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
# Philox 4x64: multipliers, what the key grows by in each round, rounds.
_MULTIPLIERS = (0xD2E7470EE14C6C93, 0xCA5A826395121157)
_GROWTH = (0x9E3779B97F4A7C15, 0xBB67AE8584CAA73B)
_ROUNDS = 10


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
    COMPLEX = 13
    CROP = 14
    ENTITY_TEMPLATES = 15
    ROW_NOISE = 20
    LETTER_NOISE = 21


def _product(a: Tensor, b: int) -> tuple[Tensor, Tensor]:
    """The upper and the lower 64 bits of a x b."""
    low_32, shift = tf.constant(0xFFFFFFFF, tf.uint64), tf.constant(32, tf.uint64)
    a_low, a_high = a & low_32, tf.bitwise.right_shift(a, shift)
    b_low, b_high = (tf.constant(half, tf.uint64) for half in (b & 0xFFFFFFFF, b >> 32))
    cross = a_high * b_low + tf.bitwise.right_shift(a_low * b_low, shift)
    middle = a_low * b_high + (cross & low_32)
    high = a_high * b_high + tf.bitwise.right_shift(cross, shift)
    return high + tf.bitwise.right_shift(middle, shift), a * tf.constant(b, tf.uint64)


# Traced once, however many draws there are: most of making a data set is tracing.
@tf.function(
    input_signature=[tf.TensorSpec(None, tf.uint64), tf.TensorSpec([2, _ROUNDS], tf.uint64)],
    autograph=False,
)
def _scrambled(words: Tensor, keys: Tensor) -> Tensor:
    """Philox's rounds: four words [4, ...] -> [..., 4]."""

    def scramble(number: Tensor, words: tuple[Tensor, ...]) -> tuple:
        high_0, low_0 = _product(words[0], _MULTIPLIERS[0])
        high_1, low_1 = _product(words[2], _MULTIPLIERS[1])
        key_0, key_1 = tf.unstack(tf.gather(keys, number, axis=1))
        return number + 1, (high_1 ^ words[1] ^ key_0, low_1, high_0 ^ words[3] ^ key_1, low_0)

    _, words = tf.while_loop(
        lambda number, _: number < _ROUNDS, scramble, (0, tuple(tf.unstack(words, num=4)))
    )
    return tf.stack(words, axis=-1)


def doubles(
    count: Tensor | int, seed: int, position: Tensor, draw: Draw, index: Tensor | int = 0
) -> Tensor:
    """Uniform float64 in [0, 1): [..., count] for positions [...].

    The same bits as ``np.random.Generator(np.random.Philox(key=seed,
    counter=[0, index, position, draw])).random(count)`` gives.
    """
    blocks = -(-count // 4)
    numbers = tf.range(1, blocks + 1)
    position = tf.cast(position, tf.uint64)[..., None] + tf.zeros_like(numbers, tf.uint64)
    zero = tf.zeros_like(position)
    words = (
        zero + tf.cast(numbers, tf.uint64),
        zero + tf.cast(index, tf.uint64),
        position,
        zero + tf.constant(int(draw), tf.uint64),
    )
    keys = [
        [(first + growth * number) & _MASK_64 for number in range(_ROUNDS)]
        for first, growth in zip((seed, 0), _GROWTH, strict=True)
    ]
    bits = _scrambled(tf.stack(words), tf.constant(np.array(keys, np.uint64)))
    bits = tf.ensure_shape(bits, [*zero.shape, 4])
    bits = tf.bitwise.right_shift(bits, tf.constant(11, tf.uint64))
    # [..., blocks, 4] -> [..., blocks * 4]
    bits = tf.reshape(bits, tf.concat([tf.shape(bits)[:-2], [blocks * 4]], 0))
    return tf.cast(tf.cast(bits[..., :count], tf.int64), tf.float64) * 2.0**-53


def integer(uniform: Tensor, last: Tensor) -> Tensor:
    """A uniform float64 as an int32 between 0 and ``last``, both included."""
    return tf.cast(uniform * tf.cast(last + 1, tf.float64), tf.int32)


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


def gumbel(shape: Any, key: Tensor, draw: Draw, cycle: Tensor | int) -> Tensor:
    """Gumbel noise: the item with the largest log probability + noise is a draw of the items."""
    small = 1e-6  # DeepMind's guard against log(0)
    return -tf.math.log(-tf.math.log(uniform(shape, key, draw, cycle) + small) + small)


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
