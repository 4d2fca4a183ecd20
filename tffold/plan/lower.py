"""The training step of a configuration as an XLA program, without data, device or memory for it."""

from __future__ import annotations

import math
from dataclasses import dataclass

import tensorflow as tf

from tffold.config import Config
from tffold.data.recipe import Recipe
from tffold.train.optimizer import TrainState
from tffold.train.step import Batch, TrainingStep
from tffold.train.task import Task


@dataclass(frozen=True)
class Lowered:
    """A lowered step: ``num_state`` is how many of its arguments the step updates in place."""

    program: bytes
    text: str
    num_state: int
    num_parameters: int
    instructions: int


def batch_specs(config: Config, local_batch: int) -> dict[str, tf.TensorSpec]:
    """The features of one core's training batch [local batch, C, ...]."""
    recipe = Recipe.training(config.data_for_model, config.model.num_recycle)
    sizes = recipe.sizes(config.data.crop_size)
    return {
        name: tf.TensorSpec((local_batch, recipe.num_passes, *feature.sizes(sizes)), feature.dtype)
        for name, feature in recipe.features().items()
    }


def array_specs(parameters: list[tf.Variable]) -> list[tf.TensorSpec]:
    """float32 arrays of these variables' shapes."""
    return [tf.TensorSpec(p.shape, tf.float32) for p in parameters]


def state_specs(parameters: list[tf.Variable]) -> TrainState:
    """The training state where these weights are trained."""
    arrays = array_specs(parameters)
    moment = tf.TensorSpec([sum(math.prod(p.shape) for p in parameters)], tf.float32)
    counter = tf.TensorSpec([], tf.int32)
    return TrainState(arrays, moment, moment, list(arrays), counter, counter)


def lower_step(config: Config, task: Task, local_batch: int, platform: str = "CPU") -> Lowered:
    """Lowers ``TrainingStep.pure`` on ``local_batch`` examples with static shapes.

    What a core does of a step, but for the sum over cores. ``platform`` decides which kernels
    TensorFlow lowers from; ``TPU`` needs TensorFlow's TPU build.
    """
    network = task.network(config)
    step = TrainingStep(network, config, task.loss_fn(config), task.metric_fn(config))
    state = state_specs(step.trained)
    specs = (state, batch_specs(config, local_batch), array_specs(step.frozen))

    def flat_step(*tensors: tf.Tensor) -> list[tf.Tensor]:
        arguments: tuple[TrainState, Batch, list[tf.Tensor]]
        arguments = tf.nest.pack_sequence_as(specs, tensors)
        return tf.nest.flatten(step.pure(*arguments))

    lower = tf.function(flat_step, autograph=False, jit_compile=True)
    found = lower.experimental_get_compiler_ir(*tf.nest.flatten(specs))
    text = found(stage="hlo", platform_name=platform)
    return Lowered(
        program=found(stage="hlo_serialized", platform_name=platform),
        text=text,
        num_state=len(tf.nest.flatten(state)),
        num_parameters=sum(math.prod(p.shape) for p in network.trainable_variables),
        instructions=text.count(" = "),
    )
