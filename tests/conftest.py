"""Quiet TensorFlow on the processor, and ``tests/support`` on the path."""

from __future__ import annotations

import ctypes
import gc
import os
import sys
from pathlib import Path

import pytest

from tffold.lean_import import switch_pool_on

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
os.environ.setdefault("CUDA_VISIBLE_DEVICES", "-1")
switch_pool_on()  # as the commands do
sys.path.insert(0, str(Path(__file__).parent / "support"))

# Files that take minutes, the longest first.
LONG = (
    "test_docs.py",
    "test_golden.py",
    "train/test_complexes.py",
    "test_installed.py",
    "cli/test_check_whole.py",
    "model/test_recompute.py",
    "predict/test_agreement.py",
    "cli/test_urls_alone.py",
    "train/test_run_on_stores.py",
    "train/test_faults.py",
    "train/test_faults_on_stores.py",
    "data/test_remote_host.py",
    "data/test_google_storage.py",
)


@pytest.fixture(scope="module", autouse=True)
def give_memory_back():
    """What compilers leave behind goes back to the system after each file; it is gigabytes."""
    yield
    gc.collect()
    if sys.platform == "linux":
        ctypes.CDLL("libc.so.6").malloc_trim(0)


def pytest_collection_modifyitems(items):
    """Puts long files first, so that workers that take whole files end at about the same time."""
    places = {Path(__file__).parent / name: place for place, name in enumerate(LONG)}
    items.sort(key=lambda item: places.get(item.path, len(LONG)))


def pytest_addoption(parser):
    parser.addoption(
        "--golden",
        help="folder of reference cases for test_golden.py (default: tests/golden and "
        "tests/golden_multimer)",
    )
