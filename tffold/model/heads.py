"""THE heads table: what each head is made of and reads (supplement 1.9)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from keras import ops

from tffold.config import HeadsConfig, ModelConfig
from tffold.model.module import Module, Options, he_normal
from tffold.model.primitives import LayerNorm, Linear

Tensor = Any
NUM_ATOM = 37


class LogitsHead(Module):
    """p = softmax(Linear(x)), of any head that is one layer (supplement 1.9.7, 1.9.9, 1.9.10).

    [..., c] -> logits [..., num_output]; the losses and the metrics take the softmax or sigmoid.
    """

    def __init__(self, channel: int, num_output: int, name: str, options: Options):
        super().__init__(name)
        self.logits = Linear(channel, num_output, "logits", options.output_initializer)

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
            Options.of(config).output_initializer,
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
            Options.of(config).output_initializer,
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


class Head(NamedTuple):
    """One row of the table.

    ``make(config)`` makes the layer, None where the configuration has it off; ``reads`` names the
    representation it is given; ``edges(heads)`` are its inner bin edges in Å, which go out beside
    the logits under ``edges_name``.
    """

    make: Callable[[ModelConfig], Module | None]
    reads: str
    edges_name: str = ""
    edges: Callable[[HeadsConfig], Tensor] | None = None


def _masked_msa(config: ModelConfig) -> Module:
    num_output = config.heads.masked_msa_num_output
    return LogitsHead(config.msa_channel, num_output, "masked_msa_head", Options.of(config))


def _experimentally_resolved(config: ModelConfig) -> Module:
    name = "experimentally_resolved_head"
    return LogitsHead(config.single_channel, NUM_ATOM, name, Options.of(config))


def _predicted_aligned_error(config: ModelConfig) -> Module | None:
    if not config.heads.predicted_aligned_error:
        return None
    num_output = config.heads.predicted_aligned_error_num_bins
    name = "predicted_aligned_error_head"
    return LogitsHead(config.pair_channel, num_output, name, Options.of(config))


# Under their names the outputs, and the losses in ``tffold.losses.table``, are found.
HEADS: dict[str, Head] = {
    "distogram": Head(DistogramHead, "pair", "bin_edges", distogram_breaks),
    "masked_msa": Head(_masked_msa, "msa"),
    "predicted_lddt": Head(PredictedLDDTHead, "structure_module"),
    "experimentally_resolved": Head(_experimentally_resolved, "single"),
    "predicted_aligned_error": Head(
        _predicted_aligned_error, "pair", "breaks", predicted_aligned_error_breaks
    ),
}


def make_heads(config: ModelConfig) -> dict[str, Module]:
    """The layers of all heads that a configuration has on, by name."""
    made = {name: row.make(config) for name, row in HEADS.items()}
    return {name: layer for name, layer in made.items() if layer is not None}


def run_heads(
    layers: dict[str, Module], representations: dict[str, Tensor], config: HeadsConfig
) -> dict[str, dict[str, Tensor]]:
    """By head's name its ``logits`` and, of binned distances, their inner edges."""
    outputs = {}
    for name, layer in layers.items():
        row = HEADS[name]
        outputs[name] = {"logits": layer(representations[row.reads])}
        if row.edges is not None:
            outputs[name][row.edges_name] = row.edges(config)
    return outputs
