"""TensorFlow reads ``gs://`` inside the graph: its own code, over TLS, from an emulator.

Its hosts are fixed, and it knows no emulator; see ``google_hosts`` in ``tests/support``.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import servers
from google_hosts import google_as
from pipelines import chains
from synthetic import write_shard

from records import paths, shards

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]
# In a process of its own: TensorFlow reads the variables that lead it to the proxy only once.
SCRIPT = """
import sys
import numpy as np
from remote_host import SMALL, config_for
from records import cache, paths
from records.errors import InputError
from tffold.config import Config, TrainConfig
from tffold.train.feed import next_element, Feed
from tffold.train.strategy import build_cluster
from tffold.train.task import TrainingData

cache._tensorflow_reads = lambda url: url.startswith("gs://")  # though there is an emulator
here, there, other = sys.argv[1:]

def factory(source):
    return TrainingData(Config(data=config_for(source, **SMALL), train=TrainConfig(batch_size=2)))

near, far = iter(factory(here)(start_step=0)), Feed(factory(there), build_cluster(TrainConfig()))
batches = far.batches(0)
for _ in range(6):
    one, two = next_element(near), next(batches)
    one.pop("chain_id")
    assert one.keys() == two.keys()
    for name, value in one.items():
        np.testing.assert_array_equal(value.numpy(), two[name].numpy(), err_msg=name)
print("the same", flush=True)

paths.upload(other, there)
try:
    for _ in range(100):
        next(batches)
except InputError as error:
    print(error)
try:
    factory(there.replace("some", "forbidden"))
except InputError as error:
    print(error)
"""


def test_the_graph_reads_gs_itself_and_a_replaced_shard_is_told(tmp_path):
    here, other = tmp_path / "some.tfrecord", tmp_path / "other.tfrecord"
    write_shard(here, chains())
    write_shard(other, chains()[1:])
    there = f"gs://{servers.BUCKET}/data/some.tfrecord"
    with servers.gcs_server() as address, servers.reached_by("gs", address):
        for file in (here, shards.index_path(here)):
            for name in (Path(file).name, Path(file).name.replace("some", "forbidden")):
                paths.upload(file, paths.join(paths.parent(there), name))
        with google_as(address, tmp_path) as google:
            path = {"PYTHONPATH": f"{ROOT}:{ROOT}/tests/support"}
            done = subprocess.run(
                [sys.executable, "-c", SCRIPT, here, there, other],
                env=os.environ | path | google.environment,
                capture_output=True, text=True, timeout=300, check=False,
            )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    *told, forbidden = done.stdout.splitlines()
    assert forbidden.startswith(f"{there.replace('some', 'forbidden')}: TensorFlow cannot read it")
    assert "gcloud auth" in forbidden
    assert told == [
        "the same",
        f"{there}: the shard was replaced while it was being read (start again, and write new "
        "shards under other names while a run reads these)",
    ]
    assert "GET storage.googleapis.com/tests/data%2Fsome.tfrecord" in google.requests
