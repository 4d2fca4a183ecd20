"""Linear layers, layer norm and dropout."""

from __future__ import annotations

import paper
from layers import LayerTests, Not, numbers

from tffold.model.primitives import LayerNorm, Linear


class OnEachPosition(LayerTests):
    """What the layers that treat each position alone have in common."""

    sizes = {"i": 6, "c": 5, "d": 4}
    inputs = {"x": numbers("i c")}
    padded = Not("each position stands alone")
    slice_bytes = Not("holds no large intermediate")
    bfloat16 = 0.01


class TestLinear(OnEachPosition):
    layer_class = Linear
    outputs = "i d"

    def make(self):
        return Linear(5, 4, "layer")

    def reference(self, w, x):
        return paper.linear(w, x)


class TestLayerNorm(OnEachPosition):
    layer_class = LayerNorm
    outputs = "i c"

    def make(self):
        return LayerNorm(5, "layer")

    def reference(self, w, x):
        return paper.layer_norm(w, x)
