"""Quiet TensorFlow on the processor, and ``tests/support`` on the path."""

from __future__ import annotations

import ctypes
import gc
import os
import sys
from pathlib import Path

import pytest

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
os.environ.setdefault("CUDA_VISIBLE_DEVICES", "-1")
sys.path.insert(0, str(Path(__file__).parent / "support"))


@pytest.fixture(scope="module", autouse=True)
def give_memory_back():
    """What compilers leave behind goes back to the system after each file; it is gigabytes."""
    yield
    gc.collect()
    if sys.platform == "linux":
        ctypes.CDLL("libc.so.6").malloc_trim(0)


def pytest_addoption(parser):
    parser.addoption(
        "--golden",
        help="folder of reference cases for test_golden.py (default: tests/golden and "
        "tests/golden_multimer)",
    )
