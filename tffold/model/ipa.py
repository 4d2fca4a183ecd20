"""Invariant point attention."""

from __future__ import annotations

import math
from typing import Any

from keras import ops

from tffold.config import StructureModuleConfig
from tffold.geometry.rigid import Rigid, apply, expand, invert_apply
from tffold.model.attention import softmax32
from tffold.model.module import DEFAULT_OPTIONS, Module, Options, constant
from tffold.model.primitives import Linear

Tensor = Any
MASK_BIAS = 1e5
NORM_EPSILON = 1e-8
SOFTPLUS_INVERSE_OF_ONE = math.log(math.e - 1.0)


class PointProjection(Module):
    """Points that each residue places in its own frame (Algorithm 22, lines 2 and 3).

        x_i^hp = T_i Linear(s_i)^hp

    ``single`` [i, c_s], ``frames`` of shape [i] -> global points [i, h, p, 3].
    """

    def __init__(self, channel: int, num_head: int, num_point: int, name: str):
        super().__init__(name)
        self.point_projection = Linear(channel, (num_head, 3 * num_point), "point_projection")

    def call(self, single: Tensor, frames: Rigid) -> Tensor:
        flat = self.point_projection(single)
        # [i, h, 3 * p] -> [i, h, 3, p] -> [i, h, p, 3]
        points = ops.swapaxes(ops.reshape(flat, (*flat.shape[:2], 3, -1)), 2, 3)
        return apply(expand(frames, 2), points)


class InvariantPointAttention(Module):
    """Attention over residues by channels, pair and points in space (Algorithm 22).

        q_i^h, k_i^h, v_i^h = Linear(s_i)                                        (1)
        q_i^hp, k_i^hp = Linear(s_i), points in i's frame                        (2)
        v_i^hp = Linear(s_i), points in i's frame                                (3)
        b_ij^h = Linear(z_ij)                                                    (4)
        w_C = sqrt(2 / (9 N_query_points))                                       (5)
        w_L = sqrt(1 / 3)                                                        (6)
        a_ij^h = softmax_j(w_L (1 / sqrt(d) q_i^h · k_j^h + b_ij^h
                 - γ^h w_C / 2 Σ_p |T_i q_i^hp - T_j k_j^hp|²))                  (7)
        õ_i^h = Σ_j a_ij^h z_ij                                                  (8)
        o_i^h = Σ_j a_ij^h v_j^h                                                 (9)
        o_i^hp = T_i^-1 Σ_j a_ij^h (T_j v_j^hp)                                  (10)
        out_i = Linear(concat_hp(õ_i^h, o_i^h, o_i^hp, |o_i^hp|))                (11)

    γ^h = softplus of ``trainable_point_weights``. Masked j get no weight in line 7. The three
    weights of line 7 are folded into each term; line 11 concatenates channels, x, y and z of
    the points, lengths, pair, as DeepMind's weights want it.

    With ``separate_projections`` queries, keys and values have a Linear each, as in
    AlphaFold-Multimer, else keys and values share one; the points' channels are ordered otherwise.

    DISCREPANCY: the projections of lines 1 to 4 have biases, as DeepMind's parameters do; the
    paper's have none. Nor has line 1 with ``separate_projections``.

    DISCREPANCY: DeepMind's multimer code bounds the lengths of line 11 by 1e-8 from below; here
    they are sqrt(|o|² + 1e-8) in both, which is another number for points at their frame's origin.

    ``single`` [i, c_s], ``pair`` [i, j, c_z], ``mask`` [i], ``frames`` of
    shape [i] in model units -> [i, c_s]. Unchanged by a global rotation or
    translation of the frames. Runs in float32.
    """

    def __init__(
        self,
        config: StructureModuleConfig,
        single_channel: int,
        pair_channel: int,
        options: Options = DEFAULT_OPTIONS,
    ):
        super().__init__("invariant_point_attention")
        c = self.config = config
        h = c.num_head
        if c.separate_projections:
            sizes = {"q": c.num_scalar_qk, "k": c.num_scalar_qk, "v": c.num_scalar_v}
            self.scalar_projections = [
                Linear(single_channel, (h, d), f"{x}_scalar_projection", bias_initializer=None)
                for x, d in sizes.items()
            ]
            sizes = {"q": c.num_point_qk, "k": c.num_point_qk, "v": c.num_point_v}
            self.point_projections = [
                PointProjection(single_channel, h, p, f"{x}_point_projection")
                for x, p in sizes.items()
            ]
        else:
            self.q_scalar = Linear(single_channel, h * c.num_scalar_qk, "q_scalar")
            scalar = h * (c.num_scalar_qk + c.num_scalar_v)
            self.kv_scalar = Linear(single_channel, scalar, "kv_scalar")
            self.q_point_local = Linear(single_channel, h * 3 * c.num_point_qk, "q_point_local")
            points = h * 3 * (c.num_point_qk + c.num_point_v)
            self.kv_point_local = Linear(single_channel, points, "kv_point_local")
        self.attention_2d = Linear(pair_channel, h, "attention_2d")
        features = h * (c.num_scalar_v + 4 * c.num_point_v + pair_channel)
        self.output_projection = Linear(
            features, single_channel, "output_projection", options.output_initializer
        )

    def make_weights(self) -> None:
        self.trainable_point_weights = self.make(
            "trainable_point_weights", (self.config.num_head,), constant(SOFTPLUS_INVERSE_OF_ONE)
        )

    def _points(self, flat: Tensor, frames: Rigid) -> Tensor:
        """Local to global points: [i, 3 * h * p] -> [i, h, p, 3]."""
        num_res = flat.shape[0]
        # [i, 3 * h * p] -> [i, 3, h * p] -> [i, h * p, 3]
        points = ops.swapaxes(ops.reshape(flat, (num_res, 3, -1)), 1, 2)
        points = apply(expand(frames), points)
        # [i, h * p, 3] -> [i, h, p, 3]
        return ops.reshape(points, (num_res, self.config.num_head, -1, 3))

    def _projections(self, single: Tensor, frames: Rigid) -> tuple[Tensor, ...]:
        """Lines 1 to 3: q, k, v [h, i, d] and their global points [i, h, p, 3]."""
        c, h = self.config, self.config.num_head
        if c.separate_projections:
            # [i, h, d] -> [h, i, d]
            scalars = (ops.transpose(layer(single), (1, 0, 2)) for layer in self.scalar_projections)
            return *scalars, *(layer(single, frames) for layer in self.point_projections)
        num_res = single.shape[0]
        # [i, h * d] -> [i, h, d] -> [h, i, d]
        q = ops.transpose(ops.reshape(self.q_scalar(single), (num_res, h, -1)), (1, 0, 2))
        kv = ops.transpose(ops.reshape(self.kv_scalar(single), (num_res, h, -1)), (1, 0, 2))
        k, v = kv[..., : c.num_scalar_qk], kv[..., c.num_scalar_qk :]
        q_points = self._points(self.q_point_local(single), frames)
        kv_points = self._points(self.kv_point_local(single), frames)
        k_points, v_points = kv_points[:, :, : c.num_point_qk], kv_points[:, :, c.num_point_qk :]
        return q, k, v, q_points, k_points, v_points

    def call(self, single: Tensor, pair: Tensor, mask: Tensor, frames: Rigid) -> Tensor:
        c, h = self.config, self.config.num_head
        num_res = single.shape[0]
        q, k, v, q_points, k_points, v_points = self._projections(single, frames)

        # Each of the three logit terms has variance 1/3 at the start.
        scalar_weight = math.sqrt(1.0 / (3 * c.num_scalar_qk))
        point_weight = math.sqrt(1.0 / (3 * c.num_point_qk * 9.0 / 2.0))
        pair_weight = math.sqrt(1.0 / 3.0)
        logits = ops.matmul(q * scalar_weight, ops.swapaxes(k, -1, -2))
        # [i, 1, h, p, 3] - [1, j, h, p, 3] -> [i, j, h]
        distance_sq = ops.sum(ops.square(q_points[:, None] - k_points[None]), axis=(-1, -2))
        head_weight = ops.convert_to_tensor(self.trainable_point_weights)
        head_weight = point_weight * ops.softplus(head_weight)
        pair_logits = pair_weight * self.attention_2d(pair) - 0.5 * head_weight * distance_sq
        # [i, j, h] -> [h, i, j]
        logits = logits + ops.transpose(pair_logits, (2, 0, 1))
        logits = logits - MASK_BIAS * (1.0 - mask[:, None] * mask[None, :])
        weights = softmax32(logits, single.dtype)

        # [h, i, j] x [h, j, d] -> [h, i, d] -> [i, h * d]
        scalar = ops.transpose(ops.matmul(weights, v), (1, 0, 2))
        scalar = ops.reshape(scalar, (num_res, -1))
        # [j, h, p, 3] -> [h, j, p * 3]
        values = ops.reshape(ops.transpose(v_points, (1, 0, 2, 3)), (h, num_res, -1))
        # [h, i, p * 3] -> [i, h * p, 3]
        points = ops.transpose(ops.matmul(weights, values), (1, 0, 2))
        points = ops.reshape(points, (num_res, -1, 3))
        points = invert_apply(expand(frames), points)
        norms = ops.sqrt(NORM_EPSILON + ops.sum(ops.square(points), axis=-1))
        # [i, h, j] x [i, j, c_z] -> [i, h, c_z] -> [i, h * c_z]
        over_pair = ops.matmul(ops.transpose(weights, (1, 0, 2)), pair)
        over_pair = ops.reshape(over_pair, (num_res, -1))
        features = [scalar, *(points[..., x] for x in range(3)), norms, over_pair]
        return self.output_projection(ops.concatenate(features, axis=-1))
