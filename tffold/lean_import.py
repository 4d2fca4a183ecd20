"""Imports TensorFlow without what it would load beside itself and never use."""

from __future__ import annotations

import sys

_UNUSED = "jax"  # TensorFlow Lite's converter looks for it


def import_tensorflow() -> None:
    """Imports TensorFlow, but not JAX with it, which takes 0.11 GB of memory and a second.

    JAX can be imported later. Nothing happens if either was imported before.
    """
    if _UNUSED in sys.modules:
        return
    sys.modules[_UNUSED] = None  # what is None there cannot be imported
    try:
        import tensorflow  # noqa: F401
    finally:
        del sys.modules[_UNUSED]
