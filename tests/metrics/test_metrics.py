"""Metrics by hand, and against Biopython and TM-align."""

import numpy as np
import pytest
import tensorflow as tf
import tmtools
from Bio.SVDSuperimposer import SVDSuperimposer
from reference import load_batch, load_expected, nest

from tffold import metrics
from tffold.config import HeadsConfig

HEADS = HeadsConfig()


@pytest.fixture
def rng():
    return np.random.default_rng(0)


def line(*x):
    return np.stack([np.array(x, "float32"), *[np.zeros(len(x), "float32")] * 2], axis=-1)


def rotation(rng):
    q = np.linalg.qr(rng.standard_normal((3, 3)))[0]
    return q * np.sign(np.linalg.det(q))


def chain(rng, num):
    return np.cumsum(rng.standard_normal((num, 3)), axis=0) * 2.2


def sure(labels, num_classes):
    return tf.constant(np.eye(num_classes, dtype="float32")[np.asarray(labels)] * 80)


def test_drmsd_by_hand(rng):
    ones = np.ones(3, "float32")
    # Distances 1, 3, 2 against 1, 5, 4: off by 0, 2, 2.
    found = metrics.drmsd(line(0, 1, 3), line(0, 1, 5), ones)
    assert float(found) == pytest.approx(np.sqrt(8 / 3), rel=1e-4)
    assert float(metrics.drmsd(line(0, 1, 3), line(0, 1, 5), np.array([1.0, 1, 0], "f"))) < 1e-4
    assert float(metrics.drmsd(line(0, 1, 3), line(0, 1, 5), np.array([0.0, 1, 0], "f"))) == 0
    x = chain(rng, 9).astype("float32")
    assert float(metrics.drmsd(-x @ rotation(rng).astype("f"), x, np.ones(9, "f"))) < 1e-3


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


def test_predicted_lddt_is_the_mean_of_its_bins():
    np.testing.assert_allclose(
        metrics.predicted_lddt(sure([0, 25, 49], 50)), [1, 51, 99], rtol=1e-5
    )
    flat = metrics.predicted_lddt(tf.zeros([2, 50]))
    np.testing.assert_allclose(flat, [50, 50], rtol=1e-5)


def test_predicted_error_and_tm_by_hand():
    logits = sure(np.array([[0, 3], [63, 1]]), 64)
    np.testing.assert_allclose(
        metrics.predicted_aligned_error(logits, HEADS), [[0.25, 1.75], [31.75, 0.75]], rtol=1e-5
    )
    num = 100
    d0 = 1.24 * 85 ** (1 / 3) - 1.8
    labels = np.full((num, num), 63)
    labels[4, :50] = 0
    mask = np.ones(num, "float32")
    near, far = (1 / (1 + (error / d0) ** 2) for error in (0.25, 31.75))
    found = metrics.predicted_tm_score(sure(labels, 64), mask, HEADS)
    assert float(found) == pytest.approx((near + far) / 2, rel=1e-4)
    # Residues that are not there are neither counted nor chosen.
    mask[4] = 0
    found = metrics.predicted_tm_score(sure(labels, 64), mask, HEADS)
    d0 = 1.24 * 84 ** (1 / 3) - 1.8
    assert float(found) == pytest.approx(1 / (1 + (31.75 / d0) ** 2), rel=1e-4)


def test_calibration_by_hand():
    found = metrics.confidence_calibration(
        np.array([50.0, 70, 90, 0]), np.array([0.4, 0.7, 1.0, 1.0]), np.array([1, 1, 1, 0])
    )
    assert found["plddt"] == pytest.approx(70)
    assert found["plddt_error"] == pytest.approx(20 / 3)
    assert found["plddt_correlation"] == pytest.approx(1.0)
    flat = metrics.confidence_calibration(np.ones(2), np.array([0.1, 0.9]), np.ones(2))
    assert "plddt_correlation" not in flat


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
    assert metrics.contact_precision(*args, min_separation=25)["contact_precision_l5"] == (
        pytest.approx(4 / 6)
    )
    mask[0] = 0  # takes (0, 25) and (0, 29) with it; L is 29
    found = metrics.contact_precision(probability, beta, mask, index)
    assert found["contact_precision_l5"] == pytest.approx(3 / 5)
    # A gap in the numbering moves residues apart.
    spread = metrics.contact_precision(probability, beta, np.ones(num), index * 24)
    assert spread["contact_precision_l"] == pytest.approx(4 / 30)
    assert metrics.contact_precision(*args, min_separation=30) == {}


@pytest.fixture(scope="module")
def example():
    batch = {name: value[-1] for name, value in load_batch("case_a").items()}
    outputs = nest(load_expected("case_a"))
    return outputs, batch


def test_everything_of_a_chain(example):
    outputs, batch = example
    found = metrics.chain_metrics(outputs, batch, HEADS)
    assert {
        "lddt_ca", "drmsd_ca", "rmsd_ca", "tm_score", "gdt_ts", "gdt_ha", "plddt",
        "plddt_error", "plddt_correlation", "predicted_tm",
    } <= set(found)  # fmt: skip
    assert all(isinstance(value, float) and np.isfinite(value) for value in found.values())
    predicted = outputs["structure_module"]["final_atom_positions"][:, 1]
    superimposer = SVDSuperimposer()
    superimposer.set(batch["all_atom_positions"][:, 1], predicted)
    superimposer.run()
    assert found["rmsd_ca"] == pytest.approx(superimposer.get_rms(), rel=1e-4)
    truth = {"structure_module": {"final_atom_positions": batch["all_atom_positions"]}}
    perfect = metrics.chain_metrics(truth, batch, HEADS)
    assert set(perfect) == {"lddt_ca", "drmsd_ca", "rmsd_ca", "tm_score", "gdt_ts", "gdt_ha"}
    assert perfect.pop("drmsd_ca") < 1e-4 and perfect.pop("rmsd_ca") < 1e-3
    assert all(value == pytest.approx(1.0, abs=1e-5) for value in perfect.values())


def test_compiled(example):
    outputs, batch = example
    structure = {
        "structure_module": {
            "final_atom_positions": outputs["structure_module"]["final_atom_positions"]
        }
    }
    labels = {name: batch[name] for name in ("all_atom_positions", "all_atom_mask")}
    compiled = tf.function(metrics.ca_metrics, jit_compile=True)(structure, labels)
    for name, value in metrics.ca_metrics(structure, labels).items():
        assert float(compiled[name]) == pytest.approx(float(value), rel=1e-4)


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
