"""Every metric of a complex: confidence against what it foretells, and matched copies."""

import numpy as np
import pytest
import tensorflow as tf
from dockq_cases import complex_of
from points import rotation, sure

from tffold import metrics
from tffold.config import HeadsConfig
from tffold.data.targets import structure_labels
from tffold.geometry import Rigid
from tffold.train.permutation import permuted

HEADS = HeadsConfig()
NUM_BINS, STEP = 64, 0.5  # of the aligned-error head, Å


def example_of(case, order=(1, 2)):
    """A batch of a case whose true copies are stored in this order, and the network's outputs."""
    chain = case["chain"]
    sizes = np.bincount(chain)[1:]
    stored = np.concatenate([np.flatnonzero(chain == number) for number in order])
    same = len(set(sizes)) == 1
    starts = np.cumsum([0, *sizes[:-1]])
    batch = {
        "aatype": case["aatype"].astype(np.int32),
        "seq_mask": np.ones(len(chain), np.float32),
        "asym_id": chain.astype(np.int32),
        "entity_id": np.where(same, 1, chain).astype(np.int32),
        "residue_index": np.concatenate([np.arange(n) for n in sizes]).astype(np.int32),
        "atom37_atom_exists": case["predicted_mask"].astype(np.float32),
        "assembly_atom_positions": case["true"][stored].astype(np.float32),
        "assembly_atom_mask": case["true_mask"][stored].astype(np.float32),
        "assembly_chain_start": starts.astype(np.int32),
        "assembly_chain_length": sizes.astype(np.int32),
        "assembly_chain_entity": np.array([1, 1 if same else 2], np.int32),
    }
    predicted = case["predicted"].astype(np.float32)
    return {"structure_module": {"final_atom_positions": tf.constant(predicted)}}, batch


def measured(outputs, batch):
    batch = {name: tf.constant(value) for name, value in batch.items()}
    predicted = outputs["structure_module"]["final_atom_positions"][:, 1]
    return metrics.complex_metrics(outputs, permuted(batch, predicted), HEADS)


def test_relabelled_copies_of_a_homodimer_score_alike():
    case = complex_of("apart")
    outputs, batch = example_of(case)
    whole, (found,) = measured(outputs, batch)
    again, (other,) = measured(*example_of(case, order=(2, 1)))
    # The dimer is symmetric: but for its coordinates' rounding either copy is as good.
    assert again == pytest.approx(whole, rel=1e-4)
    assert other.scores == pytest.approx(found.scores, rel=1e-4)
    by_hand, _ = metrics.interface_scores(
        *(case[n] for n in ("predicted", "predicted_mask", "true", "true_mask", "chain"))
    )
    assert whole["dockq"] == pytest.approx(by_hand["dockq"], abs=1e-3)
    # Held against the wrong copies it would score otherwise.
    wrong = dict(batch)
    wrong |= structure_labels(
        batch["aatype"], batch["assembly_atom_positions"][::-1], batch["assembly_atom_mask"][::-1]
    )
    assert metrics.complex_metrics(outputs, wrong, HEADS)[0].get("dockq", 0.0) < whole["dockq"]


def test_relabelled_predicted_copies_score_alike():
    case = complex_of("apart")
    whole, _ = measured(*example_of(case))
    swapped = case | {"predicted": np.concatenate(np.split(case["predicted"], 2)[::-1])}
    assert measured(*example_of(swapped))[0] == pytest.approx(whole, rel=1e-4)


def with_true_errors(outputs, batch):
    """The outputs with an aligned-error head that is sure of the bin that truth lies in."""
    predicted = np.asarray(outputs["structure_module"]["final_atom_positions"])
    true = batch["assembly_atom_positions"]

    def frames(points):
        x = points[:, 0] - points[:, 1]
        x /= np.linalg.norm(x, axis=-1, keepdims=True)
        y = points[:, 2] - points[:, 1]
        y -= (y * x).sum(-1, keepdims=True) * x
        y /= np.linalg.norm(y, axis=-1, keepdims=True)
        rot = np.stack([x, y, np.cross(x, y)], axis=-1)
        return np.einsum("ixc,ijx->ijc", rot, points[None, :, 1] - points[:, None, 1])

    error = np.linalg.norm(frames(predicted) - frames(true), axis=-1)
    bins = np.minimum((error / STEP).astype(int), NUM_BINS - 1)
    logits = sure(bins, NUM_BINS)
    return outputs | {"predicted_aligned_error": {"logits": logits}}, error


def test_an_honest_network_foretells_its_interface_score():
    outputs, batch = example_of(complex_of("peptide"))
    outputs, error = with_true_errors(outputs, batch)
    whole, (found,) = measured(outputs, batch)
    assert whole["predicted_iptm"] == pytest.approx(whole["interface_tm"], abs=0.02)
    assert whole["iptm_error"] == abs(whole["predicted_iptm"] - whole["interface_tm"])
    # By hand: for each residue the mean over the other chain; the best residue counts.
    chain = batch["asym_id"]
    d0 = 1.24 * (len(chain) - 15) ** (1 / 3) - 1.8
    apart = chain[:, None] != chain[None]
    by_hand = ((apart / (1 + (error / d0) ** 2)).sum(1) / apart.sum(1)).max()
    assert whole["interface_tm"] == pytest.approx(by_hand, abs=1e-3)
    # Two chains are the whole complex.
    assert found.scores["predicted_iptm"] == whole["predicted_iptm"]
    ptm = float(metrics.predicted_tm_score(
        outputs["predicted_aligned_error"]["logits"], batch["seq_mask"], HEADS))  # fmt: skip
    ranked = 0.8 * whole["predicted_iptm"] + 0.2 * ptm
    assert whole["ranking_score"] == pytest.approx(ranked)


def test_iptm_of_a_pair_is_that_of_the_pair_alone():
    rng = np.random.default_rng(0)
    chain = np.repeat([1, 2, 3], [8, 6, 9])
    logits = rng.standard_normal((23, 23, NUM_BINS)).astype("float32")
    found = metrics.iptm_by_pair(logits, chain, HEADS)
    assert list(found) == [(1, 2), (1, 3), (2, 3)]
    rows = np.flatnonzero(chain != 2)
    alone = metrics.predicted_tm_score(
        tf.constant(logits[np.ix_(rows, rows)]), tf.ones(17), HEADS, tf.constant(chain[rows])
    )
    assert found[1, 3] == pytest.approx(float(alone))


def test_one_chain_is_no_complex():
    outputs, batch = example_of(complex_of("small"))
    assert metrics.complex_metrics(outputs, batch | {"asym_id": batch["asym_id"] * 0 + 1}, HEADS) \
        == ({}, [])  # fmt: skip


def test_the_error_of_a_moved_copy_is_zero():
    rng = np.random.default_rng(0)
    frames = Rigid(
        np.stack([rotation(rng) for _ in range(5)]).astype("float32"),
        rng.standard_normal((5, 3)).astype("float32"),
    )
    turn = rotation(rng).astype("float32")
    moved = Rigid(turn @ frames.rot, frames.trans @ turn.T + 7.0)
    np.testing.assert_allclose(metrics.aligned_error(moved, frames), 0.0, atol=1e-5)
