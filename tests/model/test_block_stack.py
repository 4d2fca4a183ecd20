"""A stack of blocks, looped with recomputation and unrolled."""

from __future__ import annotations

import paper
from layers import LayerTests, mask, numbers
from tiny import tiny_config

from tffold.model.block_stack import BlockStack
from tffold.model.module import Options
from tffold.model.templates import TemplatePairBlock


class TestLoopedStack(LayerTests):
    layer_class = BlockStack
    remat = True
    sizes = {"t": 1, "i": 5, "j": 5, "c": 8}
    inputs = {"pair": numbers("t i j c"), "mask": mask("i j")}
    outputs = "t i j c"
    padded = "i j"
    slice_bytes = 300
    bfloat16 = 0.02

    def make(self, slice_mib=0):
        block = TemplatePairBlock(tiny_config().template, options=Options(slice_mib=slice_mib))
        return BlockStack(block, 3, "stack", Options(remat=self.remat))

    def call(self, layer, pair, mask):
        (pair,) = layer((pair,), (mask,))
        return pair

    def reference(self, w, pair, mask):
        for block in paper.blocks(w["__layer_stack_no_state"]):
            pair = paper.template_pair_block(block, pair, mask)
        return pair


class TestUnrolledStack(TestLoopedStack):
    remat = False
