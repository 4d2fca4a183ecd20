"""Part 6: days to the end of this configuration and of the paper's schedule, as measured.

Arithmetic alone; it runs where the lines are collected.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from tffold.check.report import Line, left_out, measured
from tffold.config import Config

PART = "forecast"
_DAY = 86_400.0


class Stage(NamedTuple):
    """A stage of the paper's training: samples, and matrix products' operations of each."""

    samples: float
    flops: float


# Operations as counted in the programs that ``tffold-fit --plan`` compiled (benchmarks/plans.json).
STAGES = {
    "initial training": Stage(10_000_000, 71.2e12),
    "fine-tuning": Stage(1_500_000, 375.3e12),
}


def forecast(config: Config, found: Mapping[str, Any]) -> Iterator[Line]:
    """From the numbers of the parts before, under ``part.name.value``."""
    step = found.get("speed.step.step_seconds")
    if not step:
        yield left_out(PART, "this configuration", "part 'speed' measured no step")
        return
    train = config.train
    samples = found["speed.step.samples_per_second"]
    processes = found.get("strategy.cluster.processes", 1)
    fed = found.get("input.pipeline.examples_per_second")
    limit = samples if fed is None else min(samples, fed * processes)
    saving = found.get("input.checkpoint.save_seconds", 0.0) / train.checkpoint_every
    seconds = train.steps * (train.batch_size / limit + saving)
    held = "" if limit == samples else ", held back by the input"
    crop = found.get("speed.largest crop.crop_size")
    held += f", at data.crop_size={crop}, which fits" if crop else ""
    yield measured(
        PART,
        "this configuration",
        f"{train.steps} steps of {train.batch_size} take {seconds / _DAY:.3g} days{held}; "
        "validation is not counted",
        days=seconds / _DAY,
    )
    work = found.get("speed.matrix products.flops")
    if not work:
        yield left_out(PART, "the paper's schedule", "the step's work was not counted")
        return
    # At the rate that this configuration reaches, replicas, input and all.
    rate = work * limit
    days = {name: stage.samples * stage.flops / rate / _DAY for name, stage in STAGES.items()}
    text = " and ".join(f"{value:.3g} days of {name}" for name, value in days.items())
    yield measured(
        PART,
        "the paper's schedule",
        f"{text}, if its steps reach the {rate / 1e12:.3g} TFLOP/s that this configuration does",
        **{name: value for name, value in days.items()},
    )
