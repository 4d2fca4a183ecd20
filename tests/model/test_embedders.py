"""The embedding of targets, alignments and residue numbers."""

from __future__ import annotations

import paper
import paper_complexes
from layers import LayerTests, Not, increasing, integers, numbers
from tiny import tiny_config

from tffold.model.embedders import ExtraMSAEmbedder, InputEmbedder, RelativeEncoding


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

    def call(self, layer, target_feat, msa_feat, **batch):
        msa, pair = layer(target_feat, msa_feat, batch)
        return {"msa": msa, "pair": pair}

    def reference(self, w, target_feat, msa_feat, residue_index):
        msa, pair = paper.input_embedder(w, target_feat, msa_feat, residue_index, num_clip=5)
        return {"msa": msa, "pair": pair}


CHAINS = {
    "residue_index": increasing("i", step=4),
    "asym_id": integers("i", 4, low=1),
    "entity_id": integers("i", 3, low=1),
    "sym_id": integers("i", 6, low=1),
}


class TestRelativeEncoding(EmbedderTests):
    layer_class = RelativeEncoding
    inputs = CHAINS
    sizes = EmbedderTests.sizes | {"i": 12, "j": 12}
    outputs = "i j z"
    bfloat16 = Not("its dtype is an argument, it reads whole numbers")

    def make(self):
        return RelativeEncoding(tiny_config(max_relative_feature=5))

    def call(self, layer, **batch):
        return layer(batch, dtype="float32")

    def reference(self, w, **chains):
        return paper_complexes.relative_encoding(w, **chains, num_clip=5)


class TestInputEmbedderOfComplexes(TestInputEmbedder):
    inputs = TestInputEmbedder.inputs | CHAINS

    def make(self):
        config = tiny_config(max_relative_feature=5, encode_chains=True, read_segment_breaks=False)
        return InputEmbedder(config)

    def reference(self, w, target_feat, msa_feat, **chains):
        target = target_feat[:, 1:]
        left, right = (paper.linear(w[f"{side}_single"], target) for side in ("left", "right"))
        inner = w["tilde-_relative_encoding"]
        relative = paper_complexes.relative_encoding(inner, **chains, num_clip=5)
        msa = paper.linear(w["preprocess_msa"], msa_feat) + paper.linear(w["preprocess_1d"], target)
        return {"msa": msa, "pair": left[:, None] + right[None, :] + relative}


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
