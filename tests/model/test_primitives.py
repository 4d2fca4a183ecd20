"""Linear layers, layer norm and dropout."""

from __future__ import annotations

import paper
from layers import LayerTests, Not, numbers

from tffold.model.module import lecun_normal
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


class TestLinearToSeveralAxes(TestLinear):
    outputs = "i 2 d"

    def make(self):
        return Linear(5, (2, 4), "layer", bias_initializer=None)


class TestLinearOfSingleNumbers(TestLinear):
    outputs = "i c d"

    def make(self):
        return Linear(None, 4, "layer")

    def reference(self, w, x):
        return x[..., None] * w["weights"] + w["bias"]


class TestLayerNorm(OnEachPosition):
    layer_class = LayerNorm
    outputs = "i c"

    def make(self):
        return LayerNorm(5, "layer")

    def reference(self, w, x):
        return paper.layer_norm(w, x)


def test_an_initializer_sees_a_matrix():
    """Several outputs do not change the fans, nor does a single number as input."""
    seen = []

    def initializer(shape, seed):
        seen.append(shape)
        return lecun_normal(shape, seed)

    for num_input, num_output in ((5, 4), (5, (2, 4)), (None, 4)):
        Linear(num_input, num_output, "layer", initializer).build()
    assert seen == [(5, 4), (5, 8), (1, 4)]
