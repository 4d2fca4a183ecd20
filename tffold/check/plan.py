"""The measured memory beside what ``tffold-fit --plan`` says (``tffold-check --plan TOPOLOGY``)."""

from __future__ import annotations

from collections.abc import Iterator

from records.errors import InputError
from tffold.check.child import Request
from tffold.check.report import FAIL, Line, measured
from tffold.plan.report import make_plan
from tffold.train.task import alphafold_task

PART = "plan"


def check(request: Request) -> Iterator[Line]:
    """Compiles the step for a TPU that need not be there; option ``topology``."""
    topology = request.options["topology"]
    try:
        plan = make_plan(request.config, alphafold_task(), topology)
    except InputError as error:
        yield Line(PART, "memory", FAIL, str(error))
        return
    text = f"{plan.total / 1e9:.2f} GB planned for a core of {topology}"
    peak = request.found.get("speed.memory.peak_bytes")
    if peak:
        text += f", {peak / 1e9:.2f} GB measured here ({peak / plan.total:.2f} of it)"
    yield measured(PART, "memory", text, planned_bytes=plan.total, fits=plan.fits)
