"""The heads' layers."""

from __future__ import annotations

import numpy as np
import paper
from layers import LayerTests, Not, numbers
from tiny import tiny_config

from tffold.config import HeadsConfig
from tffold.model.heads import (
    DistogramHead,
    LogitsHead,
    PredictedLDDTHead,
    distogram_breaks,
    predicted_aligned_error_breaks,
)
from tffold.model.module import Options


class HeadTests(LayerTests):
    sizes = {"i": 5, "j": 5, "s": 16, "z": 12, "d": 7, "bins": 64, "l": 50}
    padded = Not("each position stands alone")
    slice_bytes = Not("is run once")
    bfloat16 = Not("runs in float32")


class TestLogitsHead(HeadTests):
    layer_class = LogitsHead
    inputs = {"x": numbers("i s")}
    outputs = "i d"

    def make(self):
        return LogitsHead(16, 7, "head", Options())

    def reference(self, w, x):
        return paper.linear(w["logits"], x)


class TestDistogramHead(HeadTests):
    layer_class = DistogramHead
    inputs = {"pair": numbers("i j z")}
    outputs = "i j bins"

    def make(self):
        return DistogramHead(tiny_config())

    def reference(self, w, pair):
        return paper.distogram(w, pair)


class TestPredictedLDDTHead(HeadTests):
    layer_class = PredictedLDDTHead
    inputs = {"act": numbers("i s")}
    outputs = "i l"

    def make(self):
        return PredictedLDDTHead(tiny_config())

    def reference(self, w, act):
        return paper.predicted_lddt(w, act)


def test_bins_are_the_papers():
    """Supplement 1.9.7 and 1.9.8, in Å."""
    config = HeadsConfig()
    breaks = np.asarray(distogram_breaks(config))
    assert len(breaks) == 63 and breaks[0] == 2.3125 and breaks[-1] == 21.6875
    breaks = np.asarray(predicted_aligned_error_breaks(config))
    np.testing.assert_allclose(breaks, np.arange(0, 31.01, 0.5))
