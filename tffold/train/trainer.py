"""The Keras model that owns the network and its optimizer state, and takes training steps."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Iterator

import keras
import numpy as np
import tensorflow as tf

from tffold.config import Config
from tffold.host_memory import returning_memory
from tffold.train.feed import DAMAGED
from tffold.train.optimizer import TrainState
from tffold.train.step import BAD_EXAMPLES, Batch, LossFunction, MetricFunction, TrainingStep
from tffold.train.strategy import Cluster, sum_over_replicas, write_variables
from tffold.weights.checkpoint import FROZEN

STOP = "stop"


class AlphaFoldTrainer(keras.Model):
    """``train_step`` is what one replica does; ``run_step`` does it on all of them.

    Build it, and the network, inside ``cluster.strategy.scope()``.

    Args:
      network: a built layer as ``TrainingStep`` wants it.
      config: the whole configuration.
      cluster: as built by ``build_cluster``.
      loss_fn, metric_fn: see ``TrainingStep``.
    """

    def __init__(
        self,
        network: keras.layers.Layer,
        config: Config,
        cluster: Cluster,
        loss_fn: LossFunction,
        metric_fn: MetricFunction,
    ) -> None:
        super().__init__(name="trainer")
        if network.non_trainable_variables:
            raise ValueError("the network may hold nothing but trainable variables")
        self.network = network
        self.cluster = cluster
        self.training_step = TrainingStep(network, config, loss_fn, metric_fn)
        self.replica_batch_size = config.train.batch_size // cluster.num_replicas
        parameters = self.training_step.trained
        count = sum(math.prod(parameter.shape) for parameter in parameters)

        def variable(name: str, initial: object, dtype: str = "float32") -> keras.Variable:
            return keras.Variable(initial, dtype=dtype, trainable=False, name=name)

        self.state_variables = TrainState(
            list(parameters),
            variable("first_moment", np.zeros(count, "float32")),
            variable("second_moment", np.zeros(count, "float32")),
            [
                variable(f"average_{index}", keras.ops.convert_to_numpy(parameter))
                for index, parameter in enumerate(parameters)
            ],
            variable("step", 0, "int32"),
            variable("updates", 0, "int32"),
        )
        self.built = True
        self._gradients = tf.function(
            self.training_step.local_gradients, autograph=False, jit_compile=True
        )
        # The update is memory traffic only: as hundreds of XLA kernels, one for each array, it
        # would take long to compile and run no faster. (A TPU compiles it too.)
        self._update = tf.function(self.training_step.update, autograph=False)
        # Where there is no other copy of them, variables keep their memory.
        self._update_in_place = tf.function(self._update_variables, autograph=False)
        self._distributed_measure = tf.function(self._distributed_measure_step, autograph=False)
        self._distributed = tf.function(self._distributed_step, autograph=False)
        self._started = False
        self._source: Iterator | None = None  # from which the step takes its batches, if it does
        self.damaged: object = None

    def call(self, batch: Batch, **kwargs: object) -> object:
        """The network's own forward pass."""
        return self.network(batch, **kwargs)

    @property
    def step(self) -> int:
        """Steps taken so far; also the position in the data."""
        return int(keras.ops.convert_to_numpy(self.state_variables.step))

    def trace(self, batch: dict[str, tf.TensorSpec]) -> None:
        """Traces the step of one replica that is alone, as ``run_step`` would when first called.

        Functions are numbered as they are traced, and XLA's persistent cache knows a program by
        its functions' names. Traced right after it was built, a step has the same names in every
        process; traced after weights were read or data drawn, it would have not.
        """
        self._distributed.get_concrete_function(batch, tf.TensorSpec([], tf.float32))

    def train_step(self, batch: Batch, stop: tf.Tensor) -> dict[str, tf.Tensor]:
        """One step of one replica, in replica context.

        Args:
          batch: features [local batch, C, ...] of this replica.
          stop: [] float32, nonzero where this process was asked to stop.

        Returns:
          Scalars of the global batch, the same on every replica.
        """
        state = tf.nest.map_structure(
            lambda variable: tf.convert_to_tensor(variable.value), self.state_variables
        )
        more = {STOP: tf.identity(stop)}  # a copy on this replica
        sums, gradients = self._summed(state.parameters, batch, state.step, more)
        stop = sums.pop(STOP)
        if self.cluster.is_one_device:
            logs = self._update_in_place(gradients, sums)
        else:
            after, logs = self._update(state, gradients, sums)
            write_variables(tf.nest.flatten(self.state_variables), tf.nest.flatten(after))
        return logs | {STOP: stop}

    def _update_variables(
        self, gradients: tf.Tensor, sums: dict[str, tf.Tensor]
    ) -> dict[str, tf.Tensor]:
        variables = tf.nest.map_structure(lambda variable: variable.value, self.state_variables)
        return self.training_step.update_in_place(variables, gradients, sums)

    def _summed(
        self, parameters: list, batch: Batch, step: tf.Tensor, more: dict | None = None
    ) -> tuple[dict[str, tf.Tensor], list[tf.Tensor]]:
        """Scalars (with ``more``) and clipped gradients, summed over all replicas."""
        size = next(iter(batch.values())).shape[0]
        if size != self.replica_batch_size:
            raise ValueError(
                f"a replica was fed {size} examples, not {self.replica_batch_size}: "
                f"{type(self.cluster.strategy).__name__} does not deal out the batch"
            )
        context = tf.distribute.get_replica_context()
        first_index = tf.cast(context.replica_id_in_sync_group, tf.int32) * size
        frozen = [tf.convert_to_tensor(v.value) for v in self.training_step.frozen]
        gradients, sums = self._gradients(parameters, batch, step, first_index, frozen)
        in_bfloat16 = self.training_step.config.train.sum_in_bfloat16
        gradients, sums = sum_over_replicas(gradients, sums | (more or {}), in_bfloat16)
        return sums, gradients

    def _measure_step(self, batch: Batch, step: tf.Tensor) -> dict[str, tf.Tensor]:
        """The scalars of one training batch under the averaged weights; changes nothing."""
        average = [tf.convert_to_tensor(v.value) for v in self.state_variables.average]
        sums, _ = self._summed(average, batch, step)
        sums.pop(BAD_EXAMPLES)
        size = self.replica_batch_size * self.cluster.num_replicas
        return {name: value / float(size) for name, value in sums.items()}

    def _first(self, logs: dict[str, object]) -> dict[str, tf.Tensor]:
        """What the first of this process's replicas returned; all returned the same."""
        return self.cluster.from_replicas(logs)[0]

    def _distributed_step(self, batch: Batch | Iterator, stop: tf.Tensor) -> dict[str, object]:
        batch, damaged = _taken(batch)
        return self._first(self.cluster.strategy.run(self.train_step, (batch, stop))) | damaged

    def _step_on(self, batch: Batch | Iterator) -> Callable[[tf.Tensor], dict[str, object]]:
        """The step as a function of ``stop`` alone.

        It holds an iterator itself: were it an argument, all that TensorFlow knows of its tensors
        would be compared in every call, which takes as long as all else.
        """
        if not isinstance(batch, Iterator):
            return functools.partial(self._distributed, batch)
        if self._source is not batch:
            self._source = batch
            self._from_source = tf.function(
                functools.partial(self._distributed_step, batch), autograph=False
            )
        return self._from_source

    def _distributed_measure_step(
        self, batch: Batch | Iterator, step: tf.Tensor
    ) -> dict[str, tf.Tensor]:
        batch, _ = _taken(batch)
        return self._first(self.cluster.strategy.run(self._measure_step, (batch, step)))

    def _run_compiled(
        self, function: Callable[..., dict[str, tf.Tensor]], *arguments: object
    ) -> dict[str, tf.Tensor]:
        """What ``function`` returns; the first call of any compiles the gradients."""
        if self._started:
            return function(*arguments)
        # TensorFlow's own graph rewriting takes seconds over a step and leaves XLA nothing less to
        # do. It is a setting of the process: set now, when the data set has been made with it.
        tf.config.optimizer.set_experimental_options({"disable_meta_optimizer": True})
        with returning_memory():
            logs = function(*arguments)
        self._started = True
        return logs

    def measure(self, batch: Batch | Iterator, step: int) -> dict[str, float]:
        """Losses and metrics of the training batch of ``step`` under the averaged weights.

        Exactly what training computes, dropout included, so it needs no other compilation.
        """
        logs = self._run_compiled(self._distributed_measure, batch, tf.constant(step))
        return {name: float(value) for name, value in logs.items()}

    def run_step(self, batch: Batch | Iterator, stop: bool = False) -> dict[str, float]:
        """One step on all replicas; waits for it and returns its scalars.

        ``batch`` is what ``Feed`` gives: a batch for each replica, or the iterator that has it. In
        the second case ``self.damaged`` holds the damaged records of the batch, if any is told of.

        ``stop`` says that this process was asked to stop; ``stop`` in the result, that any was,
        so that all stop after the same step. ``bad_examples`` is how many examples' loss or
        gradient was not finite; which, stands in ``self.bad_examples``.
        """
        logs = self._run_compiled(self._step_on(batch), tf.constant(stop, tf.float32))
        self.damaged = logs.pop(DAMAGED, None)
        bad = logs.pop(BAD_EXAMPLES).numpy()
        self.bad_examples = np.flatnonzero(bad).tolist()
        return {name: float(value) for name, value in logs.items()} | {
            BAD_EXAMPLES: float(len(self.bad_examples))
        }

    def gradient_program(self, batch: Batch, stage: str = "hlo") -> str:
        """What XLA makes of one replica's gradient, as text.

        Args:
          batch: features [local batch, C, ...].
          stage: ``hlo`` before optimisation; ``optimized_hlo`` compiles it once more.
        """
        parameters = [tf.convert_to_tensor(v.value) for v in self.training_step.trained]
        frozen = [tf.convert_to_tensor(v.value) for v in self.training_step.frozen]
        batch = {name: tf.convert_to_tensor(value) for name, value in batch.items()}
        zero = tf.constant(0)
        lower = self._gradients.experimental_get_compiler_ir
        return lower(parameters, batch, zero, zero, frozen)(stage=stage)

    @property
    def averaged(self) -> list[keras.Variable]:
        """The averages of the network's weights, in its order; of frozen ones themselves."""
        averages = {
            id(parameter): average
            for parameter, average in zip(
                self.state_variables.parameters, self.state_variables.average, strict=True
            )
        }
        return [averages.get(id(v), v) for v in self.network.trainable_variables]

    def named_state(self) -> Iterator[tuple[str, keras.Variable]]:
        """Every state variable under the name that checkpoints use, in a fixed order."""
        paths = [variable.path for variable in self.state_variables.parameters]
        for field, value in self.state_variables._asdict().items():
            if isinstance(value, list):
                for path, variable in zip(paths, value, strict=True):
                    yield f"{field}/{path}", variable
            else:
                yield field, value
        for variable in self.training_step.frozen:
            yield f"{FROZEN}/{variable.path}", variable


def _taken(batch: Batch | Iterator) -> tuple[Batch, dict[str, object]]:
    """The batch, which an iterator yields where the step runs; apart, what it says of damage."""
    if not isinstance(batch, Iterator):
        return batch, {}
    batch = dict(next(batch))
    return batch, {DAMAGED: batch.pop(DAMAGED)} if DAMAGED in batch else {}
