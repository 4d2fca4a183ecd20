"""One place knows of clusters: what it does not know is refused, and no replica gets it all."""

from __future__ import annotations

import json

import pytest
import tensorflow as tf
from fake import fake_config
from run_fake import fake_task

from records.errors import InputError
from tffold import config as config_module
from tffold.train import strategy as strategy_lib
from tffold.train.feed import Feed
from tffold.train.run import build_trainer
from tffold.train.strategy import Cluster, build_cluster


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
