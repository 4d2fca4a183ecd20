"""Imports TensorFlow without what it would load beside itself, and with what a step gains from."""

from __future__ import annotations

import os
import platform
import sys

_UNUSED = "jax"  # TensorFlow Lite's converter looks for it
# oneDNN's operations are on where a processor has AVX-512's instructions for networks, and with
# them a pool for arrays. Without it each array of a step comes from the system and goes back.
_POOL = "TF_ENABLE_ONEDNN_OPTS"


def switch_pool_on() -> None:
    """For a TensorFlow that is not imported yet; a set ``TF_ENABLE_ONEDNN_OPTS`` is left alone."""
    if platform.machine() in ("x86_64", "AMD64"):  # elsewhere other libraries come with it
        os.environ.setdefault(_POOL, "1")


def import_tensorflow() -> None:
    """Imports TensorFlow with its pool for arrays, and without JAX (0.11 GB and a second).

    JAX can be imported later. Nothing happens if TensorFlow or JAX was imported before.
    """
    if _UNUSED in sys.modules:
        return
    switch_pool_on()
    sys.modules[_UNUSED] = None  # what is None there cannot be imported
    try:
        import tensorflow  # noqa: F401
    finally:
        del sys.modules[_UNUSED]
