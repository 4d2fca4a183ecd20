"""Forward passes for validation and prediction: compiled once for each shape, weights passed in."""

from __future__ import annotations

import functools
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from tffold.model.alphafold import AlphaFold, host_passes, next_previous

Features = Mapping[str, np.ndarray | tf.Tensor]
CA = 1  # atom37


class ForwardProgram:
    """One recycling pass of ``network`` as an XLA program of features and weights.

    The same program serves every pass, any number of recycles and any weights (averaged or not);
    it is compiled once for each shape of the features.

    Args:
      network: a built network; its own weights are not used.
    """

    def __init__(self, network: AlphaFold) -> None:
        self.network = network
        self.compiled_pass = tf.function(self.run_pass, autograph=False, jit_compile=True)

    @property
    def num_compiled(self) -> int:
        """For how many shapes it was compiled so far."""
        return self.compiled_pass.experimental_get_tracing_count()

    def run_pass(
        self, parameters: list[tf.Tensor], batch: Features, previous: Features
    ) -> tuple[dict[str, Any], dict[str, tf.Tensor], tf.Tensor]:
        """What is compiled: one pass without dropout.

        Args:
          parameters: in the order of ``network.trainable_variables``.
          batch: features [e, ...] of one pass, with e samples of the MSA to ensemble.
          previous: what the pass before handed over.

        Returns:
          The network's outputs; what the next pass takes over; the root mean square difference
          (Å) of the Cα distances between this pass and the one before.
        """
        variables = self.network.trainable_variables
        with keras.StatelessScope(list(zip(variables, parameters, strict=True))):
            outputs = self.network.ensembled_pass(batch, previous)
        after = next_previous(outputs)
        mask = tf.cast(batch["seq_mask"][0], tf.float32)
        change = ca_distance_change(previous["prev_pos"], after["prev_pos"], mask)
        return outputs, after, change

    def passes(
        self,
        parameters: Sequence[Any],
        features: Features,
        num_recycle: int | None = None,
        num_ensemble: int = 1,
    ) -> Iterator[tuple[dict[str, Any], float]]:
        """Pass after pass: outputs, and by how much the structure changed (Algorithm 30).

        The outputs are tensors, the change is in Å.
        ``features`` [c * e, ...] with the passes, and in each the ensemble's samples, in front;
        ``num_recycle``: how many passes come before the last (default: as many as there are).
        """
        parameters = [tf.convert_to_tensor(p) for p in parameters]
        count = features["aatype"].shape[0] // num_ensemble
        last = count - 1 if num_recycle is None else num_recycle

        def batch(index: int) -> dict[str, tf.Tensor]:
            part = slice(index * num_ensemble, (index + 1) * num_ensemble)
            return {name: tf.convert_to_tensor(x[part]) for name, x in features.items()}

        run_pass = functools.partial(self.compiled_pass, parameters)
        first = self.network.first_previous(features["aatype"].shape[1])
        for outputs, change in host_passes(run_pass, first, map(batch, range(last + 1))):
            yield outputs, float(change)
            del outputs  # not held beside the next pass's

    def predict(
        self,
        parameters: Sequence[Any],
        features: Features,
        num_recycle: int | None = None,
        num_ensemble: int = 1,
        tolerance: float = 0.0,
    ) -> tuple[dict[str, Any], list[float]]:
        """The last pass's outputs as NumPy arrays, and each pass's change (Å).

        With a ``tolerance`` (Å) recycling ends early, once a pass changes less than that.
        """
        changes: list[float] = []
        if num_recycle is None:
            num_recycle = features["aatype"].shape[0] // num_ensemble - 1
        for outputs, change in self.passes(parameters, features, num_recycle, num_ensemble):
            changes.append(change)
            if len(changes) > num_recycle or (len(changes) > 1 and change < tolerance):
                break
            outputs = {}  # not held beside the next pass's
        return tf.nest.map_structure(keras.ops.convert_to_numpy, outputs), changes


def ca_distance_change(before: tf.Tensor, after: tf.Tensor, mask: tf.Tensor) -> tf.Tensor:
    """Root mean square difference (Å) of all Cα distances between two structures [i, 37, 3]."""

    def distances(positions: tf.Tensor) -> tf.Tensor:
        ca = positions[:, CA]
        # [i, 1, 3], [1, j, 3] -> [i, j]
        return tf.norm(ca[:, None] - ca[None, :], axis=-1)

    square = mask[:, None] * mask[None, :]
    squared = tf.square(distances(after) - distances(before)) * square
    return tf.sqrt(tf.reduce_sum(squared) / tf.maximum(tf.reduce_sum(square), 1.0))
