"""From the MSA to the pair representation."""

from __future__ import annotations

import paper
from layers import LayerTests, mask, numbers

from tffold.model.outer_product_mean import OuterProductMean


class TestOuterProductMean(LayerTests):
    layer_class = OuterProductMean
    sizes = {"s": 5, "i": 6, "j": 6, "c": 8, "z": 5}
    inputs = {"msa": numbers("s i c"), "mask": mask("s i")}
    outputs = "i j z"
    padded = "s i j"
    slice_bytes = 500
    bfloat16 = 0.02

    def make(self, slice_mib=0):
        return OuterProductMean(8, 3, 5, slice_mib=slice_mib)

    def reference(self, w, msa, mask):
        return paper.outer_product_mean(w, msa, mask)
