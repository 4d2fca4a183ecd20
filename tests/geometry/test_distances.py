"""Distances and their bins."""

import numpy as np
import tensorflow as tf
from points import line

from tffold import geometry


def test_distances_and_bins():
    points = line(0, 3, 7)
    np.testing.assert_array_equal(
        geometry.pairwise_distances_sq(points), [[0, 9, 49], [9, 0, 16], [49, 16, 0]]
    )
    edges = np.array([2.0, 4.0, 6.0])
    bins = geometry.bin_index(np.array([1.0, 2.0, 2.1, 5.0, 99.0]), edges)
    assert np.asarray(bins).tolist() == [0, 0, 1, 2, 3]
    dgram = np.asarray(geometry.dgram(points, 2.0, 6.0, 3))  # edges 2, 4, 6
    assert dgram[0, 1].tolist() == [1, 0, 0] and dgram[1, 2].tolist() == [0, 0, 0]
    assert dgram[0, 2].tolist() == [0, 0, 1] and not dgram[0, 0].any()


def test_distance_gradient_of_coinciding_points_is_finite():
    points = tf.zeros([3, 3])
    with tf.GradientTape() as tape:
        tape.watch(points)
        total = tf.reduce_sum(geometry.pairwise_distances(points))
    assert np.isfinite(tape.gradient(total, points)).all()
