"""One compiled pass of a small network on a real batch, with its gradient."""

from __future__ import annotations

import keras
import numpy as np
import tensorflow as tf
from tiny import real_batch

from tffold.config import ModelConfig
from tffold.model.alphafold import AlphaFold, select_pass


def loss_and_gradients(
    config: ModelConfig, key: tuple[int, int] | None
) -> tuple[dict[str, np.ndarray], list[np.ndarray]]:
    """Some outputs, and the gradient of every weight of a loss that most outputs enter."""
    model = AlphaFold(config, seed=3)
    batch = {k: tf.constant(v) for k, v in select_pass(real_batch(), 0).items()}
    weights = [tf.convert_to_tensor(v) for v in model.trainable_variables]

    @tf.function(autograph=False, jit_compile=True)
    def run(weights):
        scope = keras.StatelessScope(list(zip(model.trainable_variables, weights, strict=True)))
        with tf.GradientTape() as tape:
            tape.watch(weights)
            with scope:
                previous = model.first_previous(20)
                outputs = model.one_pass(batch, previous, None if key is None else tf.constant(key))
            heads = ("distogram", "masked_msa", "predicted_lddt", "experimentally_resolved")
            loss = sum(tf.reduce_sum(tf.square(outputs[h]["logits"])) for h in heads)
            loss += tf.reduce_sum(outputs["structure_module"]["final_atom14_positions"])
            loss += tf.reduce_sum(tf.square(outputs["structure_module"]["traj"]))
        kept = {
            "msa": outputs["representations"]["msa"],
            "traj": outputs["structure_module"]["traj"],
        }
        unconnected = tf.UnconnectedGradients.ZERO
        return kept, tape.gradient(loss, weights, unconnected_gradients=unconnected)

    kept, gradients = run(weights)
    return {k: v.numpy() for k, v in kept.items()}, [g.numpy() for g in gradients]
