"""Triangle self-attention on the pair representation."""

from __future__ import annotations

from typing import Any

from keras import ops

from tffold.config import AttentionConfig
from tffold.model.attention import Attention, mask_bias
from tffold.model.module import Module, normal
from tffold.model.msa_attention import heads_first
from tffold.model.primitives import LayerNorm

Tensor = Any


class TriangleAttention(Module):
    """Edges attend over the edges that share their starting or ending node.

    Algorithms 13 and 14. ``pair`` [..., i, j, c], ``mask`` [..., i, j] ->
    [..., i, j, c].
    """

    def __init__(self, config: AttentionConfig, channel: int, starting: bool, **options: Any):
        node = "starting" if starting else "ending"
        super().__init__(f"triangle_attention_{node}_node")
        self.starting, self.channel, self.num_head = starting, channel, config.num_head
        self.query_norm = LayerNorm(channel, "query_norm")
        self.attention = Attention(config, channel, channel, **options)

    def make_weights(self) -> None:
        shape = (self.channel, self.num_head)
        self.feat_2d_weights = self.make("feat_2d_weights", shape, normal(shape[0] ** -0.5))

    def call(self, pair: Tensor, mask: Tensor) -> Tensor:
        if not self.starting:
            # [..., i, j, c] -> [..., j, i, c]
            pair, mask = ops.swapaxes(pair, -3, -2), ops.swapaxes(mask, -1, -2)
        x = self.query_norm(pair)
        pair_bias = heads_first(x, self.read(self.feat_2d_weights, x.dtype))
        # [..., i, k] -> [..., i, 1, 1, k];  [..., h, q, k] -> [..., 1, h, q, k]
        bias = mask_bias(mask)[..., None, None, :]
        y = self.attention(x, bias=bias, pair_bias=ops.expand_dims(pair_bias, -4))
        return y if self.starting else ops.swapaxes(y, -3, -2)
