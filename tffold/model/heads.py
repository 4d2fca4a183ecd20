"""The heads: logits from the representations (supplement 1.9)."""

from __future__ import annotations

from typing import Any

from keras import ops

from tffold.config import HeadsConfig, ModelConfig
from tffold.model.module import Module, he_normal, output_initializer
from tffold.model.primitives import LayerNorm, Linear

Tensor = Any


class LogitsHead(Module):
    """p = softmax(Linear(x)), of any head that is one layer (supplement 1.9.7, 1.9.9, 1.9.10).

    [..., c] -> logits [..., num_output]; the losses and the metrics take the softmax or sigmoid.
    """

    def __init__(self, channel: int, num_output: int, name: str, zero_init: bool):
        super().__init__(name)
        self.logits = Linear(channel, num_output, "logits", output_initializer(zero_init))

    def call(self, x: Tensor) -> Tensor:
        return self.logits(x)


class DistogramHead(Module):
    """p_ij = softmax(Linear(z_ij) + Linear(z_ji)), distances (supplement 1.9.8).

    [i, j, c_z] -> logits [i, j, 64]; the loss and the metrics take the softmax.
    """

    def __init__(self, config: ModelConfig):
        super().__init__("distogram_head")
        self.half_logits = Linear(
            config.pair_channel,
            config.heads.distogram_num_bins,
            "half_logits",
            output_initializer(config.zero_init),
        )

    def call(self, pair: Tensor) -> Tensor:
        half = self.half_logits(pair)
        return half + ops.swapaxes(half, 0, 1)


class PredictedLDDTHead(Module):
    """Per-residue confidence (Algorithm 29, lines 1 and 2).

        a_i = relu(Linear(relu(Linear(LayerNorm(s_i)))))                (1)
        p_i = softmax(Linear(a_i))                                      (2)

    [i, c_s] -> logits [i, 50]; the loss and the metrics take the softmax.
    """

    def __init__(self, config: ModelConfig):
        super().__init__("predicted_lddt_head")
        c, d = config.single_channel, config.heads.predicted_lddt_num_channel
        self.input_layer_norm = LayerNorm(c, "input_layer_norm")
        self.act_0 = Linear(c, d, "act_0", he_normal)
        self.act_1 = Linear(d, d, "act_1", he_normal)
        self.logits = Linear(
            d,
            config.heads.predicted_lddt_num_bins,
            "logits",
            output_initializer(config.zero_init),
        )

    def call(self, act: Tensor) -> Tensor:
        act = ops.relu(self.act_0(self.input_layer_norm(act)))
        return self.logits(ops.relu(self.act_1(act)))


def distogram_breaks(config: HeadsConfig) -> Tensor:
    """The inner bin edges of the distogram in Å, [63]."""
    first, last = config.distogram_first_break, config.distogram_last_break
    return ops.linspace(first, last, config.distogram_num_bins - 1)


def predicted_aligned_error_breaks(config: HeadsConfig) -> Tensor:
    """The inner bin edges of the predicted aligned error in Å, [63]."""
    last = config.predicted_aligned_error_max_bin
    return ops.linspace(0.0, last, config.predicted_aligned_error_num_bins - 1)
