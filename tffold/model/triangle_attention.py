"""Triangle self-attention on the pair representation."""

from __future__ import annotations

from typing import Any

from keras import ops

from tffold.config import AttentionConfig
from tffold.model.attention import Attention, mask_bias
from tffold.model.module import DEFAULT_OPTIONS, Module, Options, normal
from tffold.model.msa_attention import heads_first
from tffold.model.primitives import LayerNorm
from tffold.model.slicing import sliced

Tensor = Any


class TriangleAttention(Module):
    """Edges attend over those that share their starting or ending node (Algorithms 13 and 14).

        z_ij <- LayerNorm(z_ij)                                              (1)
        q_ij^h, k_ij^h, v_ij^h = LinearNoBias(z_ij)                          (2)
        b_ij^h = LinearNoBias(z_ij)                                          (3)
        g_ij^h = sigmoid(Linear(z_ij))                                       (4)
        starting node:
        a_ijk^h = softmax_k(1 / sqrt(d) q_ij^h · k_ik^h + b_jk^h)            (5)
        o_ij^h = g_ij^h ⊙ Σ_k a_ijk^h v_ik^h                                 (6)
        ending node:
        a_ijk^h = softmax_k(1 / sqrt(d) q_ij^h · k_kj^h + b_ki^h)            (5)
        o_ij^h = g_ij^h ⊙ Σ_k a_ijk^h v_kj^h                                 (6)
        out_ij = Linear(concat_h(o_ij^h))                                    (7)

    The ending node's is the starting node's with i and j swapped before and after.
    Masked edges ik (kj) get no weight in line 5.

    ``pair`` [..., i, j, c], ``mask`` [..., i, j] ->
    [..., i, j, c].
    """

    def __init__(
        self,
        config: AttentionConfig,
        channel: int,
        starting: bool,
        options: Options = DEFAULT_OPTIONS,
    ):
        node = "starting" if starting else "ending"
        super().__init__(f"triangle_attention_{node}_node")
        self.starting, self.channel, self.num_head = starting, channel, config.num_head
        self.slice_mib = options.slice_mib
        self.query_norm = LayerNorm(channel, "query_norm")
        self.attention = Attention(config, channel, channel, options=options)

    def make_weights(self) -> None:
        shape = (self.channel, self.num_head)
        self.feat_2d_weights = self.make("feat_2d_weights", shape, normal(shape[0] ** -0.5))

    def call(self, pair: Tensor, mask: Tensor) -> Tensor:
        if not self.starting:
            # [..., i, j, c] -> [..., j, i, c]
            pair, mask = ops.swapaxes(pair, -3, -2), ops.swapaxes(mask, -1, -2)
        x = self.query_norm(pair)
        pair_bias = heads_first(x, ops.cast(self.feat_2d_weights, x.dtype))

        def attend(x: Tensor, mask: Tensor, pair_bias: Tensor) -> Tensor:
            # [..., i, k] -> [..., i, 1, 1, k];  [..., h, q, k] -> [..., 1, h, q, k]
            bias = mask_bias(mask)[..., None, None, :]
            return self.attention(x, bias=bias, pair_bias=ops.expand_dims(pair_bias, -4))

        if len(x.shape) == 4 and x.shape[0] > 1:  # several templates, each with its own bias
            y = attend(x, mask, pair_bias)
        else:
            num_res = x.shape[-2]
            # [1, i, j, c] -> [i, j, c]
            rows = ops.reshape(x, x.shape[-3:])
            y = sliced(
                (self.attention,),
                attend,
                (rows,),
                (mask,),
                (ops.reshape(pair_bias, pair_bias.shape[-3:]),),
                row_size=self.num_head * num_res * num_res,
                slice_mib=self.slice_mib,
            )
            y = ops.reshape(y, x.shape)
        return y if self.starting else ops.swapaxes(y, -3, -2)
