"""Batches made and used by another process, as a pod's host does: the same as here."""

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import remote_host
import tensorflow as tf

from tffold.train.strategy import Cluster

ROOT = Path(__file__).parents[2]
pytestmark = pytest.mark.slow


def free_port():
    with socket.socket() as one:
        one.bind(("localhost", 0))
        return str(one.getsockname()[1])


def trained_there(folder, *arguments):
    """What a coordinator prints that trains on a host of its own."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "CUDA_VISIBLE_DEVICES": "-1"}
    command, port = [sys.executable, remote_host.__file__], free_port()
    with open(folder / "log.txt", "w") as log:
        started = {"stdout": subprocess.PIPE, "stderr": log, "text": True, "env": environment}
        server = subprocess.Popen([*command, "serve", port], **started)
        try:
            asked = [*command, "coordinate", port, *map(str, arguments)]
            done = subprocess.run(asked, **started, timeout=300)
        finally:
            server.kill()
            server.wait()
    assert done.returncode == 0, (folder / "log.txt").read_text()[-3000:]
    return json.loads(done.stdout)


def trained_here(shard, steps, on_corrupt):
    cluster = Cluster(tf.distribute.get_strategy(), 0, 1, is_one_device=True)
    return remote_host.trained(cluster, str(shard), steps, on_corrupt)


def test_a_remote_host_takes_the_same_batches_and_tells_of_damage(shard, damaged, tmp_path):
    runs = [(shard, "fail"), (damaged, "skip"), (damaged, "fail")]
    asked = [word for run in runs for word in run]
    whole, skipped, failed = found = trained_there(tmp_path, 4, *asked)
    assert found == [trained_here(shard, 4, on_corrupt) for shard, on_corrupt in runs]
    assert len(whole["steps"]) == 4 and len(whole["steps"][0]) > 44
    assert skipped["skipped"] == 1 and len(skipped["steps"]) == 4
    assert f"{damaged}: " in failed["error"] and "data.on_corrupt=skip" in failed["error"]
