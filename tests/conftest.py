"""Quiet TensorFlow on the processor, and ``tests/support`` on the path."""

from __future__ import annotations

import os
import sys
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
os.environ.setdefault("CUDA_VISIBLE_DEVICES", "-1")
sys.path.insert(0, str(Path(__file__).parent / "support"))


def pytest_addoption(parser):
    parser.addoption(
        "--golden",
        default=str(Path(__file__).parent / "golden"),
        help="folder of reference cases for test_golden.py",
    )
