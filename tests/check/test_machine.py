"""What is installed, which devices are there, and what they compute."""

from __future__ import annotations

import pytest
import tensorflow as tf

from tffold.check import machine
from tffold.check.report import FAIL, MEASURED, PASS


def by_name(lines):
    return {line.name: line for line in lines}


def installed(**versions):
    names = {name.replace("_", "-"): version for name, version in versions.items()}
    return by_name(machine.installed(names, machine.wanted_versions()))


def test_this_environment_is_right():
    lines = list(machine.installed(machine.versions_installed(), machine.wanted_versions()))
    assert [line.status for line in lines] == [PASS]


def test_no_tensorflow():
    assert "tffold[cpu]" in installed(libtpu="0.0.20")["tensorflow"].text


def test_two_builds_at_once():
    line = installed(tensorflow="2.20.0", tensorflow_tpu="2.20.0")["tensorflow"]
    assert line.status == FAIL
    assert "pip uninstall -y tensorflow tensorflow-tpu" in line.text


@pytest.mark.parametrize("name", ["tensorflow", "tensorflow_cpu"])
def test_a_version_that_is_not_wanted(name):
    assert installed(**{name: "2.21.0"})["tensorflow"].status == PASS
    assert installed(**{name: "2.15.0"})["tensorflow"].status == FAIL


def test_a_libtpu_that_aborts():
    good = installed(tensorflow_tpu="2.20.0", libtpu="0.0.30")["libtpu"]
    bad = installed(tensorflow_tpu="2.20.0", libtpu="0.0.52")["libtpu"]
    assert (good.status, bad.status) == (PASS, FAIL)
    assert "aborts" in bad.text and "pip install 'libtpu" in bad.text
    assert installed(tensorflow_tpu="2.20.0")["libtpu"].status == FAIL
    assert "libtpu" not in installed(tensorflow_cpu="2.21.0", libtpu="0.0.52")


def accelerators(devices=(), gpus=(), tpus=()):
    return by_name(machine.accelerator_lines(list(devices), list(gpus), list(tpus)))


GPU = {"name": "Some GPU", "driver_version": "550", "memory.total": "80000 MiB"}


def test_accelerators_that_tensorflow_does_not_see(monkeypatch):
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    assert "tffold[gpu]" in accelerators(gpus=[GPU])["accelerators"].text
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "-1")
    line = accelerators(gpus=[GPU])["accelerators"]
    assert line.status == FAIL and "CUDA_VISIBLE_DEVICES=-1" in line.text
    line = accelerators(tpus=["/dev/accel0"])["accelerators"]
    assert line.status == FAIL and "tffold[tpu]" in line.text
    assert accelerators()["accelerators"].status == MEASURED


def test_a_busy_gpu(monkeypatch):
    monkeypatch.setattr(
        tf.config.experimental, "get_device_details", lambda device: {"device_name": "Some GPU"}
    )
    device = tf.config.PhysicalDevice("/physical_device:GPU:0", "GPU")
    for used, busy in (("500 MiB", False), ("60000 MiB", True)):
        lines = accelerators([device], [GPU | {"memory.used": used}])
        assert lines["accelerators"].status == PASS
        assert ("gpu 0 is free" in lines) == busy
    assert lines["gpu 0 is free"].status == FAIL and "nvidia-smi" in lines["gpu 0 is free"].text


@pytest.mark.parametrize(
    ("flags", "status"),
    [
        ("", PASS),
        ("--xla_cpu_enable_fast_math=true", FAIL),
        ("--xla_cpu_enable_fast_math=false", PASS),
        ("--xla_gpu_enable_fast_min_max --xla_other=1", FAIL),
    ],
)
def test_fast_math(flags, status):
    lines = by_name(machine.flag_lines({"XLA_FLAGS": flags}))
    assert lines["fast math"].status == status


def test_a_device_computes_and_wrong_ones_are_found(monkeypatch):
    assert machine.device_line("/device:CPU:0").status == PASS
    # No such device: TensorFlow moves the work to the processor and says nothing, or refuses.
    assert machine.device_line("/device:GPU:0").status == FAIL

    def blind(x):
        return tf.ones_like(x, tf.bool)

    monkeypatch.setattr(tf.math, "is_finite", blind)
    assert machine.device_line("/device:CPU:0").status == FAIL
