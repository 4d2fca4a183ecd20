"""TensorFlow without what it never uses and with its pool, in processes of their own."""

from __future__ import annotations

import importlib.util
import os
import platform
import subprocess
import sys

import pytest

POOL = "TF_ENABLE_ONEDNN_OPTS"


def printed(*lines: str, **environment: str) -> str:
    kept = {name: value for name, value in os.environ.items() if name != POOL}
    run = subprocess.run(
        [sys.executable, "-c", "\n".join(lines)], env=kept | environment, check=True,
        capture_output=True, text=True,
    )  # fmt: skip
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


def faults(**environment: str) -> int:
    """Page faults of ten steps whose arrays have 50 MB, so that malloc would not keep them."""
    return int(
        printed(
            "import resource",
            "from tffold.lean_import import import_tensorflow",
            "import_tensorflow()",
            "import tensorflow as tf",
            "step = tf.function(lambda x: (x + 1, x * 2), jit_compile=True)",
            "x = tf.zeros([12_500_000])",
            "def faults():",
            "    for _ in range(10): step(x)",
            "    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt",
            "faults()",
            "print(-faults() + faults())",
            **environment,
        )
    )


@pytest.mark.skipif(platform.machine() != "x86_64", reason="x86 processors alone")
def test_a_step_takes_its_arrays_from_a_pool_unless_told_otherwise():
    code = (
        "import os, tffold.lean_import as lean",
        "lean.import_tensorflow()",
        f"print(os.environ[{POOL!r}])",
    )
    assert printed(*code) == "1"
    assert printed(*code, **{POOL: "0"}) == "0"
    assert faults() * 10 < faults(**{POOL: "0"})
