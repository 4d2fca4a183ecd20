"""Crop starts and template choice against their exact distributions; padding."""

import numpy as np
import pytest
import tensorflow as tf

from records.schema import BATCH_FEATURES
from tffold.data import crop, keys
from tffold.data.keys import Draw

COUNT = 20_000


def _starts(num_res, crop_size, clamped):
    return np.array(
        [
            crop.draw_crop_start(
                keys.generator(0, position, Draw.CHOICES), num_res, crop_size, clamped=clamped
            )
            for position in range(COUNT)
        ]
    )


def _assert_distribution(drawn, expected):
    """``expected`` [k] are the probabilities of 0..k-1; 4.5 standard deviations each."""
    assert drawn.min() >= 0 and drawn.max() < len(expected)
    share = np.bincount(drawn, minlength=len(expected)) / len(drawn)
    sigma = np.sqrt(expected * (1 - expected) / len(drawn))
    assert (np.abs(share - expected) < 4.5 * sigma + 1e-12).all()


def test_clamped_start_is_uniform():
    _assert_distribution(_starts(30, 18, clamped=True), np.full(13, 1 / 13))


def test_unclamped_start_favours_the_n_terminus():
    """x ~ U[0, n], start ~ U[0, n - x]: P(s) = 1/(n+1) sum over x <= n - s of 1/(n - x + 1)."""
    n = 12
    expected = np.array(
        [sum(1 / (n - x + 1) for x in range(n - s + 1)) / (n + 1) for s in range(n + 1)]
    )
    assert expected.sum() == pytest.approx(1) and expected[0] > 3 * expected[-1]
    _assert_distribution(_starts(30, 18, clamped=False), expected)


@pytest.mark.parametrize("clamped", [True, False])
@pytest.mark.parametrize("num_res", [1, 17, 18])
def test_chains_that_fit_are_whole(num_res, clamped):
    random = keys.generator(0, 0, Draw.CHOICES)
    assert crop.draw_crop_start(random, num_res, 18, clamped=clamped) == 0


def _templates(num_hits, top=20, max_templates=4):
    return [
        crop.draw_templates(
            keys.generator(0, position, Draw.CHOICES),
            num_hits,
            top=top,
            max_templates=max_templates,
        )
        for position in range(COUNT)
    ]


@pytest.mark.parametrize(("num_hits", "available"), [(0, 0), (1, 1), (3, 3), (9, 9), (35, 20)])
def test_template_count_is_the_lesser_of_uniform_and_four(num_hits, available):
    expected = np.zeros(5)
    for k in range(available + 1):
        expected[min(k, 4)] += 1 / (available + 1)
    _assert_distribution(np.array([len(t) for t in _templates(num_hits)]), expected)


def test_templates_are_distinct_and_uniform_over_the_top():
    drawn = _templates(35, top=10)
    assert all(len(set(hits)) == len(hits) for hits in drawn)
    four = [hits for hits in drawn if len(hits) == 4]
    first = np.bincount([hits[0] for hits in four], minlength=10)
    assert len(first) == 10  # none below the top ten
    np.testing.assert_allclose(first / len(four), 0.1, atol=0.015)
    any_place = np.bincount(np.ravel(four), minlength=10) / len(four)
    np.testing.assert_allclose(any_place, 0.4, atol=0.03)


def test_padding_follows_the_table():
    sizes = {"num_res": 5, "num_msa_seq": 3, "num_extra_seq": 2, "num_templates_used": 2}
    features = {
        "aatype": tf.constant([7, 8, 9]),
        "seq_length": tf.constant(3),
        "template_pseudo_beta": tf.ones([1, 3, 3]),
        "template_mask": tf.ones([1]),
    }
    padded = crop.pad(features, BATCH_FEATURES, sizes)
    assert padded["aatype"].numpy().tolist() == [7, 8, 9, 0, 0]
    assert padded["seq_length"] == 3
    assert padded["template_pseudo_beta"].shape == (2, 5, 3)
    assert padded["template_pseudo_beta"].numpy().sum() == 9
    assert padded["template_mask"].numpy().tolist() == [1, 0]
    with pytest.raises(tf.errors.InvalidArgumentError):
        crop.pad({"aatype": tf.range(6)}, BATCH_FEATURES, sizes)
