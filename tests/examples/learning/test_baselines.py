"""Baselines on chains whose answers are known."""

from __future__ import annotations

import numpy as np
import pytest
from synthetic import chain

from examples.learning import baselines
from records.chemistry import ATOM_ORDER
from tffold import geometry


def placed(ca, **options):
    """A chain of alanines whose Cα and Cβ are at these places."""
    num = len(ca)
    positions, mask = np.zeros((num, 37, 3), np.float32), np.zeros((num, 37), np.uint8)
    for atom in ("CA", "CB"):
        positions[:, ATOM_ORDER[atom]], mask[:, ATOM_ORDER[atom]] = ca, 1
    aatype = np.zeros(num, np.uint8)
    return chain(num, 5, 0) | {
        "all_atom_positions": positions, "all_atom_mask": mask, "aatype": aatype, **options
    }  # fmt: skip


def helix(num, rise=1.5):
    turn = np.deg2rad(100.0) * np.arange(num)
    return np.stack([2.3 * np.cos(turn), 2.3 * np.sin(turn), rise * np.arange(num)], -1)


def test_means_by_separation():
    """Of two straight chains with steps of 3 and 5 Å, one of them with an unknown residue."""
    line = np.arange(30)[:, None] * np.array([1.0, 0, 0])
    far = placed(5.0 * line)
    far["all_atom_mask"][10] = 0
    found = baselines.Separations.of([placed(3.0 * line), far])
    # 29 pairs of neighbours in one, 27 in the other.
    assert found.distance[1] == pytest.approx((29 * 3 + 27 * 5) / 56)
    assert found.contact[[1, 2, 3]] == pytest.approx([1, 28 / (28 + 26), 0])
    assert found.distance[200] == pytest.approx(found.distance[29])


def test_constant_distances_are_embedded_to_the_structure_they_are_from():
    """A helix is made of distances that depend on the separation alone."""
    raw = placed(helix(40))
    scores = baselines.Separations.of([raw]).scores(raw)
    assert scores["lddt_ca"] > 0.99 and scores["tm_score"] > 0.95
    assert scores["contact_precision_l5"] == 0.0
    points = np.random.default_rng(0).normal(scale=5.0, size=(20, 3))
    distances = np.linalg.norm(points[:, None] - points[None], axis=-1)
    again = baselines.embed(distances)
    assert float(geometry.lddt(again, points, np.ones(20))) > 0.99


def test_pairs_of_one_separation_have_no_order():
    """Precision of a constant is the share of contacts among pairs as far apart."""
    rng = np.random.default_rng(0)
    ca = rng.normal(scale=8.0, size=(60, 3))
    raw = placed(ca)
    flat = baselines.Separations(np.full(256, 10.0), np.full(256, 0.5))
    apart = np.subtract.outer(np.arange(60), np.arange(60)) >= 24
    share = (np.linalg.norm(ca[:, None] - ca[None], axis=-1) < 8.0)[apart].mean()
    assert flat.scores(raw)["contact_precision_l"] == pytest.approx(share, abs=0.05)


def test_rows_that_are_alike_share_a_weight():
    rows = np.array([[0] * 10, [0] * 8 + [1] * 2, [5] * 10])
    np.testing.assert_allclose(baselines.row_weights(rows), [0.5, 0.5, 1.0])


def test_covariation_finds_the_pairs_that_change_together():
    """Not those that go together only through a third, nor a conserved one."""
    rng = np.random.default_rng(0)
    msa = rng.integers(0, 20, (400, 12))
    msa[:, 1] = 3  # conserved
    partner = rng.permutation(20)
    msa[:, 9] = np.where(rng.random(400) < 0.9, partner[msa[:, 2]], msa[:, 9])
    msa[:, 7] = np.where(rng.random(400) < 0.9, partner[msa[:, 9]], msa[:, 7])
    msa[rng.random(msa.shape) < 0.05] = 21
    score = baselines.covariation(msa)
    np.testing.assert_allclose(score, score.T, atol=1e-9)
    ranked = np.argsort(-score[np.triu_indices(12, 1)])
    pairs = list(zip(*np.triu_indices(12, 1), strict=True))
    assert {pairs[ranked[0]], pairs[ranked[1]]} == {(2, 9), (7, 9)}
    assert abs(score[1]).max() < 0.2 * score[2, 9]
    assert np.isfinite(baselines.covariation(msa[:1])).all()


def test_contacts_of_an_alignment_are_held_against_the_structure():
    num = 40
    ca = np.arange(num)[:, None] * np.array([30.0, 0, 0])
    ca[30] = ca[2] + [0, 5, 0]
    rng = np.random.default_rng(1)
    msa = rng.integers(0, 20, (300, num)).astype(np.uint8)
    msa[:, 30] = msa[:, 2]
    scores = baselines.covariation_scores(placed(ca, msa=msa))
    assert scores["contact_precision_l5"] == pytest.approx(1 / 8)
    msa[:, 30] = rng.integers(0, 20, 300)
    assert baselines.covariation_scores(placed(ca, msa=msa))["contact_precision_l5"] == 0.0
