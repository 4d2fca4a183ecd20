"""What a pass takes over from the pass before."""

from __future__ import annotations

import paper
from layers import LayerTests, Not, integers, numbers
from tiny import tiny_config

from tffold.model.recycling import RecyclingEmbedder


class TestRecyclingEmbedder(LayerTests):
    layer_class = RecyclingEmbedder
    sizes = {"i": 7, "j": 7, "m": 16, "z": 12}
    inputs = {
        "aatype": integers("i", 21),
        "prev_pos": numbers("i 37 3", scale=6.0, differentiable=False),
        "prev_msa_first_row": numbers("i m"),
        "prev_pair": numbers("i j z"),
    }
    outputs = {"msa_first_row": "i m", "pair": "i j z"}
    padded = Not("each position, or pair of positions, stands alone")
    slice_bytes = Not("is run once")
    bfloat16 = 0.01

    def make(self):
        return RecyclingEmbedder(tiny_config())

    def call(self, layer, aatype, **previous):
        row, pair = layer(previous, aatype, dtype=previous["prev_pair"].dtype)
        return {"msa_first_row": row, "pair": pair}

    def reference(self, w, aatype, prev_pos, prev_msa_first_row, prev_pair):
        row, pair = paper.recycling_embedder(w, aatype, prev_pos, prev_msa_first_row, prev_pair)
        return {"msa_first_row": row, "pair": pair}
