"""Sums over replicas, placement and weights: what loses, moves or flips bits is seen."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import tensorflow as tf

from tffold.check import strategy
from tffold.check.child import Request
from tffold.check.report import FAIL, MEASURED, PASS
from tffold.check.toy import toy_config, toy_trainer
from tffold.config import Config
from tffold.train.strategy import Cluster


@pytest.fixture(scope="module")
def cluster():
    return Cluster(tf.distribute.get_strategy(), 0, 1)


def test_one_device(cluster):
    lines = {x.name: x for x in strategy.check(Request(Config(), options={"sum_length": 1000}))}
    assert {line.status for line in lines.values()} == {PASS, MEASURED}
    assert lines["cluster"].values["local_batch"] == 128


def test_a_batch_that_does_not_divide_is_one_line(monkeypatch):
    config = Config()
    config.train.batch_size = 3
    monkeypatch.setattr(Cluster, "num_replicas", 2)
    (line,) = strategy.check(Request(config))
    assert line.status == FAIL and "train.batch_size" in line.text


def test_a_sum_that_loses_bits_fails(cluster, monkeypatch):
    real = tf.distribute.ReplicaContext.all_reduce

    def lossy(self, op, value, options=None):
        def cut(x):
            return tf.cast(tf.cast(x, tf.bfloat16), x.dtype) if x.dtype == tf.float32 else x

        return real(self, op, tf.nest.map_structure(cut, value), options)

    monkeypatch.setattr(tf.distribute.ReplicaContext, "all_reduce", lossy)
    line = strategy.sums(cluster, 1000)
    assert line.status == FAIL and "replica 0" in line.text and "rounds" in line.text
    config = toy_config(Config(), 1, 2)
    lines = {x.name: x for x in strategy.ten_steps(config, cluster, toy_trainer(config, cluster))}
    assert lines["as one device"].status == PASS  # both lose the same: the sum's line is needed


def test_weights_on_the_wrong_device_fail(cluster, monkeypatch):
    trainer = toy_trainer(toy_config(Config(), 1, 2), cluster)
    assert strategy.placement(trainer).status == PASS
    monkeypatch.setattr(strategy, "accelerator", lambda: "GPU")
    line = strategy.placement(trainer)
    assert line.status == FAIL and "wanted: 1 different GPU" in line.text


@pytest.mark.slow
def test_a_flipped_bit_on_one_replica_fails():
    script = Path(__file__).parents[1] / "support" / "faults.py"
    run = subprocess.run([sys.executable, script], capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr[-2000:]
    (line,) = [x for x in run.stdout.splitlines() if "replicas hold the same weights" in x]
    assert line.startswith("fail") and "replica 1" in line and "parameters/" in line


def test_steps_that_part_from_one_device_fail(cluster):
    config = toy_config(Config(), 1, 2)
    trainer = toy_trainer(config, cluster)
    trainer.network.trainable_variables[0].assign_add(1e-2 * tf.ones([16, 32]))
    lines = {x.name: x for x in strategy.ten_steps(config, cluster, trainer)}
    assert lines["as one device"].status == FAIL
    assert lines["replicas hold the same weights"].status == PASS
