"""From the MSA to the pair representation."""

from __future__ import annotations

import numpy as np
import paper
import pytest
import tensorflow as tf
from layers import LayerTests, mask, numbers
from tiny import tiny_config

from tffold.model.alphafold import AlphaFold
from tffold.model.module import Options
from tffold.model.outer_product_mean import OuterProductMean, slice_limit


class TestOuterProductMean(LayerTests):
    layer_class = OuterProductMean
    sizes = {"s": 5, "i": 6, "j": 6, "c": 8, "z": 5}
    inputs = {"msa": numbers("s i c"), "mask": mask("s i")}
    outputs = "i j z"
    padded = "s i j"
    slice_bytes = 500
    bfloat16 = 0.02

    def make(self, slice_mib=0):
        return OuterProductMean(8, 3, 5, options=Options(slice_mib=slice_mib))

    def reference(self, w, msa, mask):
        return paper.outer_product_mean(w, msa, mask)


class TestDividingFirst(TestOuterProductMean):
    """The paper's order."""

    def make(self, slice_mib=0):
        return OuterProductMean(8, 3, 5, divide_first=True, options=Options(slice_mib=slice_mib))

    def reference(self, w, msa, mask):
        return paper.outer_product_mean(w, msa, mask, divide_first=True)


BIAS = np.float32([1.0, -2.0, 3.0])
ROWS, RESIDUES, CHANNEL = 40, 6, 5


def result(divide_first, mask, bias=BIAS):
    options = Options(zero_init=False)
    made = OuterProductMean(CHANNEL, 4, 3, divide_first=divide_first, options=options)
    made.build()
    made.output_b.assign(bias)
    msa = np.random.default_rng(0).standard_normal((ROWS, RESIDUES, CHANNEL)).astype(np.float32)
    return np.asarray(made(tf.constant(msa), tf.constant(mask)))


def test_without_rows_the_bias_is_added_once():
    nothing = np.zeros((ROWS, RESIDUES), np.float32)
    everywhere = np.broadcast_to(BIAS, (RESIDUES, RESIDUES, 3))
    np.testing.assert_allclose(result(True, nothing), everywhere, rtol=1e-6)
    np.testing.assert_allclose(result(False, nothing), 1000 * everywhere, rtol=1e-6)


@pytest.mark.parametrize("rows", [1, 7, ROWS])
def test_the_orders_differ_by_the_bias_alone(rows):
    mask = np.zeros((ROWS, RESIDUES), np.float32)
    mask[:rows] = 1.0
    mask[0, 2] = 0.0  # fewer rows at one residue
    number = mask.T @ mask
    paper, published = result(True, mask), result(False, mask)
    difference = BIAS * (1.0 - 1.0 / (1e-3 + number))[..., None]
    np.testing.assert_allclose(paper - published, difference, rtol=1e-4, atol=1e-4)
    zero = np.zeros_like(BIAS)
    np.testing.assert_array_equal(result(True, mask, zero), result(False, mask, zero))


def test_the_setting_reaches_both_stacks():
    for setting in (False, True):
        model = AlphaFold(tiny_config(outer_product_divides_first=setting), seed=0)
        found = [
            part.divide_first
            for part in model._flatten_layers()
            if isinstance(part, OuterProductMean)
        ]
        assert found == [setting, setting]


@pytest.mark.parametrize(
    ("slice_mib", "right_mib", "expected"),
    [(0, 240, 0), (16, 4, 16), (16, 24, 24), (16, 240, 128), (32, 240, 240)],
)
def test_a_slice_is_not_smaller_than_what_every_slice_reads(slice_mib, right_mib, expected):
    assert slice_limit(slice_mib, right_mib * 2**20) == expected
