"""How fast a device multiplies matrices and moves memory: what a step's speed is held against."""

from __future__ import annotations

import time
from collections.abc import Callable

import tensorflow as tf

from tffold.check.places import accelerator

_REPEATS = 3


def matrix_rate(dtype: str = "float32") -> float:
    """Floating-point operations a second in chained large products, compiled by XLA."""
    size, count = (8192, 8) if accelerator() else (2048, 2)

    def chain(a: tf.Tensor) -> tf.Tensor:
        scale = tf.cast(1.0 / size, a.dtype)
        return tf.while_loop(
            lambda i, _: i < count, lambda i, x: (i + 1, x @ a * scale), (0, a),
            maximum_iterations=count,
        )[1]  # fmt: skip

    seconds = best_seconds(chain, tf.ones([size, size], dtype))
    return 2.0 * size**3 * count / seconds


def bandwidth() -> float:
    """Bytes a second, read and written, of a large array that is changed."""
    size, count = (1 << 28, 8) if accelerator() else (1 << 25, 2)

    def change(x: tf.Tensor) -> tf.Tensor:
        return tf.while_loop(
            lambda i, _: i < count, lambda i, x: (i + 1, x * 0.5 + 1.0), (0, x),
            maximum_iterations=count,
        )[1]  # fmt: skip

    return 2.0 * 4.0 * size * count / best_seconds(change, tf.ones([size]))


def best_seconds(function: Callable[[tf.Tensor], tf.Tensor], argument: tf.Tensor) -> float:
    """The best of some runs of a compiled function; one element is fetched, to have waited."""
    run = tf.function(lambda x: tf.reshape(function(x), [-1])[0], autograph=False, jit_compile=True)
    run(argument).numpy()
    times = []
    for _ in range(_REPEATS):
        start = time.perf_counter()
        run(argument).numpy()
        times.append(time.perf_counter() - start)
    return min(times)
