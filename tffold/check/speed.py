"""Part 4: the configuration's own step on this device: seconds, memory, share of the peaks.

One device and one example at a time, which is what a replica does; what several replicas and a
larger batch make of it is arithmetic with the measured sum over replicas.
"""

from __future__ import annotations

import resource
import statistics
import time
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import tensorflow as tf

from tffold.check import reference
from tffold.check.child import Request
from tffold.check.places import accelerator, one_each
from tffold.check.rates import bandwidth, matrix_rate
from tffold.check.report import Line, judge, left_out, measured
from tffold.check.search import PART
from tffold.config import Config
from tffold.plan.hlo import Program
from tffold.plan.lower import batch_specs
from tffold.train.run import build_trainer
from tffold.train.step import NUM_RECYCLE
from tffold.train.task import alphafold_task

STEPS = 3


def made_batch(config: Config, size: int) -> dict[str, np.ndarray]:
    """A batch of the configuration's sizes [B, C, ...]: the reference case again and again.

    Its numbers mean nothing; they are finite, and of each feature's own range.
    """
    known = {
        name.removeprefix(reference.BATCH): value
        for name, value in reference.load().items()
        if name.startswith(reference.BATCH)
    }
    batch = {}
    for name, spec in batch_specs(config, size).items():
        value = known.get(name, np.zeros((1,) * (len(spec.shape) - 1), spec.dtype.as_numpy_dtype))
        value = value[None]
        for axis, length in enumerate(spec.shape):
            value = value.take(np.arange(length), axis, mode="wrap")
        batch[name] = value.astype(spec.dtype.as_numpy_dtype)
    return batch


def check(request: Request) -> Iterator[Line]:
    """The step, its memory, and its share of what the device can do.

    Options: ``examples`` of a replica at a time (1); ``brief``: the step alone; ``traffic``:
    compile once more, to count the memory moved.
    """
    options = request.options
    examples = options.get("examples", 1)
    cluster, config = one_each(request.config)
    config.train.batch_size *= examples
    trainer = build_trainer(config, alphafold_task(), cluster)
    whole = made_batch(config, examples)
    most = config.model.num_recycle

    def batch_of(recycles: int) -> Any:
        whole[NUM_RECYCLE][:] = recycles
        one = {name: tf.constant(value) for name, value in whole.items()}
        return cluster.to_replicas([one] * cluster.local_replicas)

    batches = [batch_of(recycles) for recycles in sorted({0, most})]
    start = time.perf_counter()
    loss = trainer.measure(batches[0], 0)["loss"]
    first = time.perf_counter() - start
    gradient = [timed(lambda b=batch: trainer.measure(b, 0)) for batch in batches]
    trainer.run_step(batches[0])
    update = max(timed(lambda: trainer.run_step(batches[0])) - gradient[0], 0.0)
    yield step_line(
        request,
        seconds_an_example=statistics.mean(gradient) / examples,
        update_seconds=update,
        compile_seconds=max(first - gradient[0], 0.0),
        parameters=sum(int(np.prod(v.shape)) for v in trainer.network.trainable_variables),
    )
    peak = peak_memory()
    yield measured(PART, "memory", f"{peak / 1e9:.2f} GB at most", peak_bytes=peak)
    yield judge(PART, "loss is finite", bool(np.isfinite(loss)), f"{loss:.4g}", loss=loss)
    if options.get("brief"):
        return
    seconds = statistics.mean(gradient)
    yield from shares(
        config,
        seconds,
        lambda stage: trainer.gradient_program(whole, stage),
        most / 2,
        options.get("traffic", False),
    )


def timed(call: Callable[[], Any]) -> float:
    """The median seconds of some calls."""
    times = []
    for _ in range(STEPS):
        start = time.perf_counter()
        call()
        times.append(time.perf_counter() - start)
    return statistics.median(times)


def step_line(
    request: Request,
    *,
    seconds_an_example: float,
    update_seconds: float,
    compile_seconds: float,
    parameters: int,
) -> Line:
    """Samples a second of the whole configuration, from one replica's example and the sum."""
    found, train = request.found, request.config.train
    replicas = found.get("strategy.cluster.replicas", 1)
    local = train.batch_size // replicas
    rate = found.get("strategy.sum over replicas.bytes_per_second")
    reduce = 4.0 * parameters / rate if replicas > 1 and rate else 0.0
    step = local * seconds_an_example + update_seconds + reduce
    samples = local * replicas / step
    text = (
        f"{seconds_an_example:.3g} s an example (mean over recycles), {update_seconds:.3g} s an "
        f"update, {reduce:.3g} s a sum over {replicas} replicas: {samples:.3g} samples a second, "
        f"{step:.3g} s a step of {local * replicas}; {compile_seconds:.0f} s to compile"
    )
    return measured(
        PART, "step", text, samples_per_second=samples, step_seconds=step,
        seconds_an_example=seconds_an_example, update_seconds=update_seconds,
        reduce_seconds=reduce, compile_seconds=compile_seconds, parameters=parameters,
        replicas=replicas,
    )  # fmt: skip


def shares(
    config: Config,
    seconds: float,
    program: Callable[[str], str],
    mean_recycles: float,
    traffic: bool,
) -> Iterator[Line]:
    """Work and memory traffic of the gradient against the device's measured peaks."""
    dtype = "bfloat16" if config.model.bfloat16 else "float32"
    flops, peak = Program(program("hlo"), mean_recycles).cost().flops, matrix_rate(dtype)
    share = flops / seconds / peak
    yield measured(
        PART,
        "matrix products",
        f"{flops / 1e12:.3g} TFLOP a step of one example at {flops / seconds / 1e12:.3g} TFLOP/s: "
        f"{share:.0%} of a large {dtype} product here",
        flops=flops, peak=peak, share=share,
    )  # fmt: skip
    width = bandwidth()
    if not traffic:
        yield measured(
            PART, "memory bandwidth",
            f"{width / 1e9:.3g} GB/s here; --traffic counts what the step moves", peak=width,
        )  # fmt: skip
        return
    moved = Program(program("optimized_hlo"), mean_recycles).cost().bytes
    if not moved:
        yield left_out(PART, "memory bandwidth", "this device does not show its program")
        return
    share = moved / seconds / width
    yield measured(
        PART,
        "memory bandwidth",
        f"{moved / 1e9:.3g} GB moved a step, {share:.0%} of the {width / 1e9:.3g} GB/s here",
        bytes=moved, peak=width, share=share,
    )  # fmt: skip


def peak_memory() -> int:
    """Bytes at most: of the accelerator, or of this process."""
    kind = accelerator()
    if kind is None:
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    (device, *_) = tf.config.list_logical_devices(kind)
    return tf.config.experimental.get_memory_info(device.name)["peak"]
