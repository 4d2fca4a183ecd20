"""Merging of alignments against DeepMind's numbers and the plain definition."""

from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from pairing_cases import PairingCase, columns, merge, merged_by_definition, paths

from tffold.data import pairing
from tffold.data.pairing import pair_rows

GOLDEN = Path(__file__).parents[1] / "golden_multimer"
GAP = 21


def entity(rng, num_res, num_rows, num_hits, num_species=6, num_letters=3):
    """Few letters and short rows: there are equal rows, similarities and products."""
    shape = (num_hits, num_res)
    hits = rng.integers(0, num_letters, shape)
    hits[rng.random(num_hits) < 0.1] = GAP
    species = rng.integers(0, num_species, num_hits)
    msa = rng.integers(0, num_letters, (num_rows, num_res))
    if num_hits:
        hits[0] = msa[0]
        half = max(num_rows // 2, 1)
        msa[half:] = hits[rng.integers(0, num_hits, num_rows - half)]
    return {
        "msa": msa.astype(np.uint8),
        "deletions": rng.integers(0, 200, msa.shape).astype(np.uint8),
        "hits": hits.astype(np.uint8),
        "hit_deletions": np.where(np.arange(num_hits)[:, None] > 0, rng.integers(0, 99, shape), 0),
        "species": species,
    }


def query_deletions_are_equal(entities):
    for one in entities:
        one["deletions"][0] = 0
    return entities


def whole(entities, copies):
    """The columns of all chains."""
    return columns([one["msa"].shape[1] for one in entities], copies)


def test_there_are_cases():
    assert paths(GOLDEN)


@pytest.mark.parametrize("path", paths(GOLDEN), ids=lambda path: path.stem)
def test_merged_as_by_deepmind(path):
    PairingCase(path).check()


COMPLEXES = [
    ((3, 3, 3), (1, 1, 1)),
    ((5, 2), (2, 1)),
    ((4, 2), (1, 3)),
    ((2, 3, 2, 4), (2, 1, 1, 2)),
]


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize(("widths", "copies"), COMPLEXES)
def test_merged_by_definition(widths, copies, seed, monkeypatch):
    monkeypatch.setattr(pairing, "MAX_ROWS", 30)
    monkeypatch.setattr(pairing, "MAX_PAIRED_ROWS", 15)
    monkeypatch.setattr(pairing, "MAX_OF_SPECIES", 9)
    rng = np.random.default_rng([seed, len(widths)])
    entities = query_deletions_are_equal(
        [entity(rng, r, int(rng.integers(1, 50)), int(rng.integers(1, 60))) for r in widths]
    )
    rows, deletions, cells, _ = merged_by_definition(entities, copies)
    made = merge(entities, copies, *whole(entities, copies))
    np.testing.assert_array_equal(made["msa"], rows)
    np.testing.assert_array_equal(made["deletion_matrix"], deletions)
    np.testing.assert_array_equal(made["bert_cells"], cells)
    assert made["cluster_bias_mask"].tolist() == [1.0] + [0.0] * (len(rows) - 1)
    assert made["num_paired"] == cells.all(1).sum()


def test_pairs_by_hand():
    """Two entities, the second in two copies; species 5 in both, 7 in the second alone."""
    table = pair_rows(
        species=tf.constant([0, 5, 5, 0, 5, 7, 5, 5], tf.int64),
        similarity=tf.constant([9, 1, 3, 9, 2, 1, 2, 4]),
        entity=tf.constant([0, 0, 0, 1, 1, 1, 1, 1]),
        number=tf.constant([0, 1, 2, 0, 1, 2, 3, 4]),
        num_copies=tf.constant([1, 2]),
    )
    # Products 1 * 1 * 1 and 2 * 4 * 4; then the pair of copies alone.
    assert table.numpy().tolist() == [[0, 0], [1, 1], [2, 4], [-1, 2]]


def test_large_products_keep_their_order():
    """Over eight copies: beyond 64 bits, where whole numbers overflow."""
    rows = 3000
    number = tf.concat([tf.range(rows), tf.range(rows)], 0)
    table = pair_rows(
        species=tf.cast(tf.range(2 * rows) % rows, tf.int64),
        similarity=tf.zeros([2 * rows], tf.int32),
        entity=tf.repeat([0, 1], rows),
        number=number,
        num_copies=tf.constant([4, 4]),
    ).numpy()
    assert table.tolist() == [[n, n] for n in range(rows)]


def test_a_homomer_is_not_paired():
    rng = np.random.default_rng(0)
    (one,) = entities = [entity(rng, 4, 9, 20)]
    made = merge(entities, [3], *whole(entities, [3]))
    np.testing.assert_array_equal(made["msa"], np.tile(one["msa"], 3))
    np.testing.assert_array_equal(made["deletion_matrix"], np.tile(one["deletions"], 3))
    assert made["num_paired"] == 0 and made["bert_cells"].all()
    assert made["cluster_bias_mask"].tolist() == [1.0] + [0.0] * 8


@pytest.mark.parametrize("seed", range(3))
def test_a_crop_is_of_the_whole(seed):
    """Its columns of the rows of the whole complex; without rows of chains outside of it."""
    rng = np.random.default_rng(seed)
    copies = [1, 2, 1]
    entities = [entity(rng, r, 12, 20) for r in (5, 4, 3)]
    of, column = whole(entities, copies)
    everything = merge(entities, copies, of, column)
    chosen = np.sort(rng.choice(np.flatnonzero(of != seed), 6, replace=False))
    cropped = merge(entities, copies, of[chosen], column[chosen])
    rows = everything["msa"].astype(int)
    absent = (rows[:, of != seed] == GAP).all(1)
    inside = everything["bert_cells"][:, of != seed].any(1)
    paired = np.arange(len(rows)) < everything["num_paired"]
    # A paired row has all cells; it stays unless all its chains are outside.
    keep = np.where(paired, ~absent, inside)
    assert 0 < keep.sum() < len(rows)
    for name in ("msa", "deletion_matrix", "bert_cells"):
        got, want = cropped[name], everything[name][keep][:, chosen]
        np.testing.assert_array_equal(got, want, err_msg=name)
    assert cropped["num_paired"] == (keep & paired).sum()


def test_chains_without_alignment_or_species():
    """A query alone pairs nothing but itself; rows of unknown species stay unpaired."""
    rng = np.random.default_rng(1)
    entities = [entity(rng, 4, 10, 30), entity(rng, 3, 1, 0), entity(rng, 5, 6, 30)]
    entities[2]["species"][:] = 0
    made = merge(entities, [1, 1, 1], *whole(entities, [1, 1, 1]))
    assert made["num_paired"] == 1
    queries = np.concatenate([one["msa"][0] for one in entities])
    np.testing.assert_array_equal(made["msa"][0], queries)
    of_chain = Counter(map(tuple, made["bert_cells"][1:].astype(int).tolist()))
    assert (0, 0, 0, 0, 1, 1, 1, 0, 0, 0, 0, 0) not in of_chain  # its query is in the first row
    alone = [entity(rng, 4, 1, 0), entity(rng, 3, 1, 0)]
    assert merge(alone, [1, 1], *whole(alone, [1, 1]))["msa"].shape == (1, 7)
