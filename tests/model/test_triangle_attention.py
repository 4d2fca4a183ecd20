"""Triangle attention around the starting and the ending node."""

from __future__ import annotations

import paper
from layers import LayerTests, Not, mask, numbers

from tffold.config import AttentionConfig
from tffold.model.module import Options
from tffold.model.triangle_attention import TriangleAttention

CONFIG = AttentionConfig(num_head=2, key_dim=6)


class TestStartingNode(LayerTests):
    layer_class = TriangleAttention
    starting = True
    sizes = {"t": 2, "i": 6, "j": 6, "c": 8}
    inputs = {"pair": numbers("i j c"), "mask": mask("i j")}
    outputs = "i j c"
    padded = "i j"
    slice_bytes = 600
    bfloat16 = 0.02

    def make(self, slice_mib=0):
        return TriangleAttention(CONFIG, 8, self.starting, options=Options(slice_mib=slice_mib))

    def reference(self, w, pair, mask):
        return paper.triangle_attention(w, pair, mask, self.starting)


class TestEndingNode(TestStartingNode):
    starting = False


class TestEndingNodeOfTemplates(TestStartingNode):
    """Several pair representations at once, each with a bias of its own."""

    starting = False
    inputs = {"pair": numbers("t i j c"), "mask": mask("i j")}
    outputs = "t i j c"
    slice_bytes = Not("templates are taken one at a time where memory is short")
