"""Killed, signalled, and several at once: runs in processes of their own."""

from __future__ import annotations

import json
import signal
import socket
from pathlib import Path

import numpy as np
import pytest
from processes import finish, start, wait_for, wait_until, weights

from tffold.train.monitor import read_metrics
from tffold.weights import checkpoint

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def straight(tmp_path_factory) -> dict[str, np.ndarray]:
    """The state after twelve uninterrupted steps on one device."""
    folder = tmp_path_factory.mktemp("straight")
    finish(start(1, folder / "out.npz", f"run_dir={folder}/run", "steps=12", "batch_size=8"))
    return weights(folder / "out.npz")


def test_killed_and_resumed_is_bit_for_bit_the_same(tmp_path, straight):
    # Validation on top, which must change nothing.
    words = (f"run_dir={tmp_path}/run", "steps=12", "batch_size=8", "--validate=3")
    for step in (2, 6):  # killed twice, at whatever it was doing then
        process = start(1, tmp_path / "out.npz", "--slow", *words)
        wait_for(tmp_path / "run" / "checkpoints" / f"step-{step:08d}", process)
        process.send_signal(signal.SIGKILL)
        process.communicate()
        assert not (tmp_path / "out.npz").exists()
    output = finish(start(1, tmp_path / "out.npz", *words))
    assert "resuming" in output
    again = weights(tmp_path / "out.npz")
    for name, value in straight.items():
        np.testing.assert_array_equal(value, again[name], err_msg=name)


def test_sigterm_saves_and_leaves_with_its_own_code(tmp_path, straight):
    words = (f"run_dir={tmp_path}/run", "steps=12", "batch_size=8", "checkpoint_every=1000")
    process = start(1, tmp_path / "part.npz", "--slow", "--slow-writes", *words)
    wait_for(tmp_path / "run" / "metrics.jsonl", process)
    process.send_signal(signal.SIGTERM)
    wait_until(lambda: list((tmp_path / "run" / "checkpoints").glob(".*")), process)
    process.send_signal(signal.SIGTERM)  # a second one does not end the writing
    output = finish(process, 75)
    assert "SIGTERM" in output
    (saved,) = (tmp_path / "run" / "checkpoints").iterdir()
    assert 0 < int(saved.name[5:]) < 12
    finish(start(1, tmp_path / "out.npz", *words))
    again = weights(tmp_path / "out.npz")
    for name, value in straight.items():
        np.testing.assert_array_equal(value, again[name], err_msg=name)


def test_killed_while_a_checkpoint_is_written(tmp_path, straight):
    """Training goes on meanwhile, to the next checkpoint; it resumes from the one before."""
    words = (f"run_dir={tmp_path}/run", "steps=12", "batch_size=8", "log_every=1")
    process = start(1, tmp_path / "out.npz", "--hang=4", *words)
    wait_until(
        lambda: [line["step"] for line in read_metrics(tmp_path / "run")][-1:] == [6], process
    )
    (partial,) = (tmp_path / "run" / "checkpoints").glob(".*")
    assert partial.name.startswith(".step-00000004") and list(partial.iterdir())
    process.send_signal(signal.SIGKILL)
    process.communicate()
    output = finish(start(1, tmp_path / "out.npz", *words))
    assert "resuming" in output and "at step 2" in output
    again = weights(tmp_path / "out.npz")
    for name, value in straight.items():
        np.testing.assert_array_equal(value, again[name], err_msg=name)
    assert not partial.exists()


def assert_close(one, other):
    for name, value in one.items():
        np.testing.assert_allclose(value, other[name], rtol=2e-5, atol=2e-6, err_msg=name)


def losses(run: Path) -> list[float]:
    return [json.loads(line)["loss"] for line in (run / "metrics.jsonl").read_text().splitlines()]


def test_eight_mirrored_devices_are_one_device(tmp_path, straight):
    finish(
        start(
            8,
            tmp_path / "out.npz",
            f"run_dir={tmp_path}/run",
            "steps=12",
            "batch_size=8",
            "strategy=mirrored",
            "--validate=6",
        )
    )
    assert_close(straight, weights(tmp_path / "out.npz"))


def test_two_workers_are_one_device(tmp_path, straight):
    ports = []
    for _ in range(2):
        with socket.socket() as probe:
            probe.bind(("localhost", 0))
            ports.append(probe.getsockname()[1])
    cluster = {"worker": [f"localhost:{port}" for port in ports]}
    workers = [
        start(
            1,
            tmp_path / f"out{index}.npz",
            f"run_dir={tmp_path}/run",
            "steps=12",
            "batch_size=8",
            "strategy=multi_worker",
            "--validate=4",
            "checkpoint_every_seconds=0.001",
            "keep_checkpoints=12",
            env={
                "TF_CONFIG": json.dumps(
                    {"cluster": cluster, "task": {"type": "worker", "index": index}}
                )
            },
        )
        for index in range(2)
    ]
    outputs = [finish(worker) for worker in workers]
    assert "step 12/12" in outputs[0] and "step 12/12" not in outputs[1]
    for index in range(2):
        assert_close(straight, weights(tmp_path / f"out{index}.npz"))
    # By the clock too, as the chief's has it.
    saved = checkpoint.steps_in(tmp_path / "run" / "checkpoints")
    assert saved[0] == 1 and {2, 4, 6, 8, 10, 12} <= set(saved)
    for step in (4, 8, 12):  # each worker measured some of the chains; both know of all
        folder = tmp_path / "run" / "validation" / f"step-{step:08d}"
        record = json.loads((folder / "validation.json").read_text())
        assert [chain["chain"] for chain in record["chains"]] == [f"chain{i}" for i in range(5)]
        scores = [chain["lddt_ca"] for chain in record["chains"]]
        np.testing.assert_allclose(np.diff(scores), 0.01, atol=1e-6)
    assert "validation at step 12: 5 chains" in outputs[0] and "validation" not in outputs[1]
