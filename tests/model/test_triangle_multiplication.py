"""Triangle multiplication with outgoing and incoming edges."""

from __future__ import annotations

import paper
from layers import LayerTests, Not, mask, numbers

from tffold.model.module import Options
from tffold.model.triangle_multiplication import TriangleMultiplication


class TestOutgoing(LayerTests):
    layer_class = TriangleMultiplication
    outgoing = True
    fused = False
    sizes = {"t": 2, "i": 6, "j": 6, "c": 8}
    inputs = {"pair": numbers("i j c"), "mask": mask("i j")}
    outputs = "i j c"
    padded = "i j"
    slice_bytes = 200
    bfloat16 = 0.02

    def make(self, slice_mib=0):
        options = Options(fuse_projections=self.fused, slice_mib=slice_mib)
        return TriangleMultiplication(8, 4, self.outgoing, options)

    def reference(self, w, pair, mask):
        return paper.triangle_multiplication(w, pair, mask, self.outgoing)


class TestIncoming(TestOutgoing):
    outgoing = False


class TestIncomingOfTemplates(TestIncoming):
    slice_bytes = Not("templates are few and narrow")
    inputs = {"pair": numbers("t i j c"), "mask": mask("i j")}
    outputs = "t i j c"


class TestFusedOutgoing(TestOutgoing):
    fused = True


class TestFusedIncoming(TestIncoming):
    fused = True
