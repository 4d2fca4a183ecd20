"""Whole checks in processes of their own: eight logical devices, and two processes."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys

import pytest
from predicting import small_config
from synthetic import chain, write_shard

from tffold import config_file
from tffold.check.report import FAIL
from tffold.check.run import PARTS

pytestmark = pytest.mark.slow
# Nothing here is about speed, so XLA may leave its own optimisation out.
QUICK = {"TF_CPP_MIN_LOG_LEVEL": "3", "XLA_FLAGS": "--xla_backend_optimization_level=0"}


@pytest.fixture(scope="module")
def settings(tmp_path_factory):
    """A small network without templates on a few made chains."""
    folder = tmp_path_factory.mktemp("check")
    chains = [chain(num_msa=9, num_templates=1, chain_id=f"c{i}_A", seed=i) for i in range(3)]
    config = small_config()
    config.model.num_recycle = 0
    config.model.template.enabled = False
    config.model.structure_module.num_layer = 1
    config.data.train = [str(write_shard(folder / "chains.tfrecord", chains))]
    config.data.train_filter.sample_by_length = False
    config.data.crop_size = 16
    config.train.batch_size = 8
    config.train.run_dir = str(folder / "run")
    path = folder / "small.yaml"
    path.write_text(config_file.to_yaml(config))
    return path


def start(settings, report, *words, env=None):
    command = [sys.executable, "-m", "tffold.cli.check", settings, "--report", report, *words]
    return subprocess.Popen(
        [str(word) for word in command],
        env=os.environ | QUICK | (env or {}),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def finish(process, report) -> dict[str, dict]:
    """The report's lines by part and name; all passed but what hangs on this machine's speed."""
    output, _ = process.communicate(timeout=600)
    assert report.exists(), output
    tree = json.loads(report.read_text())
    lines = {f"{line['part']}: {line['name']}": line for line in tree["lines"]}
    failed = {name for name, line in lines.items() if line["status"] == FAIL}
    # Eight logical devices share this host's cores with the loader that is to feed them.
    assert failed <= {"input: feeds the device"}, (output, [lines[name] for name in failed])
    assert process.returncode == bool(failed) and tree["passed"] == (not failed)
    return lines


def test_all_parts_on_eight_devices(settings, tmp_path):
    report = tmp_path / "report.json"
    lines = finish(start(settings, report, "train.strategy=mirrored", "--cpu-devices", 8), report)
    assert {name.partition(":")[0] for name in lines} == set(PARTS)
    assert lines["strategy: cluster"]["values"]["replicas"] == 8
    assert lines["speed: step"]["values"]["replicas"] == 8
    assert 0 < lines["speed: matrix products"]["values"]["share"]
    assert lines["input: pipeline"]["values"]["examples_per_second"] > 0
    for name in ("numbers: training curve", "numbers: bfloat16 outputs", "input: checkpoint"):
        assert lines[name]["status"] == "pass"
    assert lines["forecast: the paper's schedule"]["values"]["initial training"] > 0


def test_two_processes_meet(settings, tmp_path):
    """All parts but those that know of no other process, which the test above runs."""
    ports = []
    for _ in range(2):
        with socket.socket() as probe:
            probe.bind(("localhost", 0))
            ports.append(probe.getsockname()[1])
    workers = {"worker": [f"localhost:{port}" for port in ports]}
    reports = [tmp_path / f"report{index}.json" for index in range(2)]
    checks = [
        start(
            settings,
            reports[index],
            "train.strategy=multi_worker",
            "--parts=machine,strategy,input,forecast",
            env={"TF_CONFIG": json.dumps(
                {"cluster": workers, "task": {"type": "worker", "index": index}}
            )},
        )
        for index in range(2)
    ]  # fmt: skip
    for number, (process, report) in enumerate(zip(checks, reports, strict=True)):
        lines = finish(process, report)
        values = lines["strategy: cluster"]["values"]
        assert (values["processes"], values["process"]) == (2, number)
        assert lines["strategy: replicas hold the same weights"]["status"] == "pass"
