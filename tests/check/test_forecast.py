"""Days from what was measured."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tffold.check import forecast
from tffold.check.report import LEFT_OUT
from tffold.config import Config

PLANS = Path(__file__).parents[2] / "benchmarks" / "plans.json"


def days(**found):
    config = Config()
    config.train.steps, config.train.batch_size = 1000, 64
    config.train.checkpoint_every = 100
    lines = forecast.forecast(config, {key.replace("__", "."): v for key, v in found.items()})
    return {line.name: line for line in lines}


SPEED = {"speed.step.step_seconds": 4.0, "speed.step.samples_per_second": 16.0}


def test_steps_times_seconds():
    line = days(**SPEED)["this configuration"]
    assert line.values["days"] == pytest.approx(4000 / 86_400)


def test_a_slow_input_and_checkpoints_count():
    found = SPEED | {
        "input.pipeline.examples_per_second": 4.0,
        "strategy.cluster.processes": 2,
        "input.checkpoint.save_seconds": 50.0,
    }
    line = days(**found)["this configuration"]
    assert line.values["days"] == pytest.approx((8000 + 500) / 86_400)
    assert "held back by the input" in line.text


def test_the_papers_schedule_goes_by_the_work():
    lines = days(**SPEED, **{"speed.matrix products.flops": 71.2e12 / 2})
    found = lines["the paper's schedule"].values
    # Half of its work a sample, so half of its samples a second.
    assert found["initial training"] == pytest.approx(10e6 / 8.0 / 86_400)
    assert found["fine-tuning"] == pytest.approx(1.5e6 / 8.0 * 375.3 / 71.2 / 86_400)


def test_nothing_is_claimed_without_a_step():
    assert days()["this configuration"].status == LEFT_OUT
    assert days(**SPEED)["the paper's schedule"].status == LEFT_OUT


def test_the_work_is_that_of_the_plans():
    plans = json.loads(PLANS.read_text())
    for name, key in (("initial training", "initial_training"), ("fine-tuning", "finetuning")):
        assert forecast.STAGES[name].flops == pytest.approx(plans[key]["flops"], rel=2e-3)
