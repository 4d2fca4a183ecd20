"""Batches made by another process, as a pod's host makes them: the same as here."""

import os
import socket
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import remote_host
from pipelines import assert_same

from tffold.data import pipeline

ROOT = Path(__file__).parents[2]


def free_port():
    with socket.socket() as one:
        one.bind(("localhost", 0))
        return str(one.getsockname()[1])


@pytest.mark.slow
def test_a_remote_host_makes_the_same_batches(shard, tmp_path):
    port, output = free_port(), tmp_path / "batches.npz"
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "CUDA_VISIBLE_DEVICES": "-1"}
    command = [sys.executable, remote_host.__file__]
    with open(tmp_path / "log.txt", "w") as log:
        started = {"stdout": subprocess.PIPE, "stderr": log, "text": True, "env": environment}
        server = subprocess.Popen([*command, "serve", port], **started)
        try:
            asked = [*command, "coordinate", port, str(shard), str(output), "1", "2"]
            done = subprocess.run(asked, **started, timeout=300)
        finally:
            server.kill()
            server.wait()
    assert done.returncode == 0, (tmp_path / "log.txt").read_text()[-3000:]
    found = np.load(output, allow_pickle=True)  # names of chains are objects
    config = remote_host.config_for(str(shard), **remote_host.SMALL)
    here = pipeline.training_dataset(config, num_recycle=1, batch_size=2, seed=0)
    for step, batch in enumerate(here.take(3)):
        prefix = f"{step}/"
        there = {k.removeprefix(prefix): found[k] for k in found if k.startswith(prefix)}
        assert_same(there, {name: value.numpy() for name, value in batch.items()})
