"""Scores of interfaces: against the DockQ program, by hand, and what they must not depend on."""

import json

import numpy as np
import pytest
from dockq_cases import ANSWERS, CASES, complex_of
from points import rotation

from tffold import metrics

PROGRAM = {"dockq": "DockQ", "fnat": "fnat", "irms": "iRMSD", "ics": "F1", "contacts": "nat_total"}
NAMES = ("predicted", "predicted_mask", "true", "true_mask", "chain")


def scores_of(case):
    return metrics.interface_scores(*(case[name] for name in NAMES))


@pytest.mark.parametrize("name", CASES)
def test_scores_are_those_of_the_dockq_program(name):
    both = json.loads(ANSWERS.read_text())[name]
    case = complex_of(name)
    whole, (found,) = scores_of(case)
    assert (found.first, found.second) == (1, 2)
    best = max(both, key=lambda answer: answer["DockQ"])  # of both choices of a ligand
    for ours, theirs in PROGRAM.items():
        assert found.scores[ours] == pytest.approx(best[theirs], abs=2e-4), ours
    assert found.scores["lrms"] == pytest.approx(best["LRMSD"], abs=2e-3)
    for score in ("dockq", "fnat", "irms", "lrms", "ics", "interface_lddt"):
        assert whole[score] == pytest.approx(found.scores[score])


def test_the_order_of_chains_does_not_matter():
    case = complex_of("apart")
    other = case | {"chain": 3 - case["chain"]}
    rows = np.argsort(other["chain"], kind="stable")
    other = {name: values[rows] for name, values in other.items()}
    (_, (one,)), (_, (two,)) = scores_of(case), scores_of(other)
    assert one.scores == pytest.approx(two.scores)


def test_a_perfect_complex_anywhere_scores_one():
    case = complex_of("near")
    rng = np.random.default_rng(0)
    moved = case["true"] @ rotation(rng).T + 30.0
    whole, (found,) = scores_of(case | {"predicted": moved, "predicted_mask": case["true_mask"]})
    assert whole["irms"] < 1e-6 and whole["lrms"] < 1e-6
    for name in ("dockq", "fnat", "ics", "interface_lddt"):
        assert whole[name] == pytest.approx(1.0) and found.scores[name] == pytest.approx(1.0)


def square(x: float) -> np.ndarray:
    """Four residues with their Cα on a square at x, N and C next to it: [4, 37, 3]."""
    points = np.zeros((4, 37, 3))
    points[:, 1] = [[x, 0, 0], [x, 20, 0], [x, 0, 20], [x, 20, 20]]
    points[:, 0], points[:, 2] = points[:, 1] + [0, 0, 1.0], points[:, 1] + [0, 1.0, 0]
    return points


def three_chains(*places: float) -> np.ndarray:
    return np.concatenate([square(x) for x in places])


def test_scores_by_hand():
    """Chains 1 and 2 lie 4 Å apart, 3 far off; predicted, 3 touches 2 and 1 lost two contacts."""
    mask = np.zeros((12, 37))
    mask[:, :3] = 1.0
    chain = np.repeat([1, 2, 3], 4)
    true = three_chains(0.0, 4.0, 60.0)
    predicted = three_chains(0.0, 4.0, 8.0)
    predicted[:2, :, 0] -= 3.0
    whole, (found,) = metrics.interface_scores(predicted, mask, true, mask, chain)
    assert (found.first, found.second) == (1, 2)
    assert found.scores["contacts"] == 4 and found.scores["fnat"] == 0.5
    # Two of four contacts found, none wrong.
    assert found.scores["ics"] == pytest.approx(2 * 2 / (4 + 2))
    # Chains 2 and 3 have four more, all of them wrong.
    assert whole["ics"] == pytest.approx(2 * 2 / (4 + 6))
    # Within 15 Å there are four Cα pairs, two of them off by 3 Å: right within 4 alone.
    assert found.scores["interface_lddt"] == pytest.approx((2 * 1.0 + 2 * 0.25) / 4)
    assert whole["interface_lddt"] == found.scores["interface_lddt"]
    parts = {name: found.scores[name] for name in ("fnat", "irms", "lrms")}
    assert found.scores["dockq"] == pytest.approx(metrics.dockq(**parts))
    assert metrics.dockq(fnat=0.4, irms=1.5, lrms=8.5) == pytest.approx((0.4 + 0.5 + 0.5) / 3)


def test_contacts_of_residues_unknown_in_truth_do_not_count():
    mask = np.zeros((8, 37))
    mask[:, :3] = 1.0
    chain = np.repeat([1, 2], 4)
    points = three_chains(0.0, 4.0)
    known = mask.copy()
    known[3] = 0.0
    whole, (found,) = metrics.interface_scores(points, mask, points, known, chain)
    assert found.scores["contacts"] == 3 and whole["ics"] == 1.0
    padded = np.where(np.arange(8) == 3, 0, chain)  # likewise padding
    assert metrics.interface_scores(points, mask, points, mask, padded)[1][0].scores == found.scores


def test_chains_that_do_not_touch_have_no_scores():
    mask = np.zeros((8, 37))
    mask[:, :3] = 1.0
    points = three_chains(0.0, 40.0)
    assert metrics.interface_scores(points, mask, points, mask, np.repeat([1, 2], 4)) == ({}, [])


def test_distances_of_residues_by_hand():
    one, other = square(0.0), square(4.0)
    mask = np.zeros((4, 37))
    mask[:, 1] = 1.0
    mask[2] = 0.0
    found = metrics.interfaces.residue_distances(one, mask, other, mask)
    assert found[0, 0] == 4.0 and found[0, 1] == pytest.approx(np.hypot(4.0, 20.0))
    assert np.isinf(found[2]).all() and np.isinf(found[:, 2]).all()


def test_distances_are_the_same_in_blocks(monkeypatch):
    case = complex_of("small")
    sides = [case["chain"] == number for number in (1, 2)]
    arrays = [x for side in sides for x in (case["true"][side], case["true_mask"][side])]
    whole = metrics.interfaces.residue_distances(*arrays)
    monkeypatch.setattr(metrics.interfaces, "_BLOCK", 1)
    np.testing.assert_array_equal(metrics.interfaces.residue_distances(*arrays), whole)
