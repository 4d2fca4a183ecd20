"""Distances and contacts of the distogram, by hand."""

import numpy as np
import pytest
from points import sure

from tffold import metrics
from tffold.config import HeadsConfig

HEADS = HeadsConfig()


def test_contact_probability_sums_the_near_bins():
    # Bin k of the published 64 ends at 2.3125 + 0.3125 k Å: 18 is the last below 8.
    logits = sure([[0, 18, 19, 63]], 64)
    np.testing.assert_allclose(
        metrics.contact_probability(logits, HEADS), [[1, 1, 0, 0]], atol=1e-6
    )


def test_contact_precision_by_hand():
    num = 30
    beta = np.zeros((num, 3))
    beta[:, 0] = np.arange(num) * 10.0
    beta[25:] = beta[:5] + [0, 5, 0]  # five long-range contacts: (0, 25) … (4, 29)
    mask, index = np.ones(num), np.arange(num)
    probability = np.zeros((num, num))
    likely = [(0, 25), (1, 26), (2, 27), (3, 28), (0, 29), (1, 29)]  # four true, two false
    for rank, (i, j) in enumerate(likely):
        probability[i, j] = 1 - 0.1 * rank
    probability[0, 1] = 2.0  # too close in sequence to count
    args = (probability, beta, mask, index)
    found = metrics.contact_precision(*args)
    # 21 pairs are 24 or more apart: fewer than L = 30.
    assert found == {
        "contact_precision_l2": pytest.approx(4 / 15),
        "contact_precision_l5": pytest.approx(4 / 6),
    }
    assert metrics.contact_precision(*args, separation=(25, 0))["contact_precision_l5"] == (
        pytest.approx(4 / 6)
    )
    mask[0] = 0  # takes (0, 25) and (0, 29) with it; L is 29
    found = metrics.contact_precision(probability, beta, mask, index)
    assert found["contact_precision_l5"] == pytest.approx(3 / 5)
    # A gap in the numbering moves residues apart.
    spread = metrics.contact_precision(probability, beta, np.ones(num), index * 24)
    assert spread["contact_precision_l"] == pytest.approx(4 / 30)
    assert metrics.contact_precision(*args, separation=(30, 0)) == {}


def test_medium_range_is_12_to_23_residues():
    """Among the likeliest pairs those of 11 and of 24 do not count."""
    num = 40
    beta = np.arange(num)[:, None] * np.array([20.0, 0.0, 0.0])
    beta[12], beta[23], beta[11], beta[24] = (beta[0] + [0, y, 0] for y in (1, 2, 3, 4))
    probability = np.zeros((num, num))
    for rank, j in enumerate((11, 24, 12, 23, 13)):
        probability[0, j] = 1 - 0.1 * rank
    beta[13] = [-50.0, 0, 0]
    found = metrics.contact_precisions(probability, beta, np.ones(num), np.arange(num))
    # L/5 = 8: 12 and 23 are true, 13 is not; the next five are (0, 14) to (0, 18), far apart.
    assert found["medium_contact_precision_l5"] == pytest.approx(2 / 8)
    assert found["contact_precision_l5"] == pytest.approx(1 / 8)
    assert set(found) == {
        f"{kind}contact_precision_{top}" for kind in ("", "medium_") for top in ("l", "l2", "l5")
    }


def test_expected_distance_by_hand():
    """Sure of bin 1, halves of bins 0 and 2, and of what lies beyond the last edge."""
    step = (HEADS.distogram_last_break - HEADS.distogram_first_break) / 62
    labels = np.array([1, 63])
    logits = np.array(sure(labels, 64))
    halves = np.full(64, -80.0)
    halves[[0, 2]] = 0.0
    found = metrics.expected_distance(np.stack([*logits, halves]).astype("float32"), HEADS)
    first, last = HEADS.distogram_first_break, HEADS.distogram_last_break
    np.testing.assert_allclose(
        found, [first + step / 2, last + step / 2, first + step / 2], rtol=1e-5
    )
