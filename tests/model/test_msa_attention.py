"""Attention over the MSA, and the transition."""

from __future__ import annotations

import paper
from layers import LayerTests, Not, mask, numbers

from tffold.config import AttentionConfig
from tffold.model.module import Options
from tffold.model.msa_attention import (
    MSAColumnAttention,
    MSAColumnGlobalAttention,
    MSARowAttentionWithPairBias,
    Transition,
)

CONFIG = AttentionConfig(num_head=2, key_dim=6)


class MSATests(LayerTests):
    sizes = {"s": 4, "i": 6, "j": 6, "c": 8, "z": 5}
    inputs = {"msa": numbers("s i c"), "mask": mask("s i")}
    outputs = "s i c"
    padded = "s i j"
    slice_bytes = 300
    bfloat16 = 0.02


class TestMSARowAttentionWithPairBias(MSATests):
    layer_class = MSARowAttentionWithPairBias
    inputs = MSATests.inputs | {"pair": numbers("i j z")}
    unreached = {"feat_2d_norm/offset": "adds one number to all logits of a head"}

    def make(self, slice_mib=0):
        return MSARowAttentionWithPairBias(CONFIG, 8, 5, options=Options(slice_mib=slice_mib))

    def reference(self, w, msa, mask, pair):
        return paper.msa_row_attention_with_pair_bias(w, msa, mask, pair)


class TestMSAColumnAttention(MSATests):
    layer_class = MSAColumnAttention

    def make(self, slice_mib=0):
        return MSAColumnAttention(CONFIG, 8, options=Options(slice_mib=slice_mib))

    def reference(self, w, msa, mask):
        return paper.msa_column_attention(w, msa, mask)


class TestMSAColumnGlobalAttention(MSATests):
    layer_class = MSAColumnGlobalAttention

    def make(self, slice_mib=0):
        return MSAColumnGlobalAttention(CONFIG, 8, options=Options(slice_mib=slice_mib))

    def reference(self, w, msa, mask):
        return paper.msa_column_global_attention(w, msa, mask)


class TestTransition(MSATests):
    layer_class = Transition
    inputs = {"x": numbers("s i c")}
    padded = Not("each position stands alone")

    def make(self, slice_mib=0):
        return Transition(8, 2, "transition", options=Options(slice_mib=slice_mib))

    def reference(self, w, x):
        return paper.transition(w, x)
