"""The bundled reference case: a small network with every module on a few residues of a real chain.

``reference.npz`` holds the batch and what this very code computed for it on a processor, in
float32, uncompiled; the golden tests hold that code to DeepMind's numbers. Weights are made by
rule, not stored: a normal draw seeded by the checksum of the parameter's name. It is made anew,
after a change that is meant to change numbers, with

    python -m tffold.check.reference tests/golden/case_a.batch.npz
"""

from __future__ import annotations

import sys
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

from tffold.config import AttentionConfig, Config, ModelConfig, StackConfig, TemplateConfig
from tffold.losses.table import compute_losses
from tffold.model.alphafold import AlphaFold
from tffold.model.module import parameter_key
from tffold.train.optimizer import TrainState, adam_update, unflatten
from tffold.train.step import TrainingStep
from tffold.train.strategy import Cluster

FILE = Path(__file__).with_name("reference.npz")
NUM_RES = 24
# After more steps rounding decides: the sixth loss differs by 1.5e-3 between two compilations.
CURVE_STEPS, LEARNING_RATE = 4, 1e-3
BATCH, OUTPUTS, LOSSES, GRADIENTS, CURVE = "batch/", "output/", "loss/", "gradient/", "curve"


def reference_config(bfloat16: bool = False) -> Config:
    """Every module, without dropout, at widths that are multiples of 8."""

    def stack(num_block: int, channel: int) -> StackConfig:
        return StackConfig(
            num_block=num_block,
            msa_row_attention=AttentionConfig(2, channel),
            msa_column_attention=AttentionConfig(2, channel),
            msa_transition_factor=2,
            outer_product_channel=8,
            triangle_multiplication_channel=16,
            triangle_multiplication_dropout_rate=0.0,
            triangle_attention=AttentionConfig(2, 16),
            pair_transition_factor=2,
        )

    model = ModelConfig(
        msa_channel=32,
        pair_channel=16,
        single_channel=32,
        extra_msa_channel=16,
        num_recycle=0,
        evoformer=stack(2, 32),
        extra_msa_stack=stack(1, 16),
        template=TemplateConfig(
            channel=16,
            num_block=1,
            triangle_multiplication_channel=16,
            triangle_multiplication_dropout_rate=0.0,
            triangle_attention=AttentionConfig(2, 16),
            pointwise_attention=AttentionConfig(2, 16),
        ),
        zero_init=False,
        bfloat16=bfloat16,
    )
    structure = model.structure_module
    structure.num_layer, structure.num_head, structure.torsion_channel = 2, 4, 16
    structure.dropout_rate = 0.0
    model.heads.predicted_lddt_num_channel = 16
    model.heads.predicted_aligned_error = True
    config = Config(model=model)
    config.loss.experimentally_resolved_weight = 0.01
    config.loss.predicted_aligned_error_weight = 0.1
    config.loss.violation_weight = 1.0
    config.train.batch_size = 1
    config.train.learning_rate = LEARNING_RATE
    return config


def parameter(key: str, shape: tuple[int, ...]) -> np.ndarray:
    """The weight of that name."""
    random = np.random.RandomState(zlib.crc32(key.encode()))
    value = 0.05 * random.standard_normal(shape) + float(key.endswith("//scale"))
    return value.astype(np.float32)


def direction(key: str, size: int) -> np.ndarray:
    """+1 and -1: what a gradient is held against beside its length."""
    random = np.random.RandomState(zlib.crc32(key.encode()) ^ 1)
    return random.choice(np.array([-1.0, 1.0]), size)


class Reference:
    """The case's network and step on a cluster's first replica.

    Args:
      cluster: where it runs; each replica computes the same.
      stored: the content of ``reference.npz``, or at least its batch.
      jit: whether XLA compiles it.
    """

    def __init__(
        self,
        cluster: Cluster,
        stored: dict[str, np.ndarray],
        bfloat16: bool = False,
        jit: bool = True,
    ) -> None:
        self.cluster, self.config = cluster, reference_config(bfloat16)
        self.batch = {
            name.removeprefix(BATCH): tf.constant(value)
            for name, value in stored.items()
            if name.startswith(BATCH)
        }
        with cluster.strategy.scope():
            self.network = AlphaFold(self.config.model)
        variables = self.network.trainable_variables
        self.keys = [parameter_key(v.path) for v in variables]
        self.start = [
            tf.constant(parameter(key, tuple(v.shape)))
            for key, v in zip(self.keys, variables, strict=True)
        ]
        step = TrainingStep(self.network, self.config, self._losses, self._outputs)
        zero = tf.constant(0)
        compiled = tf.function(
            lambda parameters: step.example_gradients(parameters, self.batch, zero, zero),
            autograph=False,
            jit_compile=jit,
        )
        self._gradients = tf.function(
            lambda parameters: cluster.strategy.run(compiled, (parameters,)), autograph=False
        )
        self._update = tf.function(
            lambda state, gradient: adam_update(
                state, gradient, LEARNING_RATE, tf.constant(True), self.config.train
            )[0],
            autograph=False,
        )

    def _losses(self, outputs: Any, batch: Any) -> tuple[Any, dict[str, Any]]:
        total, parts = compute_losses(outputs, batch, self.config.loss, self.config.model.heads)
        return total, {name: value for name, value in parts.items() if "/metrics/" not in name}

    @staticmethod
    def _outputs(outputs: Any, batch: Any) -> dict[str, Any]:
        """What is stored: in the order in which the network computes it."""
        representations = outputs["representations"]
        found = {name: representations[name] for name in ("msa", "pair", "single")}
        found["positions"] = outputs["structure_module"]["final_atom_positions"]
        return found | {
            name: head["logits"]
            for name, head in outputs.items()
            if isinstance(head, dict) and "logits" in head
        }

    def gradients(self, parameters: list[tf.Tensor]) -> tuple[tf.Tensor, dict[str, tf.Tensor]]:
        """The clipped gradient in one vector, and outputs and losses by name."""
        clipped, scalars, _ = self.cluster.from_replicas(self._gradients(parameters))[0]
        return clipped, scalars

    def answers(self) -> dict[str, np.ndarray]:
        """Outputs, losses and gradients, unclipped, under their stored names."""
        clipped, scalars = self.gradients(self.start)
        found = {}
        for name, value in scalars.items():
            kind, _, rest = name.partition("/")
            if kind == "metric":
                found[OUTPUTS + rest] = value.numpy()
            elif kind == "loss":
                found[LOSSES + (rest or "total")] = value.numpy()
        norm = float(scalars["optim/gradient_norm"])
        factor = max(1.0, norm / self.config.train.clip_norm)
        arrays = unflatten(clipped * factor, self.start)
        gradients = zip(self.keys, arrays, strict=True)
        return found | {GRADIENTS + key: array.numpy() for key, array in gradients}

    def curve(self, steps: int = CURVE_STEPS) -> Iterator[float]:
        """The loss before each of the first training steps."""
        zeros = tf.zeros([sum(int(tf.size(p)) for p in self.start)])
        state = TrainState(self.start, zeros, zeros, self.start, tf.constant(0), tf.constant(0))
        for _ in range(steps):
            gradient, scalars = self.gradients(state.parameters)
            yield float(scalars["loss"])
            state = self._update(state, tf.identity(gradient))


def summary(key: str, gradient: np.ndarray) -> np.ndarray:
    """What is stored of a gradient: its length, and its product with a fixed direction."""
    flat = gradient.astype(np.float64).reshape(-1)
    return np.array([np.linalg.norm(flat), flat @ direction(key, flat.size)])


def load() -> dict[str, np.ndarray]:
    """The stored case."""
    with np.load(FILE) as file:
        return dict(file)


def main(batch_file: str) -> None:
    """Makes ``reference.npz`` from a batch [passes, ...] of a longer chain."""
    full = dict(np.load(batch_file))
    length = full["aatype"].shape[1]
    stored = {}
    for name, value in full.items():
        # The first pass, as if it were the last; the first residues.
        value = value[:1]
        for axis in range(1, value.ndim):
            if value.shape[axis] == length:
                value = value.take(np.arange(NUM_RES), axis)
        stored[BATCH + name] = value
    stored[BATCH + "num_iter_recycling"][:] = 0
    stored[BATCH + "seq_length"][:] = NUM_RES
    reference = Reference(Cluster(tf.distribute.get_strategy(), 0, 1), stored, jit=False)
    for name, value in reference.answers().items():
        key = name.removeprefix(GRADIENTS)
        stored[name] = summary(key, value) if name.startswith(GRADIENTS) else value
    stored[CURVE] = np.array(list(reference.curve()))
    np.savez_compressed(FILE, **stored)


if __name__ == "__main__":
    main(sys.argv[1])
