"""What a pass takes over from the pass before."""

from __future__ import annotations

from typing import Any

from keras import ops

from tffold.config import ModelConfig
from tffold.geometry.atoms import pseudo_beta
from tffold.geometry.distances import dgram
from tffold.model.module import GROUP, Module
from tffold.model.primitives import LayerNorm, Linear

Tensor = Any


class RecyclingEmbedder(Module):
    """Adds the last pass's first MSA row, pair and distances (Algorithm 32; Algorithm 2, line 6).

        d_ij = |x_i^Cβ - x_j^Cβ|                                        (1)
        d_ij <- Linear(one_hot(d_ij, v_bins = [3 3/8 Å, ..., 21 3/8 Å]))   (2)
        z_ij += d_ij + LayerNorm(z_ij^prev)                             (3)
        m_1i += LayerNorm(m_1i^prev)                                    (4)

    The caller adds.

    ``previous``: ``prev_pos`` [i, 37, 3] in Å, ``prev_msa_first_row``
    [i, c_m], ``prev_pair`` [i, j, c_z] -> updates for the first MSA row
    [i, c_m] and the pair [i, j, c_z].

    DISCREPANCY: in the first pass zeros are embedded like anything else, so
    that offsets and biases enter, as in DeepMind's code.
    """

    def __init__(self, config: ModelConfig):
        super().__init__(GROUP + "recycling_embedder")
        self.bins = config.recycling
        self.prev_pos_linear = Linear(
            config.recycling.num_bins, config.pair_channel, "prev_pos_linear"
        )
        self.prev_msa_first_row_norm = LayerNorm(config.msa_channel, "prev_msa_first_row_norm")
        self.prev_pair_norm = LayerNorm(config.pair_channel, "prev_pair_norm")

    def call(
        self, previous: dict[str, Tensor], aatype: Tensor, dtype: Any
    ) -> tuple[Tensor, Tensor]:
        positions = previous["prev_pos"]
        beta, _ = pseudo_beta(aatype, positions, ops.ones_like(positions[..., 0]))
        bins = self.bins
        one_hot = dgram(beta, bins.min_bin, bins.max_bin, bins.num_bins)
        pair = self.prev_pos_linear(ops.cast(one_hot, dtype))
        pair += self.prev_pair_norm(ops.cast(previous["prev_pair"], dtype))
        return self.prev_msa_first_row_norm(ops.cast(previous["prev_msa_first_row"], dtype)), pair
