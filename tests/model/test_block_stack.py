"""A stack of blocks, looped with recomputation and unrolled."""

from __future__ import annotations

import numpy as np
import paper
import pytest
import tensorflow as tf
from layers import LayerTests, close, mask, numbers
from tiny import tiny_config

from tffold.config import REMAT
from tffold.model.block_stack import BlockStack
from tffold.model.evoformer import EvoformerBlock
from tffold.model.module import Options
from tffold.model.templates import TemplatePairBlock


class TestLoopedStack(LayerTests):
    layer_class = BlockStack
    remat = "all"
    sizes = {"t": 1, "i": 5, "j": 5, "c": 8}
    inputs = {"pair": numbers("t i j c"), "mask": mask("i j")}
    outputs = "t i j c"
    padded = "i j"
    slice_bytes = 300
    bfloat16 = 0.02

    key = None

    def make(self, slice_mib=0):
        config = tiny_config(dropout=0.3).template  # on where a key is given
        block = TemplatePairBlock(config, options=Options(slice_mib=slice_mib))
        return BlockStack(block, 3, "stack", Options(remat=self.remat))

    def call(self, layer, pair, mask):
        (pair,) = layer((pair,), (mask,), self.key)
        return pair

    def reference(self, w, pair, mask):
        for block in paper.blocks(w["__layer_stack_no_state"]):
            pair = paper.template_pair_block(block, pair, mask)
        return pair


class TestNestedStack(TestLoopedStack):
    """Three blocks are three groups of one; the last test has two of two."""

    remat = "nested"


class TestUnrolledStack(TestLoopedStack):
    remat = "none"

    def test_dropout_recurs_in_the_loop(self):
        """Recomputed blocks drop what they dropped before: gradients are the unrolled ones."""
        looped, inputs = TestLoopedStack(), self.draw()
        bare = self.run(self.layer(), inputs)[""]
        looped.key = self.key = tf.constant([5, 7])
        expected, gradients = self.run_with_gradients(self.layer(), inputs)
        found, found_gradients = looped.run_with_gradients(looped.layer(), inputs)
        assert np.abs(expected[""] - bare).max() > 0.1
        close(found[""], expected[""], self.tolerance, "result")
        for name, gradient in gradients.items():
            close(found_gradients[name], gradient, 1e-4, name)


@pytest.mark.parametrize("outer_product_first", [False, True])
def test_what_is_kept_changes_no_gradient(outer_product_first):
    """Blocks that keep some results, all or none give the same, dropout included."""
    rng = np.random.default_rng(0)
    msa, pair = (
        tf.constant(rng.standard_normal(shape), tf.float32) for shape in ((3, 4, 8), (4, 4, 12))
    )
    masks = tf.ones((3, 4)), tf.ones((4, 4))
    config = tiny_config(dropout=0.3).extra_msa_stack
    found = {}
    for remat in REMAT:
        block = EvoformerBlock(
            config, 8, 12, False, "block", outer_product_first=outer_product_first,
            options=Options(zero_init=False),
        )  # fmt: skip
        stack = BlockStack(block, 4, "stack", Options(remat=remat))
        stack.build()
        weights = [v.value for v in stack.trainable_variables]
        with tf.GradientTape() as tape:
            tape.watch([msa, pair])
            state = stack((msa, pair), masks, tf.constant([5, 7]))
            total = sum(tf.reduce_sum(tf.square(x)) for x in state)
        found[remat] = tape.gradient(total, [msa, pair, *weights])
    largest = max(np.linalg.norm(gradient) for gradient in found["none"])
    for remat in ("cheap", "all", "nested"):
        for gradient, expected in zip(found[remat], found["none"], strict=True):
            error = np.linalg.norm(gradient - expected)
            assert error <= 1e-4 * np.linalg.norm(expected) + 1e-6 * largest, remat
