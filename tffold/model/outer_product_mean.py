"""From the MSA to the pair representation."""

from __future__ import annotations

from typing import Any

from keras import ops

from tffold.model.module import DEFAULT_OPTIONS, Module, Options, zeros
from tffold.model.primitives import LayerNorm, Linear
from tffold.model.slicing import ELEMENT_BYTES, MIB, sliced

Tensor = Any
NORM_EPSILON = 1e-3
LARGEST = 8  # times ``slice_mib`` that a slice may take here


def slice_limit(slice_mib: int, right_bytes: int) -> int:
    """MiB of a slice: every slice reads all of the right side, and adds to all of its gradient.

    With thousands of rows that side is far larger than a slice, and many small slices would move
    little else. So a slice is as large as that side is, within bounds. 0 still means no limit.
    """
    return min(max(slice_mib, right_bytes // MIB), LARGEST * slice_mib)


class OuterProductMean(Module):
    """Mean over the MSA rows of outer products of two projections (Algorithm 10).

        m_si <- LayerNorm(m_si)                       (1)
        a_si, b_si = Linear(m_si)                     (2)
        o_ij = flatten(mean_s(a_si ⊗ b_sj))           (3)
        z_ij = Linear(o_ij)                           (4)

    The mean is over the rows whose mask is 1 at both i and j.

    ``msa`` [s, i, c_m], ``mask`` [s, i] -> [i, j, c_z].

    DISCREPANCY: in DeepMind's code, and so here without ``divide_first``, the division by
    1e-3 + number of rows comes after (4), bias and all.  Without rows, as alignments that fit
    into the clusters leave the extra stack, every pair is then given 1,000 times the bias, and
    in training from scratch that one bias takes most of the gradient.  ``divide_first`` is the
    paper's order: the bias is added once, whatever the number of rows.
    """

    def __init__(
        self,
        channel: int,
        outer_channel: int,
        pair_channel: int,
        name: str = "outer_product_mean",
        divide_first: bool = False,
        options: Options = DEFAULT_OPTIONS,
    ):
        super().__init__(name)
        self.options = options
        self.outer_channel, self.pair_channel = outer_channel, pair_channel
        self.divide_first = divide_first
        self.layer_norm_input = LayerNorm(channel, "layer_norm_input")
        self.left_projection = Linear(channel, outer_channel, "left_projection")
        self.right_projection = Linear(channel, outer_channel, "right_projection")

    def make_weights(self) -> None:
        c = self.outer_channel
        self.output_w = self.make(
            "output_w", (c, c, self.pair_channel), self.options.output_initializer
        )
        self.output_b = self.make("output_b", (self.pair_channel,), zeros)

    def call(self, msa: Tensor, mask: Tensor) -> Tensor:
        s, num_res, _ = msa.shape
        c = self.outer_channel
        weights = ops.cast(mask, msa.dtype)[:, :, None]
        act = self.layer_norm_input(msa)
        left = weights * self.left_projection(act)
        right = weights * self.right_projection(act)
        # [s, i, c] -> [i, c, s]
        left = ops.transpose(left, (1, 2, 0))
        # [s, j, d] -> [s, j * d]
        right = ops.reshape(right, (s, num_res * c))

        def product(left: Tensor, right: Tensor) -> Tensor:
            rows = left.shape[0]
            # [i * c, s] x [s, j * d] -> [i * c, j * d]
            outer = ops.matmul(ops.reshape(left, (rows * c, s)), right)
            # [i * c, j * d] -> [i, j, c, d] -> [i * j, c * d]
            outer = ops.transpose(ops.reshape(outer, (rows, c, num_res, c)), (0, 2, 1, 3))
            outer = ops.reshape(outer, (rows * num_res, c * c))
            # [c, d, z] -> [c * d, z]
            output_w = ops.reshape(ops.cast(self.output_w, msa.dtype), (c * c, self.pair_channel))
            pair = ops.matmul(outer, output_w)
            if not self.divide_first:
                pair += ops.cast(self.output_b, msa.dtype)
            # [i * j, z] -> [i, j, z]
            return ops.reshape(pair, (rows, num_res, self.pair_channel))

        pair = sliced(
            (self,),
            product,
            (left,),
            shared=(right,),
            row_size=num_res * c * c,
            slice_mib=slice_limit(self.options.slice_mib, ELEMENT_BYTES * s * num_res * c),
            row_shape=(num_res, self.pair_channel),
        )
        mask32 = ops.cast(mask, "float32")
        norm = ops.matmul(ops.transpose(mask32), mask32)[:, :, None]
        mean = ops.cast(pair, "float32") / (NORM_EPSILON + norm)
        if self.divide_first:  # a linear map without its bias can as well come before
            mean += ops.cast(self.output_b, "float32")
        return ops.cast(mean, msa.dtype)
