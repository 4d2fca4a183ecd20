"""Row-wise and column-wise attention over the MSA, and the transition."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from keras import ops

from tffold.config import AttentionConfig
from tffold.model.attention import Attention, GlobalAttention, mask_bias
from tffold.model.module import DEFAULT_OPTIONS, Module, Options, he_normal, normal
from tffold.model.primitives import LayerNorm, Linear, project
from tffold.model.slicing import sliced

Tensor = Any


def heads_first(x: Tensor, weights: Tensor) -> Tensor:
    """A pair bias per head, in float32: [..., i, j, c] x [c, h] -> [..., h, i, j]."""
    bias = ops.cast(project(x, weights), "float32")
    lead = list(range(len(bias.shape) - 3))
    n = len(lead)
    # [..., i, j, h] -> [..., h, i, j]
    return ops.transpose(bias, (*lead, n + 2, n, n + 1))


class MSARowAttentionWithPairBias(Module):
    """Each MSA row attends over its residues, biased by the pair (Algorithm 7).

        m_si <- LayerNorm(m_si)                                        (1)
        q_si^h, k_si^h, v_si^h = LinearNoBias(m_si)                    (2)
        b_ij^h = LinearNoBias(LayerNorm(z_ij))                         (3)
        g_si^h = sigmoid(Linear(m_si))                                 (4)
        a_sij^h = softmax_j(1 / sqrt(d) q_si^h · k_sj^h + b_ij^h)      (5)
        o_si^h = g_si^h ⊙ Σ_j a_sij^h v_sj^h                           (6)
        out_si = Linear(concat_h(o_si^h))                              (7)

    Masked j get no weight in line 5.

    ``msa`` [s, i, c], ``mask`` [s, i], ``pair`` [i, j, c_z] -> [s, i, c].
    """

    def __init__(
        self,
        config: AttentionConfig,
        channel: int,
        pair_channel: int,
        name: str = "msa_row_attention_with_pair_bias",
        options: Options = DEFAULT_OPTIONS,
    ):
        super().__init__(name)
        self.pair_channel, self.num_head = pair_channel, config.num_head
        self.slice_mib = options.slice_mib
        self.query_norm = LayerNorm(channel, "query_norm")
        self.feat_2d_norm = LayerNorm(pair_channel, "feat_2d_norm")
        self.attention = Attention(config, channel, channel, options=options)

    def make_weights(self) -> None:
        shape = (self.pair_channel, self.num_head)
        self.feat_2d_weights = self.make("feat_2d_weights", shape, normal(shape[0] ** -0.5))

    def call(self, msa: Tensor, mask: Tensor, pair: Tensor) -> Tensor:
        pair = self.feat_2d_norm(pair)
        pair_bias = heads_first(pair, ops.cast(self.feat_2d_weights, pair.dtype))

        def attend(msa: Tensor, mask: Tensor, pair_bias: Tensor) -> Tensor:
            # [s, j] -> [s, 1, 1, j]
            bias = mask_bias(mask)[:, None, None, :]
            return self.attention(self.query_norm(msa), bias=bias, pair_bias=pair_bias[None])

        num_res = msa.shape[1]
        return sliced(
            (self.query_norm, self.attention),
            attend,
            (msa,),
            (mask,),
            (pair_bias,),
            row_size=self.num_head * num_res * num_res,
            slice_mib=self.slice_mib,
        )


def by_column(
    module: Module,
    attend: Callable[[Tensor, Tensor], Tensor],
    msa: Tensor,
    mask: Tensor,
    column_size: int,
) -> Tensor:
    """``attend`` on the columns of ``msa`` [s, i, c] and ``mask`` [s, i], in slices -> [s, i, c].

    ``column_size``: elements of the largest intermediate of one column.
    """
    # [s, i, c] -> [i, s, c]
    columns = sliced(
        (module,),
        attend,
        (ops.swapaxes(msa, 0, 1),),
        (ops.swapaxes(mask, 0, 1),),
        row_size=column_size,
        slice_mib=module.slice_mib,
    )
    return ops.swapaxes(columns, 0, 1)


class MSAColumnAttention(Module):
    """Each residue attends over the rows of its column (Algorithm 8).

        m_si <- LayerNorm(m_si)                                (1)
        q_si^h, k_si^h, v_si^h = LinearNoBias(m_si)            (2)
        g_si^h = sigmoid(Linear(m_si))                         (3)
        a_sti^h = softmax_t(1 / sqrt(d) q_si^h · k_ti^h)       (4)
        o_si^h = g_si^h ⊙ Σ_t a_sti^h v_ti^h                   (5)
        out_si = Linear(concat_h(o_si^h))                      (6)

    Masked t get no weight in line 4.

    ``msa`` [s, i, c], ``mask`` [s, i] -> [s, i, c].
    """

    def __init__(
        self,
        config: AttentionConfig,
        channel: int,
        name: str = "msa_column_attention",
        options: Options = DEFAULT_OPTIONS,
    ):
        super().__init__(name)
        self.num_head, self.slice_mib = config.num_head, options.slice_mib
        self.query_norm = LayerNorm(channel, "query_norm")
        self.attention = Attention(config, channel, channel, options=options)

    def call(self, msa: Tensor, mask: Tensor) -> Tensor:
        def attend(columns: Tensor, mask: Tensor) -> Tensor:
            # [i, s] -> [i, 1, 1, s]
            bias = mask_bias(mask)[:, None, None, :]
            return self.attention(self.query_norm(columns), bias=bias)

        return by_column(self, attend, msa, mask, self.num_head * msa.shape[0] ** 2)


class MSAColumnGlobalAttention(Module):
    """Each column attends over its rows with one mean query (Algorithm 19).

        m_si <- LayerNorm(m_si)                       (1)
        out_si = GlobalAttention({m_ti})              (2 to 7)

    Masked rows count neither in the mean nor in the softmax.

    ``msa`` [s, i, c], ``mask`` [s, i] -> [s, i, c].
    """

    def __init__(
        self,
        config: AttentionConfig,
        channel: int,
        name: str = "msa_column_global_attention",
        options: Options = DEFAULT_OPTIONS,
    ):
        super().__init__(name)
        self.key_dim, self.slice_mib = config.key_dim, options.slice_mib
        self.query_norm = LayerNorm(channel, "query_norm")
        self.attention = GlobalAttention(config, channel, options=options)

    def call(self, msa: Tensor, mask: Tensor) -> Tensor:
        def attend(columns: Tensor, mask: Tensor) -> Tensor:
            return self.attention(self.query_norm(columns), mask)

        gate = msa.shape[0] * self.key_dim
        return by_column(self, attend, msa, mask, gate)


class Transition(Module):
    """Two-layer perceptron on each position (Algorithms 9 and 15).

        x <- LayerNorm(x)               (1)
        a = Linear(x)                   (2)
        out = Linear(relu(a))           (3)

    ``x`` [..., c] -> [..., c]; a has ``factor`` c channels.

    DISCREPANCY: like DeepMind's code it ignores masks; masked positions never
    reach unmasked ones through it.
    """

    def __init__(self, channel: int, factor: int, name: str, options: Options = DEFAULT_OPTIONS):
        super().__init__(name)
        self.slice_mib = options.slice_mib
        hidden = self.hidden = channel * factor
        self.input_layer_norm = LayerNorm(channel, "input_layer_norm")
        self.transition1 = Linear(channel, hidden, "transition1", he_normal)
        self.transition2 = Linear(hidden, channel, "transition2", options.output_initializer)

    def call(self, x: Tensor) -> Tensor:
        def perceptron(x: Tensor) -> Tensor:
            return self.transition2(ops.relu(self.transition1(self.input_layer_norm(x))))

        # [..., j, c] -> [n, j, c]
        rows = ops.reshape(x, (-1, *x.shape[-2:]))
        result = sliced(
            (self,),
            perceptron,
            (rows,),
            row_size=x.shape[-2] * self.hidden,
            slice_mib=self.slice_mib,
        )
        return ops.reshape(result, x.shape)
