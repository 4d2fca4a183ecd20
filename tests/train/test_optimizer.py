"""Adam and clipping against arithmetic done by hand or in float64."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf

from tffold.config import TrainConfig
from tffold.train.optimizer import (
    TrainState,
    adam_update,
    adam_update_in_place,
    clip_by_global_norm,
    flatten,
    unflatten,
)


def fresh(values) -> TrainState:
    tensors = [tf.constant(value, tf.float32) for value in values]
    zeros = tf.zeros_like(flatten(tensors))
    return TrainState(tensors, zeros, zeros, tensors, tf.constant(0), tf.constant(0))


def update(state, gradients, config, rate=0.1, apply=True):
    gradient = flatten([tf.constant(gradient, tf.float32) for gradient in gradients])
    return adam_update(state, gradient, tf.constant(rate), tf.constant(apply), config)[0]


def test_epsilon_stands_beside_the_corrected_root():
    # After one step both corrected moments are g and g**2 whatever the betas: the parameter moves
    # by rate * g / (g + eps). Beside the uncorrected root it would be about g / (g + 32 eps).
    config = TrainConfig(adam_epsilon=1e-6)
    after = update(fresh([[0.0]]), [[1e-5]], config)
    assert after.parameters[0].numpy()[0] == pytest.approx(-0.1 * 1e-5 / 1.1e-5, rel=1e-4)


def test_many_steps_follow_the_published_recursion():
    config = TrainConfig(adam_beta_1=0.8, adam_beta_2=0.95, adam_epsilon=1e-3, ema_decay=0.7)
    rng = np.random.default_rng(0)
    value = rng.normal(size=4)
    average, first, second = value.copy(), np.zeros(4), np.zeros(4)
    state = fresh([value])
    for count in range(1, 30):
        gradient = rng.normal(size=4) * 0.01
        rate = 0.1 / count
        state = update(state, [gradient], config, rate)
        first = 0.8 * first + 0.2 * gradient
        second = 0.95 * second + 0.05 * gradient**2
        root = np.sqrt(second / (1 - 0.95**count))
        value = value - rate * (first / (1 - 0.8**count)) / (root + 1e-3)
        average = 0.7 * average + 0.3 * value
    np.testing.assert_allclose(state.parameters[0], value, rtol=1e-4)
    np.testing.assert_allclose(state.average[0], average, rtol=1e-4)
    assert int(state.step) == int(state.updates) == 29


def test_a_skipped_update_changes_only_the_step():
    config = TrainConfig()
    before = update(fresh([[1.0, 2.0], [3.0]]), [[0.1, 0.2], [0.3]], config)
    after = update(before, [[np.nan, 1.0], [np.inf]], config, apply=False)
    for name in ("parameters", "first_moment", "second_moment", "average"):
        for was, now in zip(getattr(before, name), getattr(after, name), strict=True):
            np.testing.assert_array_equal(was, now)
    assert (int(after.step), int(after.updates)) == (2, 1)
    # The next update corrects for one update more, not two.
    resumed = update(after, [[0.1, 0.2], [0.3]], config)
    straight = update(before, [[0.1, 0.2], [0.3]], config)
    np.testing.assert_array_equal(resumed.parameters[0], straight.parameters[0])


def test_in_place_is_the_same_bit_for_bit_and_stays_in_its_place():
    config, scales, rng = TrainConfig(), [0.5, 1.0], np.random.default_rng(0)
    pure = fresh([rng.normal(size=(3, 300)), rng.normal(size=700)])
    # A variable that is made of a tensor shares its memory until it changes.
    variables = tf.nest.map_structure(lambda tensor: tf.Variable(tensor.numpy()), pure)
    arrays = tf.nest.flatten(tuple(variables[:4]))
    told = []

    def watch(way):
        told.append(way is None)
        return tf.zeros([]) if way is None else tf.reduce_sum(tf.square(way[900:]))

    @tf.function(autograph=False)
    def step(gradient, rate, apply):
        return adam_update_in_place(variables, gradient, rate, apply, config, scales, watch)

    places = []
    for number in range(4):
        gradient = tf.constant(rng.normal(size=1600), tf.float32)
        rate, apply = tf.constant(0.1 / (1 + number)), tf.constant(number != 2)
        after, _ = adam_update(pure, gradient, rate, apply, config, scales)
        length = step(gradient, rate, apply)
        changes = pure.parameters[1] - after.parameters[1]
        assert float(length) == pytest.approx(float(tf.reduce_sum(changes**2)), rel=1e-4)
        pure = after
        for now, then in zip(tf.nest.flatten(variables), tf.nest.flatten(pure), strict=True):
            np.testing.assert_array_equal(now, then)
        places.append([address(array) for array in arrays])
    assert places[1:] == places[:-1]
    assert sorted(told) == [False, True]  # traced once: for an update, and for a skipped one


def address(variable: tf.Variable) -> int:
    """Where its values lie."""
    return np.from_dlpack(variable.value()).ctypes.data


def test_clipping_scales_all_together():
    clipped, norm = clip_by_global_norm(tf.constant([3.0, 0.0, 4.0]), 0.1)
    assert float(norm) == 5.0
    np.testing.assert_allclose(clipped, [0.06, 0.0, 0.08], rtol=1e-6)


def test_short_and_zero_gradients_are_left_alone():
    for gradient in (0.05, 0.0):
        clipped, norm = clip_by_global_norm(tf.constant([gradient]), 0.1)
        assert float(clipped[0]) == pytest.approx(gradient)
        assert float(norm) == pytest.approx(gradient)


def test_one_vector_holds_all_arrays_in_order():
    arrays = [tf.constant([[1.0, 2.0], [3.0, 4.0]]), tf.constant(5.0), tf.constant([6.0])]
    vector = flatten(arrays)
    np.testing.assert_array_equal(vector, [1, 2, 3, 4, 5, 6])
    for array, back in zip(arrays, unflatten(vector, arrays), strict=True):
        assert back.shape == array.shape
        np.testing.assert_array_equal(back, array)
