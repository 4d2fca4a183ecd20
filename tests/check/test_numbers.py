"""The reference case: a wrong layer, a NaN, a wrong place, restless bits fail their line."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf

from tffold.check import numbers, reference
from tffold.check.numbers import FLOAT32
from tffold.check.reference import GRADIENTS, LOSSES, OUTPUTS
from tffold.check.report import FAIL, PASS
from tffold.model.triangle_multiplication import TriangleMultiplication
from tffold.train.strategy import Cluster

KINDS = ("outputs", "losses", "gradients")


@pytest.fixture(scope="module")
def stored():
    return reference.load()


def exact(stored):
    """Answers that would give what is stored."""
    answers = {k: v for k, v in stored.items() if k.startswith((OUTPUTS, LOSSES))}
    for name, value in stored.items():
        if name.startswith(GRADIENTS):
            key = name.removeprefix(GRADIENTS)
            size = 64
            signs = reference.direction(key, size)
            # A gradient of that length and that product: two numbers decide two directions.
            along = value[1] / size * signs
            other = np.zeros(size)
            other[:2] = signs[:2] * (1, -1)
            rest = max(value[0] ** 2 - along @ along, 0.0) ** 0.5
            answers[name] = along + rest / 2**0.5 * other
    return answers


def status(answers, stored):
    lines = numbers.compare("float32", answers, stored, FLOAT32)
    return {line.name.removeprefix("float32 "): line for line in lines}


def test_the_case_is_small_and_has_all_heads(stored):
    assert reference.FILE.stat().st_size < 1_000_000
    heads = {name for name in stored if name.startswith(OUTPUTS)}
    assert len(heads) == 9
    assert sum(name.startswith(GRADIENTS) for name in stored) > 200
    assert len(stored["curve"]) == reference.CURVE_STEPS


def test_right_answers_pass_and_each_kind_of_wrong_one_fails(stored):
    right = exact(stored)
    assert {line.status for line in status(right, stored).values()} == {PASS}
    wrong = {
        "outputs": (OUTPUTS + "distogram", lambda x: x * (1 + 1e-3)),
        "losses": (LOSSES + "structure_module/fape", lambda x: x + 1e-3),
        "gradients": (next(n for n in right if n.startswith(GRADIENTS)), lambda x: -x),
    }
    for kind, (name, change) in wrong.items():
        found = status(right | {name: change(right[name])}, stored)
        assert {k for k, line in found.items() if line.status == FAIL} == {kind}
        assert name.partition("/")[2] in found[kind].text
    name = OUTPUTS + "masked_msa"
    spoilt = right[name].copy()
    spoilt[0, 0] = np.nan
    assert status(right | {name: spoilt}, stored)["outputs"].status == FAIL
    missing = {k: v for k, v in right.items() if k != name}
    assert status(missing, stored)["outputs"].status == FAIL


@pytest.mark.slow
def test_a_wrong_layer_fails_from_where_it_is(stored, monkeypatch):
    right = TriangleMultiplication.call
    monkeypatch.setattr(TriangleMultiplication, "call", lambda *a, **k: 1.1 * right(*a, **k))
    cluster = Cluster(tf.distribute.get_strategy(), 0, 1)
    found = status(reference.Reference(cluster, stored, jit=False).answers(), stored)
    assert all(found[kind].status == FAIL for kind in KINDS)
    assert "triangle_multiplication" in " ".join(found["gradients"].values["wrong"])


def test_bits_that_change_are_named(stored, monkeypatch):
    first = {OUTPUTS + "pair": np.ones(3, np.float32), "other": np.zeros(2)}
    assert numbers.twice(first, dict(first)).status == PASS
    second = first | {OUTPUTS + "pair": np.nextafter(first[OUTPUTS + "pair"], 2)}
    monkeypatch.setattr(numbers, "restless_operations", lambda: ["gather's gradient"])
    line = numbers.twice(first, second)
    assert line.status == FAIL
    assert "1 of 2" in line.text and "output/pair" in line.text and "gather" in line.text


def test_restless_operations_are_found():
    assert numbers.restless_operations(2) == []


def test_work_that_was_moved_to_the_processor_fails(monkeypatch):
    result = tf.constant(1.0) + 1.0
    assert numbers.placement(result).status == PASS
    monkeypatch.setattr(numbers, "accelerator", lambda: "GPU")
    line = numbers.placement(result)
    assert line.status == FAIL and "CPU:0" in line.text and "GPU" in line.text
