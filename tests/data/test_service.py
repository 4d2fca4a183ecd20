"""tf.data service: examples made by other processes are the same, in the same order."""

import os
import signal
import socket
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from pipelines import assert_same

from records.errors import InputError
from tffold.data import pipeline, service
from tffold.train.feed import next_element

ROOT = Path(__file__).parents[2]


def free_port():
    with socket.socket() as one:
        one.bind(("localhost", 0))
        return one.getsockname()[1]


class Servers:
    """A dispatcher and two workers, each a process of ``tffold-data-worker``."""

    def __init__(self, folder):
        self.folder, self.port = folder, free_port()
        self.address = f"grpc://localhost:{self.port}"
        self.dispatcher = self.start_dispatcher()
        self.workers = []
        for _ in range(2):
            self.start_worker()
        for process in (self.dispatcher, *self.workers):
            self.wait(process)

    def start_dispatcher(self):
        state = self.folder / "state"
        return self.start("--dispatcher", "--port", self.port, "--workers", 0, "--state", state)

    def start_worker(self):
        self.workers.append(self.start(self.address, "--host", "localhost"))

    def kill(self, process):
        process.kill()
        process.wait()
        process.stdout.close()

    def start(self, *words):
        command = [sys.executable, "-m", "tffold.cli.data_worker", *map(str, words)]
        environment = {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1"}
        with open(self.folder / "log.txt", "a") as log:
            return subprocess.Popen(
                command, stdout=subprocess.PIPE, stderr=log, text=True, env=environment
            )

    def wait(self, process):
        assert "ready" in process.stdout.readline(), self.log()

    def log(self):
        return (self.folder / "log.txt").read_text()[-3000:]

    def stop(self):
        for process in (*self.workers, self.dispatcher):
            self.kill(process)


@pytest.fixture(scope="module")
def servers(tmp_path_factory):
    servers = Servers(tmp_path_factory.mktemp("service"))
    yield servers
    servers.stop()


def batches(config, count, **arguments):
    dataset = pipeline.training_dataset(
        config, **{"num_recycle": 1, "batch_size": 2, "seed": 0, **arguments}
    )
    iterator = iter(dataset)
    for _ in range(count):
        yield {name: value.numpy() for name, value in next_element(iterator).items()}


@pytest.mark.slow
class TestWithProcesses:
    def test_a_damaged_record_is_named(self, servers, config, damaged):
        served = replace(config, train=[str(damaged)], service=servers.address)
        with pytest.raises(InputError, match=f"{damaged.name}: .*does every worker"):
            list(batches(served, 4))

    def test_the_same_batches_whoever_dies_or_comes(self, servers, config, monkeypatch):
        """A part of each batch, from step 2 on; a job ends after every sixteenth."""
        monkeypatch.setattr(service, "_PATIENCE", 1.0)
        monkeypatch.setattr(service, "_SPAN", 16)
        arguments = {"start_step": 2, "num_shards": 2, "shard_index": 1}
        served = batches(replace(config, service=servers.address), 36, **arguments)
        for step, here in enumerate(batches(config, 36, **arguments)):
            assert_same(here, next(served))
            if step == 2:
                time.sleep(1.0)  # it is to hold finished examples
                servers.kill(servers.workers.pop())
            if step == 9:
                servers.kill(servers.dispatcher)
                servers.dispatcher = servers.start_dispatcher()
                servers.wait(servers.dispatcher)
            if step == 15:  # one comes, and is alone then
                old = servers.workers.pop()
                servers.start_worker()
                servers.wait(servers.workers[0])
                servers.kill(old)
            if step == 26:  # in a job: nobody is left until another comes
                servers.kill(servers.workers.pop())
                servers.start_worker()

    def test_ends_cleanly_on_sigterm(self, servers):
        for process in (*servers.workers, servers.dispatcher):
            process.send_signal(signal.SIGTERM)
            assert process.wait(60) == 0, servers.log()


def test_no_dispatcher_is_one_clear_error(config, monkeypatch):
    monkeypatch.setattr(service, "_WAIT", 0.0)
    served = replace(config, service=f"grpc://localhost:{free_port()}")
    with pytest.raises(InputError, match="no dispatcher answers at grpc://localhost:.*start one"):
        next(batches(served, 1))


class TestInOrder:
    """Examples are their places; those made here are negative."""

    def ordered(self, arrivals, size):
        def pack(value):
            return tf.raw_ops.CompressElement(components=[value])

        arrivals = tf.data.Dataset.from_tensor_slices(np.array(arrivals, np.int64))
        dataset = service._in_order(
            arrivals.map(lambda place: (place, pack(place))),
            tf.constant(size, tf.int64),
            lambda place: pack(-place),
        )
        types = {"output_types": [tf.int64], "output_shapes": [[]]}
        unpack = dataset.map(lambda x: tf.raw_ops.UncompressElement(compressed=x, **types)[0])
        return [int(x) for x in unpack]

    def test_any_order_any_number_of_times(self):
        assert self.ordered([2, 1, 1, 0, 2, 0, 4, 3, 3], 5) == [0, 1, 2, 3, 4]

    def test_what_is_too_far_behind_is_made_here(self, monkeypatch):
        monkeypatch.setattr(service, "_WINDOW", 3)
        arrivals = [1, 2, 3, 5, 4, 0, 7, 8, 9, 11]
        assert self.ordered(arrivals, 9) == [0, 1, 2, 3, 4, 5, -6, 7, 8]

    def test_what_does_not_come_in_time_is_made_here(self, monkeypatch):
        assert self.ordered([0, 2, 3, 5, 5], 5) == [0]  # no time has passed
        monkeypatch.setattr(service, "_PATIENCE", -1.0)
        assert self.ordered([0, 2, 3, 5], 5) == [0, -1, 2, 3, -4]
