"""What is counted of a step; the step itself is measured in the whole check."""

from __future__ import annotations

import numpy as np
import pytest
from predicting import small_config

from tffold.check import plan, speed
from tffold.check.child import Request
from tffold.check.report import FAIL
from tffold.config import Config
from tffold.plan.lower import batch_specs
from tffold.plan.report import Plan


def test_a_made_batch_has_the_configurations_sizes_and_finite_numbers():
    config = small_config()
    config.data.crop_size = 40
    batch = speed.made_batch(config, 2)
    for name, spec in batch_specs(config, 2).items():
        assert batch[name].shape == tuple(spec.shape) and batch[name].dtype == spec.dtype, name
        assert np.isfinite(batch[name]).all(), name
    assert batch["seq_mask"].all() and batch["msa_feat"].any()


def line(found, **changes):
    config = Config()
    config.train.batch_size = 128
    known = {"seconds_an_example": 0.5, "update_seconds": 0.25, "compile_seconds": 9.0}
    request = Request(config, found=found)
    return speed.step_line(request, parameters=10**9, **known | changes)


def test_a_step_is_its_examples_its_update_and_the_sum():
    alone = line({}).values
    assert alone["step_seconds"] == pytest.approx(128 * 0.5 + 0.25)
    found = {
        "strategy.cluster.replicas": 8,
        "strategy.sum over replicas.bytes_per_second": 2e9,
    }
    eight = line(found).values
    assert eight["step_seconds"] == pytest.approx(16 * 0.5 + 0.25 + 2.0)
    assert eight["samples_per_second"] == pytest.approx(128 / 10.25)


def test_the_plan_stands_beside_the_measured_memory(monkeypatch):
    made = {"cores": 4, "arguments": 1, "outputs": 0, "in_place": 0, "temporaries": 10**9 - 1,
            "program": 0}  # fmt: skip
    monkeypatch.setattr(plan, "make_plan", lambda *a: Plan(made, 1, 1, 1.0, 1.0))
    request = Request(
        Config(), found={"speed.memory.peak_bytes": 2 * 10**9}, options={"topology": "v5e"}
    )
    (found,) = plan.check(request)
    assert "2.00 of it" in found.text and found.values["planned_bytes"] == 10**9
    monkeypatch.undo()
    (found,) = plan.check(Request(Config(), options={"topology": "abacus"}))
    assert found.status == FAIL and "abacus" in found.text
