"""TM-score and GDT, by hand and against TM-align."""

import numpy as np
import pytest
import tmtools
from points import chain, line, rotation

from tffold import metrics


@pytest.fixture
def rng():
    return np.random.default_rng(0)


def test_tm_scale():
    assert metrics.tm_d0(100) == pytest.approx(1.24 * 85 ** (1 / 3) - 1.8)
    assert metrics.tm_d0(21) == metrics.tm_d0(5) == 0.5


def test_a_moved_copy_scores_one_and_one_stray_residue_costs_its_share(rng):
    true = chain(rng, 40)
    moved = true @ rotation(rng) + 30
    ones = np.ones(40)
    perfect = metrics.superposition_scores(moved, true, ones)
    assert all(value == pytest.approx(1.0) for value in perfect.values())
    moved[7] += 50
    stray = metrics.superposition_scores(moved, true, ones)
    assert stray["gdt_ts"] == stray["gdt_ha"] == pytest.approx(39 / 40)
    assert stray["tm_score"] == pytest.approx(39 / 40, abs=1e-3)
    ones[7] = 0
    masked = metrics.superposition_scores(moved, true, ones)
    assert masked["gdt_ts"] == pytest.approx(1.0)
    mirrored = metrics.superposition_scores(-true, true, np.ones(40))
    assert mirrored["tm_score"] < 0.6


def test_gdt_by_hand(rng):
    """Of 60 residues 40 are in place, 10 are 3 Å off, 10 are lost."""
    true = chain(rng, 60)
    away = rng.standard_normal((60, 3))
    away /= np.linalg.norm(away, axis=-1, keepdims=True)
    order = rng.permutation(60)
    moved = true.copy()
    moved[order[:10]] += 3 * away[:10]
    moved[order[10:20]] += 50 * away[10:20]
    found = metrics.superposition_scores(moved @ rotation(rng), true, np.ones(60))
    # A superposition that is a little off may catch a few more of those 3 Å away.
    for name, expected in (("gdt_ts", (2 * 40 + 2 * 50) / 240), ("gdt_ha", (3 * 40 + 50) / 240)):
        assert expected - 1e-9 <= found[name] <= expected + 0.04


@pytest.mark.parametrize("num", [24, 90, 200])
@pytest.mark.parametrize("kind", ["noise", "hinge", "drift", "unrelated"])
def test_tm_score_equals_tm_align(num, kind):
    rng = np.random.default_rng(num)
    true = chain(rng, num)
    predicted = true + rng.standard_normal((num, 3))
    if kind == "hinge":
        half = num // 2
        predicted[half:] = (predicted[half:] - predicted[half]) @ rotation(rng) + predicted[half]
    elif kind == "drift":
        predicted = true + np.cumsum(rng.standard_normal((num, 3)), axis=0) * 0.5
    elif kind == "unrelated":
        predicted = chain(rng, num)
    found = metrics.superposition_scores(predicted, true, np.ones(num))
    sequence = "A" * num
    other = tmtools.tm_align(predicted, true, sequence, sequence, alignment=[sequence] * 2)
    assert found["tm_score"] == pytest.approx(other.tm_norm_chain2, abs=2e-3)


def test_scores_of_tiny_chains_and_of_none():
    for num in (1, 2, 3, 5):
        found = metrics.superposition_scores(line(*range(num)), line(*range(num)), np.ones(num))
        assert found["tm_score"] == pytest.approx(1.0)
    with pytest.raises(ValueError, match="no residue"):
        metrics.superposition_scores(line(0, 1), line(0, 1), np.zeros(2))
