"""NumPy functions inside a tf.data graph, and a clean end of the process."""

from __future__ import annotations

import atexit
import functools
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any

import tensorflow as tf

Tensor = Any

_QUIET = 0.2  # seconds without a call after which no further one will come
_PATIENCE = 10.0  # seconds


class _Gate:
    """Lets calls from graphs into Python, until the interpreter ends.

    A data set prepares examples ahead.  If it is still alive when the
    interpreter goes away, a call from its threads would wait for ever, and the
    process with it: so at exit calls end the data sets instead, and exit waits
    until none is under way.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._active = 0
        self._closed = False
        self._last = 0.0

    def call(self, function: Callable[..., Any], *arguments: Any) -> Any:
        with self._lock:
            self._active += 1
            self._last = time.monotonic()
        try:
            if self._closed:
                raise StopIteration  # ends the data set
            return function(*arguments)
        finally:
            with self._lock:
                self._active -= 1
                self._last = time.monotonic()

    def close(self) -> None:
        self._closed = True
        deadline = time.monotonic() + _PATIENCE
        while time.monotonic() < deadline:
            with self._lock:
                if not self._active and time.monotonic() - self._last > _QUIET:
                    return
            time.sleep(0.01)


_GATE = _Gate()
atexit.register(_GATE.close)


def python_op(
    function: Callable[..., Any],
    inputs: Sequence[Tensor],
    dtypes: tf.DType | Sequence[tf.DType],
    *,
    stateful: bool,
) -> Any:
    """``tf.numpy_function`` that AutoGraph leaves alone and that ends with the process.

    Args:
        stateful: whether equal inputs may give different outputs (files change).
    """
    guarded = functools.partial(_GATE.call, function)
    guarded = tf.autograph.experimental.do_not_convert(guarded)
    return tf.numpy_function(guarded, inputs, dtypes, stateful=stateful)
