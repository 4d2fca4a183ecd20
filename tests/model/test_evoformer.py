"""One block of the Evoformer and of the extra MSA stack."""

from __future__ import annotations

import numpy as np
import paper
import tensorflow as tf
from layers import LayerTests, close, mask, numbers, weights_of
from reference import nest
from tiny import tiny_config

from tffold.model import evoformer
from tffold.model.evoformer import EvoformerBlock
from tffold.model.module import Options

RATES = (0.1, 0.2, 0.3, 0.3, 0.4, 0.4)  # of lines 2, 3, 6, 7, 8, 9


class TestEvoformerBlock(LayerTests):
    """Algorithm 6."""

    layer_class = EvoformerBlock
    extra = False
    outer_first = False
    sizes = {"s": 4, "i": 6, "j": 6, "c": 8, "z": 12}
    inputs = {
        "msa": numbers("s i c"),
        "pair": numbers("i j z"),
        "msa_mask": mask("s i"),
        "pair_mask": mask("i j"),
    }
    outputs = {"msa": "s i c", "pair": "i j z"}
    padded = "s i j"
    slice_bytes = 500
    bfloat16 = 0.02
    unreached = {
        "msa_row_attention_with_pair_bias/feat_2d_norm/offset": "adds one number to all logits"
    }

    def make(self, slice_mib=0, rates=None):
        config = tiny_config().extra_msa_stack
        if rates:
            row, column, multiplication, _, attention, _ = rates
            config.msa_row_attention.dropout_rate = row
            config.msa_column_attention.dropout_rate = column
            config.triangle_multiplication_dropout_rate = multiplication
            config.triangle_attention.dropout_rate = attention
        options = Options(slice_mib=slice_mib)
        return EvoformerBlock(
            config,
            8,
            12,
            self.extra,
            "block",
            outer_product_first=self.outer_first,
            options=options,
        )

    def call(self, layer, msa, pair, msa_mask, pair_mask, key=None):
        msa, pair = layer((msa, pair), (msa_mask, pair_mask), key)
        return {"msa": msa, "pair": pair}

    def reference(self, w, msa, pair, msa_mask, pair_mask, **dropout):
        msa, pair = paper.evoformer_block(
            w,
            msa,
            pair,
            msa_mask,
            pair_mask,
            extra=self.extra,
            outer_first=self.outer_first,
            **dropout,
        )
        return {"msa": msa, "pair": pair}

    def test_dropout_is_shared_along_the_papers_axes(self, monkeypatch):
        """By row: one mask for all rows; by column: one for all columns (supplement 1.11.6)."""
        rng = np.random.default_rng(0)
        s, i, j, c, z = (self.sizes[axis] for axis in "s i j c z".split())
        row, column = (1, j, z), (i, 1, z)
        shapes = [(1, i, c), (s, 1, c), row, row, row, column]
        drops = [(rng.random(shape) < 0.7).astype(np.float32) for shape in shapes]

        def masks(key, found_shapes, found_rates):
            assert [tuple(shape) for shape in found_shapes] == shapes
            assert tuple(found_rates) == RATES
            return [tf.constant(drop) for drop in drops]

        monkeypatch.setattr(evoformer, "dropout_masks", masks)
        layer, inputs = self.layer(rates=RATES), self.draw()
        tensors = {k: tf.constant(x) for k, x in inputs.items()}
        found = self.call(layer, **tensors, key=tf.constant([1, 2]))
        weights = nest({k: v.numpy().astype(np.float64) for k, v in weights_of(layer).items()})
        expected = self.reference(weights, **inputs, drops=drops, rates=RATES)
        for name, value in expected.items():
            close(found[name], value, self.tolerance, name)


class TestExtraMSABlock(TestEvoformerBlock):
    """Algorithm 18."""

    extra = True


class TestBlockOfComplexes(TestEvoformerBlock):
    outer_first = True
