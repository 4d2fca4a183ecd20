"""The input part: a slow loader, a full disk and a bad data set each fail their line."""

from __future__ import annotations

import resource
import time

import pytest
from fake import fake_config
from run_fake import fake_task
from synthetic import chain, write_shard

from tffold.check import input as input_part
from tffold.check.child import Request
from tffold.check.report import FAIL, LEFT_OUT, MEASURED, PASS
from tffold.config import Config
from tffold.train.run import build_trainer
from tffold.train.strategy import build_cluster

EATEN = "speed.step.samples_per_second"


@pytest.fixture(scope="module")
def shard(tmp_path_factory):
    chains = [chain(num_msa=9, num_templates=1, chain_id=f"c{i}_A", seed=i) for i in range(3)]
    return write_shard(tmp_path_factory.mktemp("shards") / "chains.tfrecord", chains)


@pytest.fixture
def config(shard):
    config = Config()
    config.data.train = [str(shard)]
    config.data.train_filter.sample_by_length = False
    config.data.crop_size, config.data.max_msa_clusters, config.data.max_extra_msa = 16, 8, 8
    config.model.num_recycle = 0
    return config


class Loader:
    """A data set that takes so many seconds for a batch."""

    skipped = 0

    def __init__(self, seconds):
        self.seconds = seconds

    def __call__(self, *, start_step, num_shards=1, shard_index=0):
        while True:
            time.sleep(self.seconds)
            yield {}


def lines(config, loader, eaten):
    request = Request(config, found={EATEN: eaten}, options={"seconds": 0.2})
    return {line.name: line for line in input_part.data_lines(loader, request)}


def test_a_slow_loader_fails_and_the_short_part_is_named(config):
    found = lines(config, Loader(0.05), 1e4)
    line = found["feeds the device"]
    assert line.status == FAIL and "preparing is short" in line.text
    assert found["store"].values["bytes_per_record"] > 100
    assert lines(config, Loader(0.0), 1e-3)["feeds the device"].status == PASS


def test_a_slow_store_is_named(config, monkeypatch):
    monkeypatch.setattr(input_part, "store_rate", lambda sources: (100.0, 1000.0))
    line = lines(config, Loader(0.05), 1e4)["feeds the device"]
    assert line.status == FAIL and "the store is short" in line.text


def test_without_a_measured_step_nothing_is_claimed(config):
    assert lines(config, Loader(0.0), None)["feeds the device"].status == LEFT_OUT


def test_real_records_are_read(config, monkeypatch):
    monkeypatch.setattr(input_part, "checkpoint_lines", lambda config: [])
    request = Request(config, found={EATEN: 1e-3}, options={"seconds": 0.1})
    found = {line.name: line for line in input_part.check(request)}
    assert found["pipeline"].status == MEASURED and found["feeds the device"].status == PASS
    config.data.train = ["nowhere/*.tfrecord"]
    (line,) = input_part.check(Request(config))
    assert line.status == FAIL and "nowhere" in line.text
    config.data.train = []
    (line,) = input_part.check(Request(config))
    assert line.status == LEFT_OUT and "data.train" in line.text


@pytest.fixture(scope="module")
def trainer():
    config = fake_config()
    return build_trainer(config, fake_task(), build_cluster(config.train)), config


def kept(trainer, place):
    return {line.name: line for line in input_part.keep_and_load(*trainer, place)}


def test_a_checkpoint_comes_back_and_leaves_nothing(trainer, tmp_path):
    found = kept(trainer, tmp_path)
    assert {line.status for line in found.values()} == {PASS}
    assert not list(tmp_path.iterdir())
    assert input_part.nearest_folder(tmp_path / "not" / "yet") == tmp_path


def test_a_full_disk_fails(trainer, tmp_path, monkeypatch):
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100, hard))  # no file may be longer
    try:
        line = kept(trainer, tmp_path)["checkpoint"]
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert line.status == FAIL and "could not be written" in line.text
    monkeypatch.setattr(input_part.shutil, "disk_usage", lambda place: type("U", (), {"free": 99}))
    line = kept(trainer, tmp_path)["room for checkpoints"]
    assert line.status == FAIL and "train.keep_checkpoints" in line.text
    assert not list(tmp_path.iterdir())


def test_a_checkpoint_that_comes_back_changed_fails(trainer, tmp_path, monkeypatch):
    real = input_part.restore

    def wrong(trainer, saved):
        real(trainer, saved)
        trainer.state_variables.parameters[0].assign_add(
            0.5 + 0.0 * trainer.state_variables.parameters[0]
        )

    monkeypatch.setattr(input_part, "restore", wrong)
    assert kept(trainer, tmp_path)["checkpoint"].status == FAIL
