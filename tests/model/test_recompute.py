"""The loop whose gradient recomputes: by hand, and what it saves."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

from tffold.model.block_stack import BlockStack
from tffold.model.module import Module
from tffold.model.primitives import Linear
from tffold.model.recompute import keep, recomputing_loop, returned
from tffold.model.slicing import sliced


def test_a_loop_by_hand():
    """x -> w_i x + s, three times, with outputs x_i squared: all gradients by hand."""
    w, s, x = tf.constant([2.0, 3.0, 5.0]), tf.constant(1.0), tf.constant(1.0)

    def body(i, state, stacked, shared):
        (value,), (weight,), (offset,) = state, stacked, shared
        return (weight * value + offset,), (tf.square(value)[None],)

    with tf.GradientTape() as tape:
        tape.watch([w, s, x])
        (last,), (squares,) = recomputing_loop(
            body, 3, (x,), (w,), (s,), output_specs=(((1,), "float32"),)
        )
        total = last + tf.reduce_sum(squares)
    # x0 = 1, x1 = 3, x2 = 10, x3 = 51
    np.testing.assert_allclose(squares[:, 0], [1.0, 9.0, 100.0])
    assert float(last) == 51.0
    dw, ds, dx = tape.gradient(total, [w, s, x])
    # d/dx3 = 1; d/dx2 = 5 + 2 x2 = 25; d/dx1 = 25 * 3 + 2 x1 = 81; d/dx0 = 81 * 2 + 2 x0 = 164
    np.testing.assert_allclose(dw, [81.0 * 1.0, 25.0 * 3.0, 1.0 * 10.0])
    assert float(ds) == 81.0 + 25.0 + 1.0
    assert float(dx) == 164.0


@pytest.mark.parametrize("num_kept", [0, 1])
def test_what_is_known_is_not_made_again(num_kept):
    """In the backward pass ``returned`` and ``keep`` hold what the forward pass stored.

    x -> 2 x + 3, through 2 x, which is kept; run again, the body makes other values by mistake,
    and only those that are stored come out right: gradients are by the stored ones.
    """
    runs, seen = [], []

    def body(i, state, stacked, shared):
        (x,), (w,) = state, stacked
        fault = 100.0 * len(runs)
        runs.append(i)
        doubled = keep(w * x + fault)
        following = returned(doubled + 3.0 + fault, 0)
        seen.append((doubled, following))
        return (following,), (tf.square(doubled)[None], tf.square(following)[None])

    w, x = tf.constant([2.0]), tf.constant(1.0)
    with tf.GradientTape() as tape:
        tape.watch([w, x])
        _, squares = recomputing_loop(
            body, 1, (x,), (w,), output_specs=2 * (((1,), "float32"),),
            kept_specs=num_kept * (((), "float32"),),
        )  # fmt: skip
        total = tf.reduce_sum(squares)
    dx = tape.gradient(total, x)
    assert float(total) == 2.0**2 + 5.0**2
    doubled, following = (float(value) for value in seen[1])
    assert doubled == (2.0 if num_kept else 102.0)
    assert following == 5.0
    assert float(dx) == 2 * 2.0 * doubled + 2 * 2.0 * following


MEMORY = """
import sys
import tensorflow as tf
from tffold.config import AttentionConfig, StackConfig
from tffold.model.block_stack import BlockStack
from tffold.model.evoformer import EvoformerBlock
from tffold.model.module import Options
attention = AttentionConfig(4, 16)
config = StackConfig(msa_row_attention=attention, msa_column_attention=attention,
    outer_product_channel=4, triangle_multiplication_channel=16, triangle_attention=attention)
block = EvoformerBlock(config, 16, 16, False, "block")
options = Options(remat=sys.argv[1])
stack = BlockStack(block, int(sys.argv[2]), "stack", options)
stack.build()
masks = (tf.ones([8, 64]), tf.ones([64, 64]))
@tf.function(autograph=False, jit_compile=True)
def gradient(msa, pair):
    with tf.GradientTape() as tape:
        tape.watch(pair)
        _, out = stack((msa, pair), masks)
        loss = tf.reduce_sum(tf.square(out))
    return tape.gradient(loss, pair)
gradient(tf.ones([8, 64, 16]), tf.ones([64, 64, 16]))
"""


def buffer_bytes(folder: Path, mode: str, num_block: int) -> int:
    """What XLA's buffer assignment of a stack's gradient program comes to."""
    environment = dict(os.environ, XLA_FLAGS=f"--xla_dump_to={folder} --xla_dump_hlo_as_text")
    script = [sys.executable, "-c", MEMORY, mode, str(num_block)]
    root = Path(__file__).parents[2]
    subprocess.run(script, env=environment, cwd=root, check=True, capture_output=True)
    reports = [p.read_text() for p in folder.glob("*buffer-assignment.txt")]
    sizes = [int(n) for text in reports for n in re.findall(r"Total bytes used: (\d+)", text)]
    return max(sizes)


@pytest.mark.slow
def test_recomputation_saves_memory(tmp_path):
    """A looped block more costs its input; an unrolled one all that its gradient needs."""
    used = {
        (mode, n): buffer_bytes(tmp_path / f"{mode}{n}", mode, n)
        for mode, n in (("all", 2), ("all", 6), ("none", 2), ("cheap", 6))
    }
    inputs = 4 * (8 * 64 * 16 + 64 * 64 * 16)  # bytes of one MSA and one pair activation
    each = (used["all", 6] - used["all", 2]) / 4
    assert inputs <= each < 1.5 * inputs
    kept = 6 * 4 * (2 * 8 * 64 * 16 + 64 * 64 * 16)  # the MSA twice, the pair once
    assert 0.5 * kept < used["cheap", 6] - used["all", 6] < 1.5 * kept
    assert used["none", 2] > used["all", 6]


class LeavesAWeightOut(Module):
    """Doubles its rows with a weight, and adds another module's, which it does not name."""

    def __init__(self):
        super().__init__("leaves_out")
        self.own, self.other = Linear(3, 3, "own"), Linear(3, 3, "other")

    def call(self, x):
        def rows(x):
            return self.own(x) + self.other(x)

        return sliced((self.own,), rows, (x,), row_size=2**20, slice_mib=1)


def test_a_weight_that_a_loop_was_not_handed_raises():
    layer = LeavesAWeightOut()
    layer.build()
    with pytest.raises(ValueError, match="other/weights.*would get no gradient"):
        layer(tf.ones([8, 3]))


class SharesAWeight(Module):
    """A block that reads a weight of a module outside the stack."""

    def __init__(self, outside):
        super().__init__("block")
        self.linear, self.outside = Linear(3, 3, "linear"), [lambda: outside]

    def call(self, state, constants, key=None):
        (x,) = state
        return (self.linear(x) + self.outside[0]()(x),)


def test_a_block_that_reads_what_is_not_its_own_raises():
    outside = Linear(3, 3, "outside")
    outside.build()
    stack = BlockStack(SharesAWeight(outside), 2, "stack")
    stack.build()
    with pytest.raises(ValueError, match="outside/weights.*would get no gradient"):
        stack((tf.ones([8, 3]),), ())
