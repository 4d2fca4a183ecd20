"""The training step as pure functions of tensors: what XLA compiles, whatever runs it.

Nothing here touches a variable. Parameters and optimizer state come in and go out as tensors, so
the same functions serve one device, every replica of a strategy, and compilation for a machine
that is not there.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import keras
import tensorflow as tf

from tffold.config import Config
from tffold.model.primitives import fold_key
from tffold.train import schedule
from tffold.train.norms import module_norms, norm_names
from tffold.train.optimizer import (
    TrainState,
    adam_update,
    adam_update_in_place,
    clip_by_global_norm,
    flatten,
)
from tffold.train.selection import frozen_weights, rate_scales

Batch = Mapping[str, tf.Tensor]
LossFunction = Callable[[Any, Batch], tuple[tf.Tensor, Mapping[str, tf.Tensor]]]
MetricFunction = Callable[[Any, Batch], Mapping[str, tf.Tensor]]

TOTAL = "loss"
BAD_EXAMPLES = "bad_examples"
NUM_RECYCLE = "num_iter_recycling"
_MAX_SCALARS = 64
_RECYCLE_PASSES, _LAST_PASS = 0, 1


def base_seed(seed: int) -> tf.Tensor:
    """[2] int32 from a Python integer of up to 64 bits."""
    return tf.bitcast(tf.constant(seed % 2**64, tf.uint64), tf.int32)


def example_seed(seed: int, step: tf.Tensor, index: tf.Tensor) -> tf.Tensor:
    """[2] int32 for one example: a function of the run's seed, the step and its global index."""
    return fold_key(fold_key(base_seed(seed), step), index)


class TrainingStep:
    """Loss, gradients and update of ``network`` under ``config``.

    Args:
      network: a built Keras layer with ``recycle(batch, num_recycle, seed)`` and
        ``one_pass(batch, previous, seed)`` that work on one example. Its only state is its
        trainable variables.
      config: the whole configuration.
      loss_fn: ``(outputs, batch) -> (total, parts)`` of one example.
      metric_fn: ``(outputs, batch) -> {name: scalar}`` of one example.

    ``trained`` and ``frozen`` are the network's variables by what ``train.freeze`` says. Wherever
    ``parameters`` and ``frozen`` are tensors, they are the values of these, in their order.

    Raises:
      InputError: settings that name no parameter.
    """

    def __init__(
        self,
        network: keras.layers.Layer,
        config: Config,
        loss_fn: LossFunction,
        metric_fn: MetricFunction,
    ) -> None:
        self.network = network
        self.config = config
        self.loss_fn = loss_fn
        self.metric_fn = metric_fn
        variables = network.trainable_variables
        keep = frozen_weights(variables, config.train)
        self.trained = [v for v, frozen in zip(variables, keep, strict=True) if not frozen]
        self.frozen = [v for v, frozen in zip(variables, keep, strict=True) if frozen]
        scales = zip(rate_scales(variables, config.train), keep, strict=True)
        self.rate_scales = [scale for scale, frozen in scales if not frozen]

    def example_gradients(
        self,
        parameters: list[tf.Tensor],
        example: Batch,
        step: tf.Tensor,
        index: tf.Tensor,
        frozen: Sequence[tf.Tensor] = (),
    ) -> tuple[tf.Tensor, dict[str, tf.Tensor], tf.Tensor]:
        """Clipped gradient and metrics of one example (Algorithm 31).

            for all c in 1 to N':                                          (3)
                outputs <- stopgrad(outputs)                               (4)
                outputs <- model(inputs_c, outputs)                        (5)
            return loss(outputs)                                           (7)

        Args:
          parameters: of the trained weights; the gradient is by these alone.
          example: features [C, ...] with the recycling axis in front; ``num_iter_recycling``
            says how many passes come before the last.
          step: [] int32.
          index: [] int32, the example's number in the global batch.
          frozen: of the other weights.

        Returns:
          The gradient of the loss in the last recycling pass, at most ``clip_norm`` long, all
          arrays in one vector (see ``flatten``); scalars by name; whether loss and gradient are
          finite.
        """
        config = self.config
        seed = example_seed(config.train.seed, step, index)
        # Drawn with the data, once per step: the same for every example of the global batch.
        num_recycle = example[NUM_RECYCLE][0]
        scope = keras.StatelessScope(
            list(zip([*self.trained, *self.frozen], [*parameters, *frozen], strict=True))
        )
        if example[NUM_RECYCLE].shape[0] == 1:
            # Nothing to recycle: no second copy of the network to compile.
            recycles, last = 0, {name: value[0] for name, value in example.items()}
        else:
            # Not value[num_recycle]: XLA compiles anew for every value of a slice's start.
            recycles = num_recycle
            last = {name: tf.gather(value, num_recycle) for name, value in example.items()}
        with scope:
            prev = self.network.recycle(example, recycles, fold_key(seed, _RECYCLE_PASSES))
            prev = tf.nest.map_structure(tf.stop_gradient, prev)
            with tf.GradientTape(watch_accessed_variables=False) as tape:
                tape.watch(parameters)
                outputs = self.network.one_pass(last, prev, fold_key(seed, _LAST_PASS))
                total, parts = self.loss_fn(outputs, last)
            metrics = self.metric_fn(outputs, last)
        gradients = tape.gradient(
            total, parameters, unconnected_gradients=tf.UnconnectedGradients.ZERO
        )
        clipped, norm = clip_by_global_norm(flatten(gradients), config.train.clip_norm)
        finite = tf.math.is_finite(total) & tf.math.is_finite(norm)
        scalars = {TOTAL: total}
        scalars |= {f"loss/{name}": value for name, value in parts.items()}
        scalars |= {f"metric/{name}": value for name, value in metrics.items()}
        scalars |= {
            "optim/gradient_norm": norm,
            "optim/clipped": tf.cast(norm > config.train.clip_norm, tf.float32),
            "num_recycle": num_recycle,
        }
        scalars = {name: tf.cast(value, tf.float32) for name, value in scalars.items()}
        return clipped, scalars, finite

    def local_gradients(
        self,
        parameters: list[tf.Tensor],
        batch: Batch,
        step: tf.Tensor,
        first_index: tf.Tensor,
        frozen: Sequence[tf.Tensor] = (),
    ) -> tuple[tf.Tensor, dict[str, tf.Tensor]]:
        """Sums of ``example_gradients`` over a local batch [B, C, ...], one example at a time.

        The loop is a loop in the compiled program too: memory and compile time are one
        example's, whatever B is, so a larger B is gradient accumulation. ``bad_examples``
        [global batch] is 1 where loss or gradient was not finite.
        """
        size = next(iter(batch.values())).shape[0]
        names: list[str] = []

        def one(index: tf.Tensor, example: Batch) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
            number = first_index + index  # in the global batch
            gradient, scalars, finite = self.example_gradients(
                parameters, example, step, number, frozen
            )
            names[:] = scalars  # known once traced
            values = tf.pad(tf.stack(list(scalars.values())), [[0, _MAX_SCALARS - len(scalars)]])
            flag = tf.one_hot(tf.where(finite, -1, number), self.config.train.batch_size)
            return gradient, values, flag

        def body(index: tf.Tensor, *sums: tf.Tensor) -> tuple[tf.Tensor, ...]:
            example = {name: tf.gather(value, index) for name, value in batch.items()}
            found = one(index, example)
            return index + 1, *(a + b for a, b in zip(sums, found, strict=True))

        if size == 1:
            sums = one(tf.constant(0), {name: value[0] for name, value in batch.items()})
        else:
            count = sum(math.prod(value.shape) for value in parameters)
            zeros = [tf.zeros([n]) for n in (count, _MAX_SCALARS, self.config.train.batch_size)]
            _, *sums = tf.while_loop(
                lambda index, *_: index < size, body, (0, *zeros), maximum_iterations=size
            )
        gradient, values, bad = sums
        scalars = dict(zip(names, tf.unstack(values[: len(names)]), strict=True))
        return gradient, scalars | {BAD_EXAMPLES: bad}

    def update(
        self, state: TrainState, gradient_sum: tf.Tensor, sums: Mapping[str, tf.Tensor]
    ) -> tuple[TrainState, dict[str, tf.Tensor]]:
        """Adam on the mean gradient of the global batch, unless an example was not finite.

        Args:
          state: before the step.
          gradient_sum: clipped gradients summed over the global batch, in one vector.
          sums: scalars summed likewise, and ``bad_examples``.

        Returns:
          The state after the step; the scalars' means, the learning rate, ``bad_examples``, and
          the norms by module.
        """
        (after, norms), rate = self._updated(adam_update, state, gradient_sum, sums)
        return after, self._logs(sums, rate, norms)

    def update_in_place(
        self, state: TrainState, gradient_sum: tf.Tensor, sums: Mapping[str, tf.Tensor]
    ) -> dict[str, tf.Tensor]:
        """The same of variables, which keep their memory; returns the scalars."""
        norms, rate = self._updated(adam_update_in_place, state, gradient_sum, sums)
        return self._logs(sums, rate, norms)

    def _updated(
        self,
        update: Callable[..., Any],
        state: TrainState,
        gradient_sum: tf.Tensor,
        sums: Mapping[str, tf.Tensor],
    ) -> tuple[Any, tf.Tensor]:
        """What ``update`` returns, told to watch the norms; and the learning rate."""
        config = self.config.train
        gradient, rate, apply = self._mean(state.step, gradient_sum, sums)
        step = state.step + 1

        def norms(way: tf.Tensor | None) -> tf.Tensor:
            return module_norms(self.trained, step, gradient, way, config)

        return update(state, gradient, rate, apply, config, self.rate_scales, norms), rate

    def _mean(
        self, step: tf.Tensor, gradient_sum: tf.Tensor, sums: Mapping[str, tf.Tensor]
    ) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
        """The mean gradient, its learning rate, and whether it is to be applied."""
        size = self.config.train.batch_size
        rate = schedule.learning_rate((step + 1) * size, self.config.train)
        return gradient_sum / float(size), rate, tf.reduce_sum(sums[BAD_EXAMPLES]) == 0.0

    def _logs(
        self, sums: Mapping[str, tf.Tensor], rate: tf.Tensor, norms: tf.Tensor
    ) -> dict[str, tf.Tensor]:
        size = self.config.train.batch_size
        logs = {name: value / float(size) for name, value in sums.items()}
        logs[BAD_EXAMPLES] = sums[BAD_EXAMPLES]
        logs["optim/learning_rate"] = rate
        return logs | dict(zip(norm_names(self.trained), tf.unstack(norms), strict=True))

    def pure(
        self, state: TrainState, batch: Batch, frozen: Sequence[tf.Tensor] = ()
    ) -> tuple[TrainState, dict[str, tf.Tensor]]:
        """A whole step on one device that holds the whole batch: state in, state and logs out."""
        gradients, sums = self.local_gradients(state.parameters, batch, state.step, 0, frozen)
        return self.update(state, gradients, sums)
