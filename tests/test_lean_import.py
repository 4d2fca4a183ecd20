"""TensorFlow without what it never uses, in processes of their own."""

from __future__ import annotations

import importlib.util
import subprocess
import sys

import pytest


def printed(*lines: str) -> str:
    run = subprocess.run(
        [sys.executable, "-c", "\n".join(lines)], check=True, capture_output=True, text=True
    )
    return run.stdout.strip()


@pytest.mark.skipif(importlib.util.find_spec("jax") is None, reason="JAX is not installed")
def test_jax_stays_out_and_can_be_imported_later():
    found = printed(
        "import sys",
        "from tffold.lean_import import import_tensorflow",
        "import_tensorflow()",
        "import tffold.train.run",
        "print('tensorflow' in sys.modules, 'jax' in sys.modules)",
        "import jax",
        "print(jax.__name__)",
    )
    assert found.split() == ["True", "False", "jax"]
