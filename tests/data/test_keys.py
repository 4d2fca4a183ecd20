"""Draws depend on seed, position, pass and purpose, and on nothing else."""

import numpy as np
import pytest
import tensorflow as tf

from tffold.data import keys
from tffold.data.keys import Draw


def _uniform(seed, position, draw, cycle):
    return keys.uniform([64], keys.key(seed, position), draw, cycle).numpy()


def test_every_part_of_the_key_counts():
    reference = _uniform(1, 5, Draw.MASK, 0)
    np.testing.assert_array_equal(reference, _uniform(1, 5, Draw.MASK, 0))
    for other in (
        _uniform(2, 5, Draw.MASK, 0),
        _uniform(1, 6, Draw.MASK, 0),
        _uniform(1, 5, Draw.ROWS, 0),
        _uniform(1, 5, Draw.MASK, 1),
    ):
        assert np.abs(np.corrcoef(reference, other)[0, 1]) < 0.5
        assert not np.array_equal(reference, other)


def test_positions_passes_and_purposes_never_share_a_seed():
    seeds = {
        tuple(keys.operation_seed(keys.key(0, position), draw, cycle).numpy())
        for position in (0, 1, 2, 255, 256, 65536, 2**40)
        for draw in Draw
        for cycle in (0, 1, 3, 255)
    }
    assert len(seeds) == 7 * len(Draw) * 4


def test_graph_and_eager_draw_the_same():
    graph = tf.function(lambda position: keys.uniform([9], keys.key(3, position), Draw.ROWS, 2))
    np.testing.assert_array_equal(
        graph(tf.constant(11, tf.int64)), _uniform(3, 11, Draw.ROWS, 2)[:9]
    )


@pytest.mark.parametrize(
    ("seed", "position", "draw", "index", "count"),
    [(7, 9, 4, 3, 5), (-1, 2**40, 1, 0, 8), (0, 0, 0, 1, 3), (2**63 - 1, 5, 12, 99, 130)],
)
def test_doubles_are_numpys_philox(seed, position, draw, index, count):
    philox = np.random.Philox(key=seed % 2**64, counter=[0, index, position, draw])
    graph = tf.function(lambda positions: keys.doubles(count, seed, positions, draw, index))
    drawn = graph(tf.constant([position, 3], tf.int64))
    assert drawn.shape == (2, count)
    np.testing.assert_array_equal(drawn[0], np.random.Generator(philox).random(count))


def test_integer_includes_both_ends_evenly():
    uniform = keys.doubles(8000, 0, tf.constant(0), Draw.CHOICES)
    drawn = np.bincount(keys.integer(uniform, 3), minlength=5)
    assert drawn[4] == 0
    np.testing.assert_allclose(drawn[:4] / 8000, 0.25, atol=0.02)
    assert keys.integer(tf.constant(1 - 2.0**-53, tf.float64), 2**31 - 2) == 2**31 - 2


def test_permutation_is_one_and_uniform():
    first = []
    for position in range(600):
        order = keys.permutation(6, keys.key(0, position), Draw.ROWS, 0).numpy()
        assert sorted(order) == list(range(6))
        first.append(order[0])
    np.testing.assert_allclose(np.bincount(first, minlength=6) / 600, 1 / 6, atol=0.07)
    assert keys.permutation(0, keys.key(0, 0), Draw.ROWS, 0).shape == (0,)
