"""The toy run in processes of its own: started, waited for, and what it left."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np

SCRIPT = Path(__file__).parent / "run_fake.py"


def start(devices: int, out: Path, *words: str, env: dict[str, str] | None = None):
    return subprocess.Popen(
        [sys.executable, str(SCRIPT), str(devices), str(out), *words],
        env=os.environ | {"TF_CPP_MIN_LOG_LEVEL": "3"} | (env or {}),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def finish(process, code: int = 0) -> str:
    output, _ = process.communicate(timeout=300)
    assert process.returncode == code, output
    return output


def weights(path: Path) -> dict[str, np.ndarray]:
    with np.load(path) as file:
        return dict(file)


def wait_for(path: Path, process) -> None:
    wait_until(path.exists, process)


def wait_until(true, process, seconds: float = 120.0) -> None:
    deadline = time.monotonic() + seconds
    while not true():
        assert process.poll() is None, process.communicate()[0]
        assert time.monotonic() < deadline
        time.sleep(0.02)
