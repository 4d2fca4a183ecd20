"""Part 2: what this device computes of the reference case, against the stored numbers."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import tensorflow as tf

from tffold.check import reference
from tffold.check.child import Request
from tffold.check.places import accelerator, one_each
from tffold.check.reference import CURVE, GRADIENTS, LOSSES, OUTPUTS, Reference
from tffold.check.report import FAIL, Line, judge, left_out

PART = "numbers"


@dataclass(frozen=True)
class Tolerance:
    """Largest error relative to the largest value: of an output, a loss, a module's gradient."""

    outputs: float
    losses: float
    gradients: float
    curve: float


# Measured on a processor, compiled by XLA against uncompiled: outputs 4e-7, losses 6e-7, gradients
# 3e-5, the curve 9e-6. A wrong layer changes outputs by a hundredth and more.
FLOAT32 = Tolerance(outputs=1e-4, losses=1e-4, gradients=2e-3, curve=1e-3)
# Each product rounded to a hundredth or a thousandth (bfloat16, as a TPU's default; TF32 keeps 10
# bits). Measured with bfloat16 on a processor: 1.3e-2, 3e-3 and, of one gradient, 0.53.
ROUNDED = Tolerance(outputs=0.1, losses=0.05, gradients=1.0, curve=0.1)
TINY = 1e-4  # gradients shorter than this part of the longest are rounding


def check(request: Request) -> Iterator[Line]:
    """float32 without and with TF32, bfloat16, the same bits twice, and the training curve."""
    stored = reference.load()
    jit = request.options.get("jit", True)
    cluster, _ = one_each(request.config)
    switch = tf.config.experimental
    before = switch.tensor_float_32_execution_enabled()
    try:
        switch.enable_tensor_float_32_execution(False)
        case = Reference(cluster, stored, jit=jit)
        answers = case.answers()
        yield placement(case.gradients(case.start)[1]["loss"])
        yield from compare("float32", answers, stored, FLOAT32)
        yield twice(answers, case.answers())
        yield curve(case, stored)
        if accelerator() is None:
            yield left_out(PART, "TF32", "the processor has none")
        else:
            switch.enable_tensor_float_32_execution(True)
            answers = Reference(cluster, stored, jit=jit).answers()
            yield from compare("TF32", answers, stored, ROUNDED)
        switch.enable_tensor_float_32_execution(False)
        answers = Reference(cluster, stored, bfloat16=True, jit=jit).answers()
        yield from compare("bfloat16", answers, stored, ROUNDED)
    finally:
        switch.enable_tensor_float_32_execution(before)


def placement(result: tf.Tensor) -> Line:
    """Whether the accelerator, where there is one, did the work."""
    where = result.device.rpartition("device:")[2] or "an unknown place"
    wanted = accelerator()
    good = wanted is None or where.startswith(wanted)
    text = f"computed on {where}" + ("" if good else f", but there is a {wanted}: moved silently")
    return judge(PART, "placement", good, text, device=where)


def error_of(value: np.ndarray, expected: np.ndarray) -> float:
    """The largest difference relative to the largest value; infinite where one is not finite."""
    if value.shape != expected.shape or not np.isfinite(value).all():
        return float("inf")
    scale = max(float(np.abs(expected).max(initial=0.0)), 1e-6)
    return float(np.abs(value.astype(np.float64) - expected).max(initial=0.0)) / scale


def compare(
    precision: str,
    answers: dict[str, np.ndarray],
    stored: dict[str, np.ndarray],
    allowed: Tolerance,
) -> Iterator[Line]:
    """Outputs, losses and gradients against stored ones; each line names the worst."""
    for kind, prefix, bound in (
        ("outputs", OUTPUTS, allowed.outputs),
        ("losses", LOSSES, allowed.losses),
    ):
        errors = {
            name.removeprefix(prefix): error_of(answers[name], value)
            if name in answers
            else float("inf")
            for name, value in stored.items()
            if name.startswith(prefix)
        }
        yield _line(f"{precision} {kind}", errors, bound)
    longest = max(value[0] for name, value in stored.items() if name.startswith(GRADIENTS))
    errors = {}
    for name, value in stored.items():
        if name.startswith(GRADIENTS):
            key = name.removeprefix(GRADIENTS)
            found = answers.get(name)
            if found is None or not np.isfinite(found).all():
                errors[key] = float("inf")
                continue
            difference = np.abs(reference.summary(key, found) - value).max()
            errors[key] = float(difference / max(value[0], TINY * longest))
    yield _line(f"{precision} gradients", errors, allowed.gradients)


def _line(name: str, errors: dict[str, float], bound: float) -> Line:
    """The worst of them all; where some are wrong, the first ones, in the network's order."""
    wrong = [key for key, error in errors.items() if not error <= bound]
    worst = max(errors, key=lambda key: errors[key])
    text = f"error {errors[worst]:.1e} ({worst}), {bound:.0e} is allowed"
    if wrong:
        more = f" and {len(wrong) - 1} more" if len(wrong) > 1 else ""
        text = f"wrong from {wrong[0]} on (error {errors[wrong[0]]:.1e}){more}; worst: {text}"
    return judge(PART, name, not wrong, text, worst=errors[worst], wrong=wrong)


def twice(first: dict[str, np.ndarray], second: dict[str, np.ndarray]) -> Line:
    """Whether the same step gives the same bits."""
    different = [name for name in first if first[name].tobytes() != second[name].tobytes()]
    if not different:
        return judge(PART, "same bits twice", True, f"all {len(first)} arrays of a step")
    guilty = restless_operations()
    why = f"not the same twice: {', '.join(guilty)}" if guilty else "no single operation was found"
    text = (
        f"{len(different)} of {len(first)} arrays differ, the first is {different[0]}; {why}; "
        "TF_DETERMINISTIC_OPS=1 and XLA_FLAGS=--xla_gpu_deterministic_ops=true may help"
    )
    return Line(PART, "same bits twice", FAIL, text, {"different": different, "operations": guilty})


def restless_operations(repeats: int = 5) -> list[str]:
    """Which of the operations that may sum in any order do so here."""
    random = np.random.default_rng(0)
    x = tf.constant(random.standard_normal((512, 512)), tf.float32)
    rows = tf.constant(random.integers(0, 16, 512), tf.int32)

    def gradient_of_gather(x: tf.Tensor) -> Any:
        with tf.GradientTape() as tape:
            tape.watch(x)
            y = tf.reduce_sum(tf.gather(x, rows) * x)
        return tape.gradient(y, x)

    operations = {
        "matrix product": lambda x: x @ x,
        "batched product": lambda x: tf.einsum("abc,adc->abd", *2 * [tf.reshape(x, [8, 64, 512])]),
        "sum": tf.reduce_sum,
        "softmax": tf.nn.softmax,
        "gather's gradient": gradient_of_gather,
        "segment sum": lambda x: tf.math.unsorted_segment_sum(x, rows, 16),
    }
    guilty = []
    for name, operation in operations.items():
        run = tf.function(operation, autograph=False, jit_compile=True)
        found = {tf.convert_to_tensor(run(x)).numpy().tobytes() for _ in range(repeats)}
        if len(found) > 1:
            guilty.append(name)
    return guilty


def curve(case: Reference, stored: dict[str, np.ndarray]) -> Line:
    """The first training steps: gradient, clipping, Adam."""
    losses = np.array(list(case.curve(len(stored[CURVE]))))
    error = float(np.abs(losses / stored[CURVE] - 1.0).max())
    good = error <= FLOAT32.curve
    text = f"{len(losses)} steps, loss {losses[0]:.4g} to {losses[-1]:.4g}, error {error:.1e}"
    return judge(PART, "training curve", good, text, losses=losses.tolist(), error=error)
