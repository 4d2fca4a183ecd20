"""One place knows of clusters: what it does not know is refused, and no replica gets it all."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from fake import fake_config
from run_fake import fake_task

from records.errors import InputError
from tffold import config as config_module
from tffold.train import strategy as strategy_lib
from tffold.train.feed import Feed
from tffold.train.run import build_trainer
from tffold.train.strategy import Cluster, build_cluster, sum_over_replicas

ROOT = Path(__file__).parents[2]


def test_an_unknown_strategy_is_refused():
    with pytest.raises(InputError, match="must be one of single, mirrored.*, not 'ring'"):
        build_cluster(fake_config(strategy="ring").train)


def test_settings_and_clusters_name_the_same_strategies():
    assert list(config_module.STRATEGIES) == list(strategy_lib._CLUSTERS)


def test_a_strategy_that_does_not_deal_out_the_batch_is_refused():
    class Undealt(Cluster):
        num_replicas = 2  # as it would claim

        def distribute(self, make):
            return make(tf.distribute.InputContext())

    config, task = fake_config(batch_size=4), fake_task()
    cluster = Undealt(tf.distribute.get_strategy(), 0, 1)
    trainer = build_trainer(config, task, cluster)
    batch = next(Feed(task.dataset(config), cluster).batches(0))
    with pytest.raises(ValueError, match="fed 4 examples, not 2.*does not deal out"):
        trainer.run_step(batch)


SUMS = """
import numpy as np
import tensorflow as tf
from tffold.train.strategy import Cluster, sum_over_replicas
cpu = tf.config.list_physical_devices("CPU")[0]
tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)
strategy = tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])
numbers = 1.0 + np.arange(6, dtype=np.float32) / 1000
for in_bfloat16 in (False, True):
    def mine():
        replica = tf.distribute.get_replica_context().replica_id_in_sync_group
        gradient = tf.cast(replica + 1, tf.float32) * numbers
        return sum_over_replicas(gradient, {"loss": gradient[1]}, in_bfloat16)
    found = strategy.run(tf.function(mine, autograph=False))
    for gradient, scalars in Cluster(strategy, 0, 1).from_replicas(found):
        assert gradient.dtype == tf.float32
        error = np.abs(gradient - 3 * numbers).max()
        assert 2e-3 < error < 2e-2 if in_bfloat16 else error < 1e-6, error
        assert abs(float(scalars["loss"]) - 3.003) < 1e-6
"""


def test_gradients_are_summed_in_bfloat16_on_demand():
    """On two devices: gradients are rounded where that is asked for, scalars never are."""
    subprocess.run([sys.executable, "-c", SUMS], check=True, cwd=ROOT)


def test_one_replica_rounds_nothing():
    numbers = tf.constant([1.001, 1.002])
    gradient, _ = sum_over_replicas(numbers, {}, in_bfloat16=True)
    assert np.array_equal(gradient, numbers)


@pytest.mark.parametrize(
    ("jobs", "task", "expected"),
    [
        ({"worker": 3}, ("worker", 0), (0, 3)),
        ({"worker": 3}, ("worker", 2), (2, 3)),
        ({"chief": 1, "worker": 2}, ("chief", 0), (0, 3)),
        ({"chief": 1, "worker": 2}, ("worker", 0), (1, 3)),
    ],
)
def test_processes_are_numbered_from_the_chief(monkeypatch, jobs, task, expected):
    machines = {job: [f"{job}{i}:1" for i in range(n)] for job, n in jobs.items()}
    place = {"type": task[0], "index": task[1]}
    monkeypatch.setenv("TF_CONFIG", json.dumps({"cluster": machines, "task": place}))

    class Strategy:
        num_replicas_in_sync = sum(jobs.values())
        cluster_resolver = tf.distribute.cluster_resolver.TFConfigClusterResolver()

    monkeypatch.setattr(tf.distribute, "MultiWorkerMirroredStrategy", Strategy)
    cluster = strategy_lib._multi_worker(fake_config().train)
    assert (cluster.process, cluster.num_processes) == expected
    assert cluster.is_chief == (expected[0] == 0)
    assert cluster.local_replicas == 1
