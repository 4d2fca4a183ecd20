"""Triangle multiplicative update of the pair representation."""

from __future__ import annotations

from typing import Any

from keras import ops

from tffold.model.module import DEFAULT_OPTIONS, Module, Options, ones, zeros
from tffold.model.primitives import LayerNorm, Linear, layer_norm
from tffold.model.slicing import ELEMENT_BYTES, num_slices, sliced

Tensor = Any


class TriangleMultiplication(Module):
    """Triangle update with outgoing or incoming edges (Algorithms 11 and 12).

        z_ij <- LayerNorm(z_ij)                                              (1)
        a_ij, b_ij = sigmoid(Linear(z_ij)) ⊙ Linear(z_ij)                    (2)
        g_ij = sigmoid(Linear(z_ij))                                         (3)
        outgoing: out_ij = g_ij ⊙ Linear(LayerNorm(Σ_k a_ik ⊙ b_jk))         (4)
        incoming: out_ij = g_ij ⊙ Linear(LayerNorm(Σ_k a_ki ⊙ b_kj))         (4)

    DeepMind's "left" is a and its "right" b in the first, b and a in the second.
    Masked edges are zero in a and b. With ``fuse_projections`` the weights of left and right lie
    in one array, left first, as in the third version of AlphaFold-Multimer; nothing else differs.

    ``pair`` [..., i, j, c], ``mask`` [..., i, j] -> [..., i, j, c]. Between
    the two projections everything is laid out channels first, so that the
    sum over the third residue is one plain batched matrix product.
    """

    def __init__(
        self,
        channel: int,
        hidden_channel: int,
        outgoing: bool,
        options: Options = DEFAULT_OPTIONS,
    ):
        direction = "outgoing" if outgoing else "incoming"
        super().__init__(f"triangle_multiplication_{direction}")
        self.outgoing = outgoing
        self.channel, self.hidden_channel = channel, hidden_channel
        c, d = channel, hidden_channel
        self.fused, self.slice_mib = options.fuse_projections, options.slice_mib
        if self.fused:
            self.layer_norm_input = LayerNorm(c, "left_norm_input")
            self.projection = Linear(c, 2 * d, "projection")
            self.gate = Linear(c, 2 * d, "gate", zeros, ones)
            self.center_layer_norm = LayerNorm(d, "center_norm")
        else:
            self.layer_norm_input = LayerNorm(c, "layer_norm_input")
            self.left_projection = Linear(c, d, "left_projection")
            self.right_projection = Linear(c, d, "right_projection")
            self.left_gate = Linear(c, d, "left_gate", zeros, ones)
            self.right_gate = Linear(c, d, "right_gate", zeros, ones)
            self.center_layer_norm = LayerNorm(d, "center_layer_norm")
        output = options.output_initializer
        self.output_projection = Linear(d, c, "output_projection", output)
        self.gating_linear = Linear(c, c, "gating_linear", zeros, ones)

    def _edges(self, x: Tensor, mask: Tensor) -> list[Tensor]:
        """Gated, masked left and right edges, each [..., d, i, j]."""
        if self.fused:
            layers = (self.projection, self.gate)
        else:
            layers = (self.left_projection, self.right_projection, self.left_gate, self.right_gate)
        kernel = ops.concatenate([ops.cast(m.kernel, x.dtype) for m in layers], axis=-1)
        bias = ops.concatenate([ops.cast(m.bias, x.dtype) for m in layers], axis=-1)
        # [c, 4 d] x [..., i, j, c] -> [4 d, ..., i, j]
        y = ops.tensordot(kernel, x, axes=((0,), (len(x.shape) - 1,)))
        y = y + ops.reshape(bias, (-1,) + (1,) * (len(y.shape) - 1))
        value, gate = ops.split(y, 2, axis=0)
        edges = ops.cast(mask, x.dtype) * value * ops.sigmoid(gate)
        edges = ops.split(edges, 2, axis=0)
        if len(x.shape) == 4:
            # [d, t, i, j] -> [t, d, i, j]
            edges = [ops.swapaxes(e, 0, 1) for e in edges]
        return edges

    def call(self, pair: Tensor, mask: Tensor) -> Tensor:
        num_res = pair.shape[-2]
        row_size = 4 * self.hidden_channel * num_res
        count = num_slices(num_res, ELEMENT_BYTES * row_size, self.slice_mib)
        x = self.layer_norm_input(pair)
        if count == 1 or len(pair.shape) == 4:
            left, right = self._edges(x, mask)
            if not self.outgoing:
                left, right = ops.swapaxes(right, -1, -2), ops.swapaxes(left, -1, -2)
            return self._multiply(left, right, x)
        return self._in_slices(x, mask, row_size)

    def _in_slices(self, x: Tensor, mask: Tensor, row_size: int) -> Tensor:
        """The same by rows of edges and then by rows of the result.

        Neither the four projections nor the product is ever whole; the backward pass makes both
        anew.
        """

        def project_rows(x: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
            # [d, i, k] -> [i, d, k]
            return tuple(ops.swapaxes(edge, 0, 1) for edge in self._edges(x, mask))

        def multiply_rows(left: Tensor, x: Tensor, right: Tensor) -> Tensor:
            # [i, d, k], [j, d, k] -> [d, i, k], [d, j, k]
            return self._multiply(ops.swapaxes(left, 0, 1), ops.swapaxes(right, 0, 1), x)

        sizes = {"row_size": row_size, "slice_mib": self.slice_mib}
        edge_shape = (self.hidden_channel, x.shape[0])
        if self.outgoing:
            rows = x, mask
        else:  # the sum is over rows: they become columns
            rows = ops.swapaxes(x, 0, 1), ops.transpose(mask)
        left, right = sliced(
            (self,), project_rows, rows[:1], rows[1:], row_shapes=2 * [edge_shape], **sizes
        )
        if not self.outgoing:
            left, right = right, left
        return sliced(
            (self,), multiply_rows, (left, x), shared=(right,), row_shape=x.shape[1:], **sizes
        )

    def _multiply(self, left: Tensor, right: Tensor, x: Tensor) -> Tensor:
        """Line 4: ``left`` [..., d, i, k], ``right`` [..., d, j, k], ``x`` [..., i, j, c]."""
        act = ops.matmul(left, ops.swapaxes(right, -1, -2))
        norm = self.center_layer_norm
        # [d] -> [d, 1, 1]
        scale, offset = (ops.convert_to_tensor(v)[:, None, None] for v in (norm.scale, norm.offset))
        act = layer_norm(act, scale, offset, axis=-3)
        out_w = ops.cast(self.output_projection.kernel, x.dtype)
        # [..., d, i, j] x [d, c] -> [..., i, j, c]
        act = ops.tensordot(act, out_w, axes=((len(act.shape) - 3,), (0,)))
        act = act + ops.cast(self.output_projection.bias, x.dtype)
        return act * ops.sigmoid(self.gating_linear(x))
