"""What this very configuration would take on a TPU.

``tffold-fit CONFIG --plan v5e:2x2`` plans a training step, ``tffold-predict CONFIG --plan v5e`` a
pass of prediction (``plan_prediction``).
"""

from __future__ import annotations

import copy
import importlib.util
import json
import logging
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tensorflow as tf

from records.errors import InputError
from tffold.config import Config
from tffold.data.pipeline import padded_size
from tffold.plan.hlo import Program
from tffold.plan.lower import Lowered, lower_pass, lower_step
from tffold.train.task import Task

GIB = 2**30
SLICE_MIB = 16  # what the plan tries where a configuration does not fit
_LOG = logging.getLogger(__name__)


@dataclass(frozen=True)
class Chip:
    """A core's published figures: memory, bfloat16 operations a second, bytes a second.

    ``links``: bytes a second that a whole chip sends to other chips.
    """

    topology: str  # the smallest
    memory: float
    flops: float
    bandwidth: float
    links: float

    def sum_seconds(self, num_bytes: float, num_cores: int) -> float:
        """Time at the links' peak to sum an array of every core over all cores.

        A sum in a ring, or over a torus with all its links, sends all but one core's share of
        the array twice: once to add, once to tell. The cores of one chip add theirs before.
        Within a pod; nothing for the latency.
        """
        return 2.0 * num_bytes * (num_cores - 1) / num_cores / self.links


# Of one core; v4 and v5p have two on a chip, v5e and v6e one.
CHIPS = {
    "v4": Chip("v4:2x2x1", 16 * GIB, 275e12 / 2, 1228e9 / 2, 2400e9 / 8),
    "v5e": Chip("v5e:2x2", 16 * GIB, 197e12, 819e9, 1600e9 / 8),
    "v5p": Chip("v5p:2x2x1", 95 * GIB / 2, 459e12 / 2, 2765e9 / 2, 4800e9 / 8),
    "v6e": Chip("v6e:2x2", 32 * GIB, 918e12, 1640e9, 3584e9 / 8),
}


@dataclass(frozen=True)
class Plan:
    """What one configuration takes on one core; bytes and floating-point operations a step."""

    compiled: dict[str, Any]
    num_parameters: int
    local_batch: int
    flops: float
    moved: float

    @property
    def cores(self) -> int:
        return self.compiled["cores"]

    @property
    def fits(self) -> bool:
        return "needed" not in self.compiled

    @property
    def total(self) -> int:
        """Bytes of a core's memory that the program needs."""
        c = self.compiled
        if not self.fits:
            return c["needed"]
        return c["arguments"] + c["outputs"] - c["in_place"] + c["temporaries"] + c["program"]

    def seconds(self, chip: Chip) -> float:
        """A step's time at the published peaks: a lower bound."""
        return max(self.flops / chip.flops, self.moved / chip.bandwidth)


def chip_of(topology: str) -> tuple[Chip, str]:
    """The chip of ``v5e`` or ``v5e:4x4``, and the full name.

    Raises:
      InputError: unknown chip.
    """
    name = topology.partition(":")[0]
    if name not in CHIPS:
        raise InputError(f"--plan {topology}: unknown chip", mend=f"one of {', '.join(CHIPS)}")
    return CHIPS[name], topology if ":" in topology else CHIPS[name].topology


def make_plan(config: Config, task: Task, topology: str) -> Plan:
    """Lowers the step, compiles it for the TPU and counts.

    Raises:
      InputError: the extra ``[plan]`` is missing, or libtpu refuses.
    """
    _, topology = chip_of(topology)
    local_batch = max(1, config.train.batch_size // _cores(topology))
    mean_recycles = config.model.num_recycle / 2
    return _compiled(
        lambda: lower_step(config, task, local_batch), topology, local_batch, mean_recycles
    )


def make_pass_plan(config: Config, num_res: int, topology: str) -> Plan:
    """The plan of one pass of prediction for chains padded to ``num_res`` residues.

    Every pass is a run of this program, and nothing of the pass before is kept beside it but what
    it takes over, so further passes take more time and no more memory.

    Raises:
      InputError: the extra ``[plan]`` is missing, or libtpu refuses.
    """
    _, topology = chip_of(topology)
    return _compiled(lambda: lower_pass(config, num_res), topology, 1, 1.0)


def compile_apart(program: bytes, topology: str, num_in_place: int) -> tuple[dict[str, Any], str]:
    """What ``tpu.compile_program`` makes of a program, in a process of its own.

    Raises:
      InputError: libtpu refuses.
    """
    with tempfile.TemporaryDirectory() as folder:
        source, result, text = (Path(folder) / n for n in ("program", "result", "text"))
        source.write_bytes(program)
        arguments = (source, topology, num_in_place, result, text)
        command = [sys.executable, "-m", "tffold.plan.tpu", *map(str, arguments)]
        run = subprocess.run(command, capture_output=True, text=True, check=False)
        if run.returncode:
            reason = (run.stderr.strip().splitlines() or ["no message"])[-1]
            raise InputError(f"--plan {topology}: libtpu refused: {reason}")
        return json.loads(result.read_text()), text.read_text()


def _compiled(
    lower: Callable[[], Lowered], topology: str, local_batch: int, open_trips: float
) -> Plan:
    """Lowers, lets libtpu compile and counts; ``open_trips``: see ``Program``."""
    for module in ("jax", "libtpu"):
        if importlib.util.find_spec(module) is None:
            raise InputError(f"--plan needs {module}", mend="pip install 'tffold[plan]'")
    lowered = lower()
    compiled, optimized = compile_apart(lowered.program, topology, lowered.num_state)
    # Before optimisation the program has work in it whose results nobody needs.
    cost = Program(optimized or lowered.text, open_trips).cost()
    return Plan(
        compiled=compiled,
        num_parameters=lowered.num_parameters,
        local_batch=local_batch,
        flops=cost.flops,
        moved=cost.bytes if optimized else 0.0,
    )


def _cores(topology: str) -> int:
    """Cores of ``v4:2x2x1``: two on a v4 or v5p chip."""
    name, _, shape = topology.partition(":")
    count = 2 if name in ("v4", "v5p") else 1
    try:
        for size in shape.split("x"):
            count *= int(size)
    except ValueError:
        raise InputError(
            f"--plan {topology}: no such topology", mend=f"for example {CHIPS[name].topology}"
        ) from None
    return count


def knobs(config: Config) -> Iterator[tuple[str, Config]]:
    """The settings that save memory and are not on yet, one by one and then all together."""

    def change(target: Config, name: str, value: object) -> None:
        section, key = name.split(".")
        setattr(getattr(target, section), key, value)

    model, data = config.model, config.data
    less = {"none": "all", "cheap": "all", "all": "nested"}
    changes = [("model.remat", less[model.remat])] if model.remat in less else []
    changes += [("model.bfloat16", True)] if not model.bfloat16 else []
    if not model.slice_mib or model.slice_mib > SLICE_MIB:
        changes.append(("model.slice_mib", SLICE_MIB))
    changes += [
        ("data.crop_size", data.crop_size // 2),
        ("data.max_extra_msa", data.max_extra_msa // 2),
    ]
    together = copy.deepcopy(config)
    for name, value in changes:
        one = copy.deepcopy(config)
        change(one, name, value)
        change(together, name, value)
        yield f"{name}={value}", one
    yield "all of these", together


def lines(plan: Plan, chip: Chip, topology: str) -> Iterator[str]:
    """A plan for people."""
    c = plan.compiled
    yield f"{topology}: {plan.cores} cores of {c['kind']}"
    yield f"examples      {plan.local_batch} a core and step, one after the other"
    yield f"parameters    {plan.num_parameters:,}"
    if plan.fits:
        yield f"temporaries   {_gb(c['temporaries'])}"
        yield f"arguments     {_gb(c['arguments'])} (weights, moments, average, batch)"
        share = plan.total / chip.memory
        yield f"total         {_gb(plan.total)} of {_gb(chip.memory)} a core ({share:.0%}): it fits"
    else:
        yield f"total         {_gb(plan.total)} of {_gb(c['usable'])} a core: it does NOT fit"
    yield f"work a step   {plan.flops / 1e12:.1f} TFLOP a core"
    if plan.moved:
        yield f"memory moved  {plan.moved / 1e12:.2f} TB a core and step"
        seconds = plan.seconds(chip)
        yield f"a step takes  {seconds:.2f} s at the chip's published peaks; a real one, longer"
    seconds = chip.sum_seconds(4.0 * plan.num_parameters, plan.cores)
    yield f"sum           {1e3 * seconds:.1f} ms over {plan.cores} cores, half of that in bfloat16"
    if plan.fits:
        yield f"compile time  {c['compile_seconds']:.0f} s here"


def run(config: Config, task: Task, topology: str) -> bool:
    """Plans, and logs it; where it does not fit, what each knob would bring. Whether it fits."""
    chip, topology = chip_of(topology)
    _LOG.info("compiling the training step for %s; this takes minutes", topology)
    plan = make_plan(config, task, topology)
    for line in lines(plan, chip, topology):
        _LOG.info(line)
    if not plan.fits:
        _LOG.info("what would bring how much:")
        for name, changed in knobs(config):
            other = make_plan(changed, task, topology)
            verdict = "fits" if other.fits else "does not fit"
            part = f"{_gb(other.total)} ({other.total / plan.total:.0%})"
            _LOG.info("  %-28s %s, %s", name, part, verdict)
    return plan.fits


def plan_prediction(config: Config, topology: str, lengths: Sequence[int] = ()) -> bool:
    """Plans prediction of chains of these lengths, and logs it; whether all fit.

    Without lengths it looks for the largest of ``data.size_buckets`` (up to
    ``predict.max_length``) that fits, trying few of them.
    """

    def padded(length: int) -> int:
        return int(padded_size(tf.constant(length), config.data.size_buckets))

    if lengths:
        return all([_log_pass(config, n, topology) for n in sorted(set(map(padded, lengths)))])
    longest = padded(config.predict.max_length) if config.predict.max_length else float("inf")
    sizes = [n for n in sorted(config.data.size_buckets) if n <= longest]
    low, high = 0, len(sizes)  # the first `low` fit, those from `high` on do not
    while low < high:
        middle = (low + high) // 2
        if _log_pass(config, sizes[middle], topology):
            low = middle + 1
        else:
            high = middle
    found = f"the longest that fits is {sizes[low - 1]}" if low else "none fits"
    _LOG.info("of the sizes that chains are padded to (data.size_buckets) %s", found)
    return low > 0


def _log_pass(config: Config, num_res: int, topology: str) -> bool:
    """Plans one size, logs it in a line; whether it fits."""
    chip, topology = chip_of(topology)
    plan = make_pass_plan(config, num_res, topology)
    if not plan.fits:
        needed = f"{_gb(plan.total)} of {_gb(plan.compiled['usable'])}"
        _LOG.info("%s: %d residues: %s a core: it does NOT fit", topology, num_res, needed)
        return False
    count = config.model.num_recycle + 1
    work = f"{plan.flops / 1e12:.1f} TFLOP"
    if plan.moved:
        work += f" and {plan.moved / 1e12:.2f} TB moved"
    _LOG.info(
        "%s: %d residues: %s of %s a core: it fits; a pass %s; %d passes take %.1f s at the chip's "
        "published peaks; real ones, longer",
        topology, num_res, _gb(plan.total), _gb(chip.memory), work, count,
        count * plan.seconds(chip),
    )  # fmt: skip
    return True


def _gb(number: float) -> str:
    return f"{number / 1e9:.2f} GB"
