"""Attention that several layers share, and its global variant."""

from __future__ import annotations

import paper
import tensorflow as tf
from keras import ops
from layers import LayerTests, Not, mask, numbers

from tffold.config import AttentionConfig
from tffold.model import attention
from tffold.model.attention import Attention, GlobalAttention, mask_bias

CONFIG = AttentionConfig(num_head=2, key_dim=6)


class AttentionTests(LayerTests):
    sizes = {"n": 3, "i": 4, "j": 5, "c": 6, "d": 5, "h": 2, "o": 4}
    slice_bytes = Not("its callers slice")
    bfloat16 = 0.02

    def test_softmax_is_in_float32(self, monkeypatch):
        seen = []

        def softmax(x, axis):
            seen.append(x.dtype)
            return ops.nn.softmax(x, axis)

        monkeypatch.setattr(attention.ops, "softmax", softmax)
        self.test_bfloat16_is_within_its_error()
        assert seen == 2 * [tf.float32]


class TestAttention(AttentionTests):
    """Gated, of one sequence with itself, with a mask and a pair bias."""

    layer_class = Attention
    sizes = AttentionTests.sizes | {"j": 4}
    inputs = {"x": numbers("n i c"), "mask": mask("n j"), "pair_bias": numbers("h i j")}
    outputs = "n i o"
    padded = "n i j"

    def make(self):
        return Attention(CONFIG, 6, 4)

    def call(self, layer, x, mask, pair_bias):
        bias = mask_bias(mask)[:, None, None, :]
        return layer(x, bias=bias, pair_bias=tf.cast(pair_bias[None], "float32"))

    def reference(self, w, x, mask, pair_bias):
        bias = paper.einsum("hij->ijh", pair_bias)
        return paper.attention(w, x, x, bias, mask[:, None, :, None])


class TestAttentionToAnotherSource(AttentionTests):
    """Ungated, of one sequence over another, as the template embedding has it."""

    layer_class = Attention
    inputs = {"x": numbers("n i c"), "source": numbers("n j d"), "mask": mask("n j")}
    outputs = "n i o"
    padded = "n i j"

    def make(self):
        return Attention(CONFIG, 6, 4, source_channel=5, gating=False)

    def call(self, layer, x, source, mask):
        return layer(x, source, bias=mask_bias(mask)[:, None, None, :])

    def reference(self, w, x, source, mask):
        return paper.attention(w, x, source, mask=mask[:, None, :, None])


class TestGlobalAttention(AttentionTests):
    layer_class = GlobalAttention
    inputs = {"x": numbers("n i c"), "mask": mask("n i")}
    outputs = "n i c"
    padded = "n i"

    def make(self):
        return GlobalAttention(CONFIG, 6)

    def reference(self, w, x, mask):
        return paper.global_attention(w, x, mask)
