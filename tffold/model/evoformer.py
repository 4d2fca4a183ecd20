"""One block of the Evoformer and of the extra MSA stack."""

from __future__ import annotations

from typing import Any

import keras

from tffold.config import StackConfig
from tffold.model.module import DEFAULT_OPTIONS, Module, Options
from tffold.model.msa_attention import (
    MSAColumnAttention,
    MSAColumnGlobalAttention,
    MSARowAttentionWithPairBias,
    Transition,
)
from tffold.model.outer_product_mean import OuterProductMean
from tffold.model.primitives import dropout, dropout_masks
from tffold.model.recompute import keep, returned
from tffold.model.triangle_attention import TriangleAttention
from tffold.model.triangle_multiplication import TriangleMultiplication

Tensor = Any


class EvoformerBlock(Module):
    """One block (Algorithm 6, lines 2 to 10; Algorithm 18, lines 2 to 10).

        m_si += DropoutRowwise_0.15(MSARowAttentionWithPairBias({m_si}, {z_ij}))     (2)
        m_si += MSAColumnAttention({m_si})                                           (3)
        m_si += MSATransition({m_si})                                                (4)
        z_ij += OuterProductMean({m_si})                                             (5)
        z_ij += DropoutRowwise_0.25(TriangleMultiplicationOutgoing({z_ij}))          (6)
        z_ij += DropoutRowwise_0.25(TriangleMultiplicationIncoming({z_ij}))          (7)
        z_ij += DropoutRowwise_0.25(TriangleAttentionStartingNode({z_ij}))           (8)
        z_ij += DropoutColumnwise_0.25(TriangleAttentionEndingNode({z_ij}))          (9)
        z_ij += PairTransition({z_ij})                                               (10)

    With ``is_extra_msa`` line 3 is MSAColumnGlobalAttention, which makes it Algorithm 18. With
    ``outer_product_first`` line 5 comes before line 2, as in AlphaFold-Multimer (Evans et al.
    2021): what lines 2 to 4 make of the MSA reaches the pair in the next block.

    ``call((msa, pair), (msa_mask, pair_mask), key)``: ``msa`` [s, i, c_m],
    ``pair`` [i, j, c_z] -> the same. Dropout is on where a key is given.
    """

    def __init__(
        self,
        config: StackConfig,
        msa_channel: int,
        pair_channel: int,
        is_extra_msa: bool,
        name: str,
        divide_first: bool = False,
        outer_product_first: bool = False,
        options: Options = DEFAULT_OPTIONS,
    ):
        super().__init__(name)
        self.outer_product_first = outer_product_first
        c = self.config = config
        self.row_attention = MSARowAttentionWithPairBias(
            c.msa_row_attention, msa_channel, pair_channel, options=options
        )
        column = MSAColumnGlobalAttention if is_extra_msa else MSAColumnAttention
        self.column_attention = column(c.msa_column_attention, msa_channel, options=options)
        self.msa_transition = Transition(
            msa_channel, c.msa_transition_factor, "msa_transition", options=options
        )
        self.outer_product_mean = OuterProductMean(
            msa_channel,
            c.outer_product_channel,
            pair_channel,
            divide_first=divide_first,
            options=options,
        )
        hidden = c.triangle_multiplication_channel
        self.multiplication_outgoing = TriangleMultiplication(
            pair_channel, hidden, True, options=options
        )
        self.multiplication_incoming = TriangleMultiplication(
            pair_channel, hidden, False, options=options
        )
        self.attention_starting = TriangleAttention(
            c.triangle_attention, pair_channel, True, options=options
        )
        self.attention_ending = TriangleAttention(
            c.triangle_attention, pair_channel, False, options=options
        )
        self.pair_transition = Transition(
            pair_channel, c.pair_transition_factor, "pair_transition", options=options
        )

    def kept_specs(self, state: tuple[Tensor, Tensor]) -> list[tuple[tuple[int, ...], str]]:
        """Shapes and dtypes of what a call passes to ``keep``.

        Of all updates the outer product mean and the two attentions over the MSA take most
        arithmetic, and what is kept of each is one array of the MSA's or the pair's size.
        """
        msa, pair = ((tuple(x.shape), keras.backend.standardize_dtype(x.dtype)) for x in state)
        return [pair, msa, msa] if self.outer_product_first else [msa, msa, pair]

    def call(
        self,
        state: tuple[Tensor, Tensor],
        masks: tuple[Tensor, Tensor],
        key: Tensor | None = None,
    ) -> tuple[Tensor, Tensor]:
        msa, pair = state
        msa_mask, pair_mask = masks
        c = self.config
        row_rate = c.msa_row_attention.dropout_rate
        column_rate = c.msa_column_attention.dropout_rate
        multiplication_rate = c.triangle_multiplication_dropout_rate
        attention_rate = c.triangle_attention.dropout_rate
        num_row, num_res, c_m = msa.shape
        by_row, by_column = (1, num_res, pair.shape[-1]), (num_res, 1, pair.shape[-1])
        row, column, outgoing, incoming, starting, ending = dropout_masks(
            key,
            [(1, num_res, c_m), (num_row, 1, c_m), by_row, by_row, by_row, by_column],
            [row_rate, column_rate, *2 * [multiplication_rate], *2 * [attention_rate]],
        )

        if self.outer_product_first:
            pair = keep(pair + self.outer_product_mean(msa, msa_mask))
        msa = keep(msa + dropout(self.row_attention(msa, msa_mask, pair), row, row_rate))
        msa = keep(msa + dropout(self.column_attention(msa, msa_mask), column, column_rate))
        msa += self.msa_transition(msa)
        if not self.outer_product_first:
            pair = keep(pair + self.outer_product_mean(returned(msa, 0), msa_mask))
        update = self.multiplication_outgoing(pair, pair_mask)
        pair += dropout(update, outgoing, multiplication_rate)
        update = self.multiplication_incoming(pair, pair_mask)
        pair += dropout(update, incoming, multiplication_rate)
        pair += dropout(self.attention_starting(pair, pair_mask), starting, attention_rate)
        pair += dropout(self.attention_ending(pair, pair_mask), ending, attention_rate)
        pair += self.pair_transition(pair)
        return msa, pair
