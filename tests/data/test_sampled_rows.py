"""Block deletion, distillation subsample and cluster choice against their definitions."""

import numpy as np
import pytest
import tensorflow as tf

from tffold.data import keys, msa


def _draws(function, count):
    graph = tf.function(lambda position: function(keys.key(0, position)))
    return [graph(tf.constant(position, tf.int64)) for position in range(count)]


def test_deleted_blocks_by_hand():
    covered = msa.deleted_blocks(10, 3, tf.constant([2, 4, 8]))
    # 2-4, 4-6 (overlapping), 8-9 (clipped)
    assert np.flatnonzero(covered).tolist() == [2, 3, 4, 5, 6, 8, 9]
    assert not msa.deleted_blocks(10, 0, tf.constant([1, 5])).numpy().any()


@pytest.mark.parametrize("num_rows", [10, 47, 200])
def test_one_block_is_a_run_of_three_tenths(num_rows):
    size = int(0.3 * num_rows)
    starts = set()
    for kept in _draws(
        lambda key: msa.block_deletion(num_rows, key, 0, num_blocks=1, fraction=0.3), 150
    ):
        deleted = sorted(set(range(num_rows)) - set(kept.numpy().tolist()))
        assert deleted == list(range(deleted[0], deleted[0] + len(deleted)))
        assert len(deleted) == min(size, num_rows - deleted[0])
        starts.add(deleted[0])
    assert 0 not in starts
    assert min(starts) <= 1 + num_rows // 20 and max(starts) >= num_rows - 2 - num_rows // 20


def test_five_blocks_keep_each_row_as_often_as_they_should():
    """A block covers row r for min(r, b) of the N - 1 starts; five are independent."""
    num_rows, count = 60, 3000
    kept = np.zeros(num_rows)
    for rows in _draws(
        lambda key: msa.block_deletion(num_rows, key, 0, num_blocks=5, fraction=0.3), count
    ):
        rows = rows.numpy()
        assert rows[0] == 0 and (np.diff(rows) > 0).all()
        kept[rows] += 1
    row = np.arange(num_rows)
    expected = (1 - np.minimum(row, 18) / (num_rows - 1)) ** 5
    expected[0] = 1.0
    sigma = np.sqrt(expected * (1 - expected) / count)
    assert (np.abs(kept / count - expected) <= 4.5 * sigma + 1e-12).all()


@pytest.mark.parametrize("num_rows", [1, 2, 3, 4])
def test_tiny_alignments_keep_the_query(num_rows):
    for rows in _draws(
        lambda key: msa.block_deletion(num_rows, key, 0, num_blocks=5, fraction=0.3), 20
    ):
        assert rows.numpy()[0] == 0
        if num_rows < 4:  # a block of no rows deletes none
            assert len(rows) == num_rows


def test_passes_and_positions_delete_different_blocks():
    deleted = {
        tuple(
            msa.block_deletion(
                10_000, keys.key(0, position), cycle, num_blocks=5, fraction=0.3
            ).numpy()
        )
        for position in range(5)
        for cycle in range(4)
    }
    assert len(deleted) == 20


def test_subsample_keeps_the_query_and_a_uniform_choice():
    rows = tf.constant([0, 3, 4, 7, 8, 9, 12])
    hits = dict.fromkeys(rows.numpy().tolist(), 0)
    for chosen in _draws(lambda key: msa.subsample(rows, key, 0, max_rows=4), 1200):
        chosen = chosen.numpy().tolist()
        assert len(set(chosen)) == 4 and chosen == sorted(chosen)
        for row in chosen:
            hits[row] += 1
    assert hits.pop(0) == 1200
    np.testing.assert_allclose(np.array(list(hits.values())) / 1200, 0.5, atol=0.06)


def test_subsample_of_fewer_rows_keeps_all():
    rows = tf.constant([0, 2, 5])
    np.testing.assert_array_equal(msa.subsample(rows, keys.key(0, 0), 0, max_rows=1000), rows)


def test_centres_and_rest_part_the_rows():
    rows = tf.range(0, 40, 2)
    centred = np.zeros(40)
    first_extra = np.zeros(40)
    for centres, rest in _draws(lambda key: msa.choose_centres(rows, key, 0, num_centres=8), 1500):
        centres, rest = centres.numpy(), rest.numpy()
        assert centres[0] == 0 and len(centres) == 8
        assert sorted([*centres, *rest]) == rows.numpy().tolist()
        centred[centres] += 1
        first_extra[rest[:3]] += 1
    np.testing.assert_allclose(centred[2::2] / 1500, 7 / 19, atol=0.06)
    # The first extra rows are a uniform choice too.
    np.testing.assert_allclose(first_extra[2::2] / 1500, 3 / 19, atol=0.05)


def test_fewer_rows_than_centres():
    centres, rest = msa.choose_centres(tf.range(3), keys.key(0, 0), 0, num_centres=8)
    assert sorted(centres.numpy()) == [0, 1, 2] and rest.shape == (0,)


def test_rows_of_complexes_by_hand():
    """Biased rows first, each part by its noise; among equals the first."""
    order = msa.noisy_order(
        tf.constant([0.0, 1.0, 0.0, 0.0, 1.0]), tf.constant([3.0, -1.0, 5.0, 3.0, 2.0])
    )
    assert order.numpy().tolist() == [4, 1, 2, 0, 3]


def test_rows_of_complexes_are_a_uniform_choice():
    bias = tf.one_hot(0, 20)
    second = np.zeros(20)
    for order in _draws(
        lambda key: msa.noisy_order(bias, keys.gumbel([20], key, keys.Draw.ROW_NOISE, 0)), 1500
    ):
        order = order.numpy().tolist()
        assert order[0] == 0 and sorted(order) == list(range(20))
        second[order[1]] += 1
    np.testing.assert_allclose(second[1:] / 1500, 1 / 19, atol=0.03)
