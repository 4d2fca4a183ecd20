"""Killed while it writes to a real server of a store, resumed and validated: by URLs alone."""

from __future__ import annotations

import json
import signal

import numpy as np
import pytest
import servers
from fake import fake_config
from processes import finish, start, wait_until, weights
from run_fake import fake_task

from records import paths
from tffold.train.monitor import read_metrics
from tffold.train.run import train, validate
from tffold.train.saving import copy_state
from tffold.weights import checkpoint

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def bucket():
    with servers.s3_server() as address, servers.reached_by("s3", address):
        yield f"s3://{servers.BUCKET}"


def test_killed_resumed_validated_and_begun_from(tmp_path, bucket):
    run = f"{bucket}/run"
    words = (f"run_dir={run}", "steps=6", "log_every=1")
    process = start(1, tmp_path / "out.npz", "--hang=4", *words)
    # The checkpoint of step 2 is there, that of step 4 hangs or is about to.
    folder = f"{run}/checkpoints"
    wait_until(
        lambda: checkpoint.steps_in(folder) == [2] and read_metrics(run)[-1]["step"] >= 4, process
    )
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert checkpoint.steps_in(folder) == [2]
    output = finish(start(1, tmp_path / "out.npz", *words))
    assert f"resuming {run} at step 2" in output
    config = fake_config(run_dir=str(tmp_path / "straight"), steps=6, log_every=1)
    straight = train(config, fake_task()).trainer
    again = weights(tmp_path / "out.npz")
    for name, value in copy_state(straight).items():
        np.testing.assert_array_equal(value, again[name.replace("/", "|")], err_msg=name)
    assert [line["step"] for line in read_metrics(run)] == [1, 2, 3, 4, 5, 6]
    assert json.loads(paths.read_text(f"{run}/summary.json"))["step"] == 6

    config = fake_config(run_dir=f"{bucket}/validated")
    config.data.validation = ["made up"]
    assert validate(config, fake_task(), run).step == 6
    place = f"{bucket}/validated/validation/step-00000006/validation.json"
    assert json.loads(paths.read_text(place))["step"] == 6
