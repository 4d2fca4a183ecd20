"""Gated multi-head attention and its global variant."""

from __future__ import annotations

from typing import Any

from keras import ops

from tffold.config import AttentionConfig
from tffold.model.module import DEFAULT_OPTIONS, Module, Options, glorot_uniform, ones, zeros
from tffold.model.primitives import project

Tensor = Any
MASK_BIAS = 1e9


def mask_bias(mask: Tensor) -> Tensor:
    """0 where ``mask`` is 1 and -1e9 where it is 0, in float32."""
    return MASK_BIAS * (ops.cast(mask, "float32") - 1.0)


def softmax32(logits: Tensor, dtype: Any) -> Tensor:
    """Softmax of the last axis in float32, returned in ``dtype``."""
    return ops.cast(ops.softmax(ops.cast(logits, "float32"), axis=-1), dtype)


class Attention(Module):
    """Gated multi-head attention, which five share (Algorithms 7, 8, 13, 14 and 17).

        q_i^h, k_j^h, v_j^h = LinearNoBias(x_i), LinearNoBias(y_j), LinearNoBias(y_j)
        g_i^h = sigmoid(Linear(x_i))
        a_ij^h = softmax_j(1 / sqrt(d) q_i^h · k_j^h + b_ij^h)
        o_i^h = g_i^h ⊙ Σ_j a_ij^h v_j^h
        out_i = Linear(concat_h(o_i^h))

    These are the lines 2 and 4 to 7 of Algorithms 7, 13 and 14 (whose line 3 makes b), 2 to 6
    of Algorithm 8 (no b), and, without g, 1 to 5 of Algorithm 17. i and j count the last but
    one axis.

    ``call(x, source, bias, pair_bias)``: ``x`` [..., q, c], ``source`` [..., k, d]
    (None: ``x`` itself), ``bias`` broadcastable to [..., 1, 1, k], ``pair_bias``
    broadcastable to [..., h, q, k] -> [..., q, output_channel].
    """

    def __init__(
        self,
        config: AttentionConfig,
        channel: int,
        output_channel: int,
        name: str = "attention",
        source_channel: int | None = None,
        gating: bool = True,
        options: Options = DEFAULT_OPTIONS,
    ):
        super().__init__(name)
        self.num_head = config.num_head
        self.head_dim = config.key_dim // config.num_head
        self.channel, self.output_channel = channel, output_channel
        self.source_channel = source_channel
        self.gating, self.options = gating, options

    def make_weights(self) -> None:
        h, d = self.num_head, self.head_dim
        source = self.source_channel or self.channel
        self.query_w = self.make("query_w", (self.channel, h, d), glorot_uniform)
        self.key_w = self.make("key_w", (source, h, d), glorot_uniform)
        self.value_w = self.make("value_w", (source, h, d), glorot_uniform)
        if self.gating:
            self.gating_w = self.make("gating_w", (self.channel, h, d), zeros)
            self.gating_b = self.make("gating_b", (h, d), ones)
        output = self.options.output_initializer
        self.output_w = self.make("output_w", (h, d, self.output_channel), output)
        self.output_b = self.make("output_b", (self.output_channel,), zeros)

    def _project_heads(self, x: Tensor, variables: list) -> list[Tensor]:
        """One matrix product for several projections: each [..., n, h, d] -> [..., h, n, d]."""
        h, d = self.num_head, self.head_dim
        width = len(variables)
        # [c, h, d] each -> [c, width * h * d]
        kernels = [ops.reshape(ops.cast(v, x.dtype), (x.shape[-1], h * d)) for v in variables]
        y = project(x, ops.concatenate(kernels, axis=-1))
        # [..., n, width * h * d] -> [..., n, width, h, d]
        y = ops.reshape(y, (*y.shape[:-1], width, h, d))
        lead = list(range(len(y.shape) - 4))
        n = len(lead)
        # [..., n, width, h, d] -> [width, ..., h, n, d]
        y = ops.transpose(y, (n + 1, *lead, n + 2, n, n + 3))
        return [y[i] for i in range(width)]

    def call(
        self,
        x: Tensor,
        source: Tensor | None = None,
        bias: Tensor | None = None,
        pair_bias: Tensor | None = None,
    ) -> Tensor:
        gate_w = [self.gating_w] if self.gating else []
        if source is None:
            q, k, v, *gate = self._project_heads(
                x, [self.query_w, self.key_w, self.value_w, *gate_w]
            )
        else:
            q, *gate = self._project_heads(x, [self.query_w, *gate_w])
            k, v = self._project_heads(source, [self.key_w, self.value_w])
        # [..., h, q, d] x [..., h, d, k] -> [..., h, q, k]
        logits = ops.matmul(q * self.head_dim**-0.5, ops.swapaxes(k, -1, -2))
        logits = ops.cast(logits, "float32")
        if bias is not None:
            logits = logits + bias
        if pair_bias is not None:
            logits = logits + pair_bias
        y = ops.matmul(softmax32(logits, x.dtype), v)
        if self.gating:
            # [h, d] -> [h, 1, d]
            gate_b = ops.expand_dims(ops.cast(self.gating_b, x.dtype), 1)
            y = y * ops.sigmoid(gate[0] + gate_b)
        # [..., h, q, d] -> [..., q, h * d]
        y = ops.swapaxes(y, -2, -3)
        y = ops.reshape(y, (*y.shape[:-2], self.num_head * self.head_dim))
        # [h, d, c] -> [h * d, c]
        output_w = ops.reshape(ops.cast(self.output_w, x.dtype), (-1, self.output_channel))
        return project(y, output_w) + ops.cast(self.output_b, x.dtype)


class GlobalAttention(Module):
    """Attention with one mean query; heads share keys and values (Algorithm 19, lines 2 to 7).

        q_si^h, k_si, v_si = LinearNoBias(m_si)                  (2)
        q_i^h = mean_s(q_si^h)                                   (3)
        g_si^h = sigmoid(Linear(m_si))                           (4)
        a_si^h = softmax_s(1 / sqrt(d) q_i^h · k_si)             (5)
        o_si^h = g_si^h ⊙ Σ_t a_ti^h v_ti                        (6)
        out_si = Linear(concat_h(o_si^h))                        (7)

    The mean is taken of m_si before line 2: the same, as the projection is linear.

    ``call(x, mask)``: ``x`` [..., n, c], ``mask`` [..., n] -> [..., n, c].
    """

    def __init__(
        self,
        config: AttentionConfig,
        channel: int,
        name: str = "attention",
        options: Options = DEFAULT_OPTIONS,
    ):
        super().__init__(name)
        self.num_head = config.num_head
        self.head_dim = config.key_dim // config.num_head
        self.channel, self.options = channel, options

    def make_weights(self) -> None:
        c, h, d = self.channel, self.num_head, self.head_dim
        self.query_w = self.make("query_w", (c, h, d), glorot_uniform)
        self.key_w = self.make("key_w", (c, d), glorot_uniform)
        self.value_w = self.make("value_w", (c, d), glorot_uniform)
        self.gating_w = self.make("gating_w", (c, h, d), zeros)
        self.gating_b = self.make("gating_b", (h, d), ones)
        self.output_w = self.make("output_w", (h, d, c), self.options.output_initializer)
        self.output_b = self.make("output_b", (c,), zeros)

    def call(self, x: Tensor, mask: Tensor) -> Tensor:
        c, h, d = self.channel, self.num_head, self.head_dim
        # [c, h, d] -> [c, h * d]
        query_w = ops.reshape(ops.cast(self.query_w, x.dtype), (c, h * d))
        gating_w = ops.reshape(ops.cast(self.gating_w, x.dtype), (c, h * d))
        output_w = ops.reshape(ops.cast(self.output_w, x.dtype), (h * d, c))
        weights = ops.cast(ops.expand_dims(mask, -1), "float32")  # [..., n, 1]
        total = ops.sum(weights, axis=-2) + 1e-10
        mean = ops.cast(ops.sum(weights * ops.cast(x, "float32"), axis=-2) / total, x.dtype)
        # [..., h * d] -> [..., h, d]
        q = project(mean, query_w) * d**-0.5
        q = ops.reshape(q, (*q.shape[:-1], h, d))
        source_w = [ops.cast(v, x.dtype) for v in (self.key_w, self.value_w)]
        k, v = ops.split(project(x, ops.concatenate(source_w, axis=-1)), 2, axis=-1)
        # [..., h, d] x [..., d, n] -> [..., h, n]
        logits = ops.cast(ops.matmul(q, ops.swapaxes(k, -1, -2)), "float32")
        logits = logits + ops.expand_dims(mask_bias(mask), -2)
        y = ops.matmul(softmax32(logits, x.dtype), v)  # [..., h, d]
        # [..., h, d] -> [..., 1, h * d]
        y = ops.reshape(y, (*y.shape[:-2], 1, h * d))
        # [h, d] -> [h * d]
        gate_b = ops.reshape(ops.cast(self.gating_b, x.dtype), (h * d,))
        y = y * ops.sigmoid(project(x, gating_w) + gate_b)
        return project(y, output_w) + ops.cast(self.output_b, x.dtype)
