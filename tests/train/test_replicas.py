"""Replicas that part are seen, named, and set back to the last checkpoint."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from fake import fake_config
from toy_run import go

from tffold.train.replicas import MAX_IN_A_ROW, Disagreement, ReplicaCheck, checksum


def test_any_flipped_bit_changes_the_checksum():
    value = np.random.default_rng(0).normal(size=(7, 5)).astype(np.float32)
    before = int(checksum(tf.constant(value)))
    for bit in range(32):
        changed = value.copy()
        changed.reshape(-1).view(np.uint32)[11] ^= np.uint32(1 << bit)
        assert int(checksum(tf.constant(changed))) != before, bit
    assert int(checksum(tf.constant(3))) == 3


def test_the_odd_one_is_named():
    assert "replica 5 of 8 differs in parameters/out and 1 more" == str(
        Disagreement([5], 8, ["parameters/out", "average/out"])
    )
    assert "replica 1, or the others, of 2" in str(Disagreement([1], 2, ["parameters/out"]))


class Gathered:
    """A cluster of three processes as the check sees it; this is the second."""

    def __init__(self, others):
        self.others = others

    def gather_json(self, value):
        return [self.others(value), value, self.others(value)]


def test_all_processes_count():
    check = ReplicaCheck.__new__(ReplicaCheck)
    check.names = ["a", "b"]
    check.checksums = lambda: [np.array([1, 2]), np.array([1, 3])]
    check.cluster = Gathered(lambda value: [value[0], value[0]])
    found = check.disagreement()
    assert found == Disagreement([3], 6, ["b"])
    check.checksums = lambda: [np.array([1, 2]), np.array([1, 2])]
    assert check.disagreement() is None


def test_one_replica_trains_as_ever(tmp_path):
    plain, _, _ = go(tmp_path / "plain", steps=3)
    checked, said, _ = go(tmp_path / "checked", steps=3, check_replicas_every=1)
    assert any("nothing to compare" in line for line in said)
    for name, value in plain.items():
        np.testing.assert_array_equal(value, checked[name], err_msg=name)
    assert fake_config().train.check_replicas_every == 0


def run_two(out: Path, *words: str, code: int = 0) -> str:
    """What a run of the toy network on two devices says."""
    script = Path(__file__).parents[1] / "support" / "run_fake.py"
    fields = ["steps=8", "batch_size=4", "strategy=mirrored", "checkpoint_every=3", "log_every=1"]
    run = subprocess.run(
        [sys.executable, script, "2", out, f"run_dir={out.with_suffix('')}", *fields, *words],
        env=os.environ | {"TF_CPP_MIN_LOG_LEVEL": "3"},
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert run.returncode == code, run.stdout + run.stderr[-2000:]
    return run.stdout


@pytest.mark.slow
def test_a_flipped_bit_costs_steps_not_the_run(tmp_path):
    run_two(tmp_path / "whole.npz")
    output = run_two(tmp_path / "out.npz", "check_replicas_every=2", "--flip=1,5")
    # One flip is seen before there is any later checkpoint, the other after that of step 3.
    assert "step 2: replica" in output and "Back to the checkpoint of step 0" in output
    assert "step 6: replica" in output and "Back to the checkpoint of step 3" in output
    with np.load(tmp_path / "whole.npz") as whole, np.load(tmp_path / "out.npz") as out:
        for name in whole:
            np.testing.assert_array_equal(whole[name], out[name], err_msg=name)
    lines = (tmp_path / "out" / "metrics.jsonl").read_text().splitlines()
    assert len(lines) == 8  # what was taken back is not told twice
    output = run_two(tmp_path / "bad.npz", "check_replicas_every=1", "--flip=always", code=2)
    assert f"{MAX_IN_A_ROW} times in a row" in output
