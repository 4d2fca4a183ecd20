"""The pure training step on a toy network: what is clipped, summed, recycled and seeded."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf
from fake import FakeNetwork, fake_batch, fake_config, fake_loss, fake_metrics

from tffold.train import step as step_lib
from tffold.train.optimizer import TrainState, flatten, unflatten
from tffold.train.step import BAD_EXAMPLES, TrainingStep


def make(dropout=0.0, **train):
    config = fake_config(**train)
    network = FakeNetwork(dropout)
    network.build()
    parameters = [tf.convert_to_tensor(v.value) for v in network.trainable_variables]
    return TrainingStep(network, config, fake_loss, fake_metrics), parameters, config


def tensors(batch):
    return {name: tf.constant(value) for name, value in batch.items() if name != "chain_id"}


def fresh(parameters) -> TrainState:
    zeros = tf.zeros_like(flatten(parameters))
    return TrainState(parameters, zeros, zeros, parameters, tf.constant(0), tf.constant(0))


def test_each_example_is_clipped_before_the_sum():
    # A sum of four gradients, each 0.01 long at most; clipped after averaging it would be shorter
    # by whatever the raw norms differ.
    training, parameters, config = make(clip_norm=0.01)
    batch = tensors(fake_batch(config, 0))
    step = tf.constant(0)
    total, _ = training.local_gradients(parameters, batch, step, 0)
    apart = []
    for index in range(config.train.batch_size):
        example = {name: value[index] for name, value in batch.items()}
        gradient, scalars, finite = training.example_gradients(parameters, example, step, index)
        assert bool(finite)
        norm = float(tf.norm(gradient))
        assert norm == pytest.approx(min(0.01, float(scalars["optim/gradient_norm"])), rel=1e-5)
        apart.append(gradient)
    np.testing.assert_allclose(total, sum(apart), rtol=1e-5, atol=1e-8)


def test_gradient_is_that_of_the_last_pass_only():
    training, parameters, config = make(clip_norm=1e9)
    example = {name: value[0] for name, value in tensors(fake_batch(config, 0)).items()}
    example["num_iter_recycling"] = tf.constant([2, 2, 2])
    gradient, scalars, _ = training.example_gradients(parameters, example, tf.constant(0), 0)
    into, feedback, unused, out = unflatten(gradient, parameters)
    w_in, w_back, _, w_out = (p.numpy().astype("float64") for p in parameters)
    x, y = example["x"].numpy().astype("float64"), float(example["y"][2])
    prev = np.zeros(4)
    for cycle in range(2):
        prev = np.tanh(x[cycle] @ w_in + prev @ w_back)
    hidden = np.tanh(x[2] @ w_in + prev @ w_back)
    error = hidden @ w_out - y
    assert float(scalars["loss"]) == pytest.approx(2 * error**2, rel=1e-4)
    inner = 4 * error * w_out * (1 - hidden**2)
    np.testing.assert_allclose(out, 4 * error * hidden, rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(into, np.outer(x[2], inner), rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(feedback, np.outer(prev, inner), rtol=1e-4, atol=1e-5)
    np.testing.assert_array_equal(unused, np.zeros(3))


def test_seeds_differ_by_run_step_and_example_and_only_by_them():
    seen = {
        tuple(step_lib.example_seed(seed, tf.constant(step), tf.constant(index)).numpy().tolist())
        for seed in (0, 1, -1, 2**40)
        for step in range(4)
        for index in range(4)
    }
    assert len(seen) == 64
    again = step_lib.example_seed(2**40, tf.constant(3), tf.constant(3)).numpy().tolist()
    assert tuple(again) in seen


def test_dropout_differs_between_examples_with_the_same_features():
    training, parameters, config = make(dropout=0.5)
    example = {name: value[0] for name, value in tensors(fake_batch(config, 0)).items()}
    losses = {
        float(training.example_gradients(parameters, example, tf.constant(1), index)[1]["loss"])
        for index in range(6)
    }
    assert len(losses) > 1


def test_whole_step_is_pure_compiles_once_and_equals_the_eager_one():
    # No dropout: XLA draws other floats from a seed than the eager kernel.
    training, parameters, config = make()

    @tf.function(jit_compile=True, autograph=False)
    def compiled(state, batch):
        return training.pure(state, batch)

    state, eager = fresh(parameters), fresh(parameters)
    programs, recycles = set(), set()
    for step in range(6):
        batch = tensors(fake_batch(config, step))
        recycles.add(int(batch["num_iter_recycling"][0, 0]))
        programs.add(compiled.experimental_get_compiler_ir(state, batch)(stage="hlo"))
        state, logs = compiled(state, batch)
        if step < 2:
            eager, eager_logs = training.pure(eager, batch)
            for name, value in eager_logs.items():
                np.testing.assert_allclose(logs[name], value, rtol=1e-4, atol=1e-6)
    assert int(state.step) == 6
    # A number of steps or recycles that XLA needs as a constant would stand in the program.
    assert len(recycles) > 1 and len(programs) == 1
    # Nothing was assigned.
    np.testing.assert_array_equal(parameters[0], training.network.trainable_variables[0].value)


def test_one_bad_example_skips_the_update_and_is_named():
    training, parameters, config = make()
    batch = tensors(fake_batch(config, 3, frozenset({3})))
    after, logs = training.pure(fresh(parameters), batch)
    np.testing.assert_array_equal(logs[BAD_EXAMPLES], [0, 0, 1, 0])
    assert np.isnan(float(logs["loss"]))  # told as it is
    for was, now in zip(parameters, after.parameters, strict=True):
        np.testing.assert_array_equal(was, now)
    assert (int(after.step), int(after.updates)) == (1, 0)
