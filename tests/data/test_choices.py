"""What is chosen for an example, against its exact distributions and drawn by hand."""

import numpy as np
import pytest
import tensorflow as tf

from tffold.config import DataConfig
from tffold.data.choices import draw_recycles, inference_choices, training_choices
from tffold.data.keys import Draw

COUNT = 20_000


def _chosen(count=COUNT, num_res=30, num_hits=6, **settings):
    config = DataConfig(**{"crop_size": 18, **settings})
    chosen = training_choices(
        config,
        seed=0,
        position=tf.range(count, dtype=tf.int64),
        num_res=tf.fill([count], num_res),
        num_hits=tf.fill([count], num_hits),
    )
    return {name: value.numpy() for name, value in chosen.items()}


def _starts(num_res, clamped):
    return _chosen(num_res=num_res, clamp_prob=float(clamped))["crop_start"]


def _assert_distribution(drawn, expected):
    """``expected`` [k] are the probabilities of 0..k-1; 4.5 standard deviations each."""
    assert drawn.min() >= 0 and drawn.max() < len(expected)
    share = np.bincount(drawn, minlength=len(expected)) / len(drawn)
    sigma = np.sqrt(expected * (1 - expected) / len(drawn))
    assert (np.abs(share - expected) < 4.5 * sigma + 1e-12).all()


def test_clamped_start_is_uniform():
    _assert_distribution(_starts(30, clamped=True), np.full(13, 1 / 13))


def test_unclamped_start_favours_the_n_terminus():
    """x ~ U[0, n], start ~ U[0, n - x]: P(s) = 1/(n+1) sum over x <= n - s of 1/(n - x + 1)."""
    n = 12
    expected = np.array(
        [sum(1 / (n - x + 1) for x in range(n - s + 1)) / (n + 1) for s in range(n + 1)]
    )
    assert expected.sum() == pytest.approx(1) and expected[0] > 3 * expected[-1]
    _assert_distribution(_starts(30, clamped=False), expected)


@pytest.mark.parametrize("clamped", [True, False])
@pytest.mark.parametrize("num_res", [1, 17, 18])
def test_chains_that_fit_are_whole(num_res, clamped):
    chosen = _chosen(50, num_res=num_res, clamp_prob=float(clamped))
    assert not chosen["crop_start"].any() and (chosen["crop_size"] == num_res).all()


def test_clamp_flag_is_drawn_per_example_and_rules_the_crop():
    chosen = _chosen(num_res=40, crop_size=20)
    clamped = chosen["use_clamped_fape"] == 1
    assert abs(clamped.mean() - 0.9) < 4.5 * np.sqrt(0.09 / COUNT)
    starts = chosen["crop_start"]
    assert starts.max() == 20 and (chosen["crop_size"] == 20).all()
    assert abs(starts[clamped].mean() - 10.0) < 0.2  # uniform over 0..20
    assert abs(starts[~clamped].mean() - 5.0) < 0.5  # half of a half


@pytest.mark.parametrize(("num_hits", "available"), [(0, 0), (1, 1), (3, 3), (9, 9), (35, 20)])
def test_template_count_is_the_lesser_of_uniform_and_four(num_hits, available):
    expected = np.zeros(5)
    for k in range(available + 1):
        expected[min(k, 4)] += 1 / (available + 1)
    _assert_distribution(_chosen(num_hits=num_hits)["num_hits"], expected)


def test_templates_are_distinct_and_uniform_over_the_top():
    chosen = _chosen(num_hits=35, template_top=10)
    four = chosen["hits"][chosen["num_hits"] == 4]
    assert all(len(set(hits)) == 4 for hits in four.tolist())
    first = np.bincount(four[:, 0], minlength=10)
    assert len(first) == 10  # none below the top ten
    np.testing.assert_allclose(first / len(four), 0.1, atol=0.015)
    any_place = np.bincount(four.ravel(), minlength=10) / len(four)
    np.testing.assert_allclose(any_place, 0.4, atol=0.03)


def test_no_more_templates_than_hits_are_taken_from_a_short_list():
    chosen = _chosen(2000, num_hits=2, template_top=1, max_templates=4)
    assert chosen["hits"].shape == (2000, 4) and not chosen["hits"].any()
    assert set(chosen["num_hits"]) == {0, 1}


def _by_hand(position, num_res, num_hits):
    """The same, one example at a time, with NumPy's generator."""
    philox = np.random.Philox(key=0, counter=[0, 0, position, int(Draw.CHOICES)])
    random = np.random.Generator(philox).random

    def integer(last):
        return int(random() * (last + 1))

    clamped = random() < 0.9
    last, start = num_res - 18, 0
    if last > 0:
        start = integer(last if clamped else last - integer(last))
    available = min(num_hits, 20)
    count = min(integer(available), 4)
    return clamped, start, np.argsort(random(available), kind="stable")[:count].tolist()


@pytest.mark.parametrize(("num_res", "num_hits"), [(30, 6), (12, 0), (500, 33)])
def test_the_stream_of_draws_is_taken_in_order(num_res, num_hits):
    chosen = _chosen(60, num_res=num_res, num_hits=num_hits)
    for position in range(60):
        clamped, start, hits = _by_hand(position, num_res, num_hits)
        assert chosen["use_clamped_fape"][position] == clamped
        assert chosen["crop_start"][position] == start
        assert chosen["hits"][position][: chosen["num_hits"][position]].tolist() == hits


@pytest.mark.parametrize(("num_hits", "count"), [(0, 0), (3, 3), (9, 4)])
def test_inference_takes_the_whole_chain_and_the_best_hits(num_hits, count):
    chosen = inference_choices(
        DataConfig(), num_res=tf.constant(700), num_hits=tf.constant(num_hits)
    )
    assert chosen["crop_start"] == 0 and chosen["crop_size"] == 700
    assert chosen["hits"].numpy().tolist() == [0, 1, 2, 3] and chosen["num_hits"] == count
    cut = inference_choices(
        DataConfig(), num_res=tf.constant([7, 90]), num_hits=tf.constant([0, 9]), crop_size=20
    )
    assert cut["crop_size"].numpy().tolist() == [7, 20]


def test_recycles_are_uniform_over_steps():
    drawn = draw_recycles(0, tf.range(4000, dtype=tf.int64), 3)
    np.testing.assert_allclose(np.bincount(drawn, minlength=4) / 4000, 0.25, atol=0.035)
