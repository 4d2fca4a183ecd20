"""The embedding of targets, alignments and residue numbers."""

from __future__ import annotations

import paper
from layers import LayerTests, Not, increasing, integers, numbers
from tiny import tiny_config

from tffold.model.embedders import ExtraMSAEmbedder, InputEmbedder


class EmbedderTests(LayerTests):
    sizes = {"s": 3, "i": 6, "j": 6, "m": 16, "z": 12, "e": 8}
    padded = Not("each position, or pair of positions, stands alone")
    slice_bytes = Not("is run once")
    bfloat16 = 0.01


class TestInputEmbedder(EmbedderTests):
    layer_class = InputEmbedder
    inputs = {
        "target_feat": numbers("i 22"),
        "msa_feat": numbers("s i 49"),
        "residue_index": increasing("i", step=4),
    }
    outputs = {"msa": "s i m", "pair": "i j z"}

    def make(self):
        return InputEmbedder(tiny_config(max_relative_feature=5))

    def call(self, layer, **inputs):
        msa, pair = layer(*inputs.values())
        return {"msa": msa, "pair": pair}

    def reference(self, w, target_feat, msa_feat, residue_index):
        msa, pair = paper.input_embedder(w, target_feat, msa_feat, residue_index, num_clip=5)
        return {"msa": msa, "pair": pair}


class TestExtraMSAEmbedder(EmbedderTests):
    layer_class = ExtraMSAEmbedder
    inputs = {
        "extra_msa": integers("s i", 23),
        "has_deletion": numbers("s i"),
        "deletion_value": numbers("s i"),
    }
    outputs = "s i e"

    def make(self):
        return ExtraMSAEmbedder(tiny_config())

    def reference(self, w, extra_msa, has_deletion, deletion_value):
        features = paper.extra_msa_feat(extra_msa, has_deletion, deletion_value)
        return paper.linear(w["extra_msa_activations"], features)
