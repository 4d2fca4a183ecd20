"""Training step and prediction's pass as XLA programs, without data, device or memory for them."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import keras
import tensorflow as tf

from tffold.config import Config
from tffold.data.recipe import Recipe
from tffold.inference import ForwardProgram
from tffold.model.alphafold import AlphaFold
from tffold.train.optimizer import TrainState
from tffold.train.step import Batch, TrainingStep
from tffold.train.task import Task


@dataclass(frozen=True)
class Lowered:
    """A lowered program: ``num_state`` is how many of its arguments it updates in place."""

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

    return _lower(flat_step, specs, len(tf.nest.flatten(state)), network, platform)


def lower_pass(config: Config, num_res: int, platform: str = "CPU") -> Lowered:
    """Lowers prediction's ``ForwardProgram.run_pass`` for chains padded to ``num_res``.

    All of prediction runs this one program, pass after pass.
    """
    network = AlphaFold(config.model)
    program = ForwardProgram(network)
    recipe = Recipe.inference(config.data_for_model, config.model.num_recycle, labels=False)
    sizes = recipe.sizes(num_res)
    samples = config.predict.num_ensemble
    features = {
        name: tf.TensorSpec((samples, *feature.sizes(sizes)), feature.dtype)
        for name, feature in recipe.features().items()
    }
    first = tf.function(lambda: network.first_previous(num_res), autograph=False)  # not made
    outputs = first.get_concrete_function().structured_outputs
    previous = {name: tf.TensorSpec(x.shape, x.dtype) for name, x in outputs.items()}
    specs = (array_specs(network.trainable_variables), features, previous)

    def flat_pass(*tensors: tf.Tensor) -> list[tf.Tensor]:
        return tf.nest.flatten(program.run_pass(*tf.nest.pack_sequence_as(specs, tensors)))

    return _lower(flat_pass, specs, 0, network, platform)


def _lower(
    function: Callable[..., list[tf.Tensor]],
    specs: Any,
    num_state: int,
    network: keras.layers.Layer,
    platform: str,
) -> Lowered:
    """``function`` of the flattened ``specs``, lowered."""
    lower = tf.function(function, autograph=False, jit_compile=True)
    found = lower.experimental_get_compiler_ir(*tf.nest.flatten(specs))
    text = found(stage="hlo", platform_name=platform)
    return Lowered(
        program=found(stage="hlo_serialized", platform_name=platform),
        text=text,
        num_state=num_state,
        num_parameters=sum(math.prod(p.shape) for p in network.trainable_variables),
        instructions=text.count(" = "),
    )
