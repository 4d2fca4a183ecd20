"""Cluster assignment and summaries against DeepMind's numbers and the plain definition."""

from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

from tffold.data import clusters

GOLDEN = Path(__file__).parents[1] / "golden" / "clusters_1ubq.npz"


def _by_definition(centres, rows):
    """Product of one-hot encodings, gap and mask weighing nothing."""
    same = (rows[:, None] == centres[None]) & (centres[None] < 21)
    return same.sum(axis=-1).argmax(axis=1)


def _assign(centres, rows, num_centres=None):
    """As in a data set's graph."""
    count = num_centres or len(centres)
    graph = tf.function(lambda *x: clusters.assign(*x, num_centres=count), autograph=False)
    return graph(tf.constant(centres), tf.constant(rows)).numpy()


def _letters(golden, name):
    return golden[f"in/{name}"].astype(np.uint8)


def test_assignment_is_deepminds():
    golden = np.load(GOLDEN)
    assigned = _assign(_letters(golden, "msa"), _letters(golden, "extra_msa"))
    np.testing.assert_array_equal(assigned, golden["out/extra_cluster_assignment"])


def test_profiles_are_deepminds():
    golden = np.load(GOLDEN)
    names = ("msa", "deletion_matrix", "extra_msa", "extra_deletion_matrix")
    profile, deletion_mean = clusters.summarize(
        *(tf.constant(_letters(golden, name)) for name in names),
        tf.constant(golden["out/extra_cluster_assignment"].astype(np.int32)),
        num_centres=12,
        num_res=76,
    )
    np.testing.assert_allclose(profile, golden["out/cluster_profile"], atol=1e-6)
    np.testing.assert_allclose(deletion_mean, golden["out/cluster_deletion_mean"], atol=1e-6)


@pytest.mark.parametrize(
    ("num_centres", "num_rows", "num_res"),
    [(1, 5, 7), (2, 1, 1), (64, 50, 33), (65, 300, 130), (124, 500, 40), (508, 60, 300)],
)
@pytest.mark.parametrize("num_letters", [3, 22])
def test_assignment_by_definition(num_centres, num_rows, num_res, num_letters):
    """Few letters make many ties: the first centre must win them."""
    rng = np.random.default_rng([num_centres, num_letters])
    centres = rng.integers(0, num_letters, (num_centres, num_res)).astype(np.uint8)
    rows = rng.integers(0, num_letters, (num_rows, num_res)).astype(np.uint8)
    centres[rng.random(centres.shape) < 0.1] = 22
    centres[rng.random(centres.shape) < 0.1] = 21
    rows[rng.random(rows.shape) < 0.2] = 21
    np.testing.assert_array_equal(_assign(centres, rows), _by_definition(centres, rows))


@pytest.mark.parametrize("size", [(16, 53, 30), (20, 512, 32), (9, 513, 33)])
def test_blocks_of_rows_and_columns_join(size):
    num_centres, num_rows, num_res = size
    rng = np.random.default_rng(0)
    centres = rng.integers(0, 23, (num_centres, num_res)).astype(np.uint8)
    rows = rng.integers(0, 22, (num_rows, num_res)).astype(np.uint8)
    np.testing.assert_array_equal(_assign(centres, rows), _by_definition(centres, rows))
    more = _assign(centres, rows, num_centres=num_centres + 7)
    np.testing.assert_array_equal(more, _by_definition(centres, rows))


def test_more_columns_than_a_byte_counts():
    """Rows that agree in 300, 280 and 1000 columns."""
    centres = np.zeros((3, 1000), np.uint8)
    centres[0, 300:], centres[1, 280:] = 21, 1
    rows = np.zeros((2, 1000), np.uint8)
    rows[1, 280:] = 1
    assert _assign(centres, rows).tolist() == [2, 1]
    # 260 columns are 4 more than a byte holds, and more than 200.
    centres = np.ones((2, 400), np.uint8)
    centres[0, :260] = centres[1, :200] = 0
    assert _assign(centres, np.zeros((1, 400), np.uint8)).tolist() == [0]


def test_gaps_and_masks_never_agree():
    centres = np.array([[21, 21, 21, 1], [22, 22, 2, 3]], np.uint8)
    rows = np.array([[21, 21, 21, 3], [21, 21, 21, 21]], np.uint8)
    assert _assign(centres, rows).tolist() == [1, 0]  # nothing agrees: the first


def test_unknown_residues_do_agree():
    centres = np.array([[0, 0], [20, 1]], np.uint8)
    assert _assign(centres, np.array([[20, 5]], np.uint8)).tolist() == [1]


def test_no_rows():
    centres = np.zeros((3, 5), np.uint8)
    assert _assign(centres, np.zeros((0, 5), np.uint8)).shape == (0,)
    profile, deletion_mean = clusters.summarize(
        tf.constant(centres),
        tf.constant(centres),
        tf.zeros([0, 5], tf.uint8),
        tf.zeros([0, 5], tf.uint8),
        tf.zeros([0], tf.int32),
        num_centres=3,
        num_res=5,
    )
    np.testing.assert_allclose(profile[..., 0], 1.0, rtol=1e-5)
    assert not deletion_mean.numpy().any()


def test_summary_by_hand():
    """Two centres, the second with one further row; padded to three centres and residues."""
    profile, deletion_mean = clusters.summarize(
        tf.constant([[0, 22], [4, 5]], tf.uint8),
        tf.constant([[0, 3], [0, 1]], tf.uint8),
        tf.constant([[4, 21]], tf.uint8),
        tf.constant([[6, 0]], tf.uint8),
        tf.constant([1]),
        num_centres=3,
        num_res=3,
    )
    expected = np.zeros((3, 3, 23))
    expected[0, 0, 0] = expected[0, 1, 22] = expected[1, 0, 4] = 1.0
    expected[1, 1, 5] = expected[1, 1, 21] = 0.5
    np.testing.assert_allclose(profile, expected, atol=2e-6)
    np.testing.assert_allclose(deletion_mean, [[0, 3, 0], [3, 0.5, 0], [0, 0, 0]], atol=4e-6)


def test_profiles_sum_to_one():
    rng = np.random.default_rng(1)
    centres, rows = rng.integers(0, 23, (9, 11)), rng.integers(0, 22, (70, 11))
    profile, _ = clusters.summarize(
        tf.constant(centres, tf.uint8),
        tf.zeros([9, 11], tf.uint8),
        tf.constant(rows, tf.uint8),
        tf.zeros([70, 11], tf.uint8),
        tf.constant(rng.integers(0, 9, 70), tf.int32),
        num_centres=9,
        num_res=11,
    )
    np.testing.assert_allclose(profile.numpy().sum(axis=-1), 1.0, rtol=1e-5)


@pytest.mark.parametrize("size", [(2, 140, 300), (9, 20, 256), (7, 700, 12)])
def test_summary_by_definition(size):
    """Few and many rows for each centre, more columns than are summed up at a time."""
    num_centres, num_rows, num_res = size
    rng = np.random.default_rng(num_rows)
    centres = rng.integers(0, 23, (num_centres, num_res)).astype(np.uint8)
    rows = rng.integers(0, 22, (num_rows, num_res)).astype(np.uint8)
    deletions = [rng.integers(0, 256, x.shape).astype(np.uint8) for x in (centres, rows)]
    # The last centre has no rows, the first one most.
    assignment = rng.integers(0, num_centres - 1, num_rows) * rng.integers(0, 2, num_rows)
    found = clusters.summarize(
        *map(tf.constant, (centres, deletions[0], rows, deletions[1])),
        tf.constant(assignment, tf.int32),
        num_centres=num_centres + 1,
        num_res=num_res + 2,
    )
    member = np.eye(num_centres)[np.concatenate([np.arange(num_centres), assignment])]
    count = member.sum(0) + 1e-6
    one_hot = np.eye(23)[np.concatenate([centres, rows])]
    profile = np.einsum("ns,nrc->src", member, one_hot) / count[:, None, None]
    deleted = member.T @ np.concatenate(deletions) / count[:, None]
    for got, want in zip(found, (profile, deleted), strict=True):
        np.testing.assert_allclose(got[:num_centres, :num_res], want, rtol=1e-6)
        assert not got[num_centres:].numpy().any() and not got[:, num_res:].numpy().any()


def _shared_by_definition(centres, centre_deletions, rows, row_deletions):
    """DeepMind's sums of one-hot products, a softmax of a thousand times the agreement."""
    num_res = centres.shape[1]
    agreement = ((rows[:, None] == centres[None]) & (centres[None] < 21)).sum(-1)
    share = (agreement == agreement.max(1, keepdims=True)).astype(float)
    share *= num_res / share.sum(1, keepdims=True)
    size = 1.0 + share.sum(0)
    letters = np.eye(23)
    profile = letters[centres] + np.einsum("ns,nrc->src", share, letters[rows])
    deleted = centre_deletions + share.T @ row_deletions
    return profile / size[:, None, None], deleted / size[:, None]


@pytest.mark.parametrize("size", [(1, 5, 7), (2, 1, 1), (9, 40, 33), (20, 513, 12), (12, 30, 40)])
@pytest.mark.parametrize("num_letters", [2, 22])
def test_shared_rows_by_definition(size, num_letters):
    """Few letters make many ties; some rows are gaps, which all centres share."""
    num_centres, num_rows, num_res = size
    rng = np.random.default_rng([num_centres, num_letters])
    centres = rng.integers(0, num_letters, (num_centres, num_res)).astype(np.uint8)
    rows = rng.integers(0, num_letters, (num_rows, num_res)).astype(np.uint8)
    centres[rng.random(centres.shape) < 0.2] = 22
    rows[rng.random(rows.shape) < 0.2] = 21
    rows[rng.random(num_rows) < 0.2] = 21
    deletions = [rng.integers(0, 99, x.shape).astype(np.uint8) for x in (centres, rows)]
    graph = tf.function(clusters.summarize_shared, autograph=False)
    found = graph(
        *map(tf.constant, (centres, deletions[0], rows, deletions[1])),
        num_centres=num_centres,
        num_res=num_res + 3,
    )
    wanted = _shared_by_definition(centres, deletions[0], rows, deletions[1])
    for got, want in zip(found, wanted, strict=True):
        np.testing.assert_allclose(got[:, :num_res], want, rtol=1e-5, atol=1e-6)
        assert not got[:, num_res:].numpy().any()


def test_shared_rows_of_few_centres():
    """There are no rows where a centre is missing; the missing one has no letters."""
    profile, mean = clusters.summarize_shared(
        tf.constant([[3, 22]], tf.uint8),
        tf.constant([[0, 4]], tf.uint8),
        tf.zeros([0, 2], tf.uint8),
        tf.zeros([0, 2], tf.uint8),
        num_centres=2,
        num_res=2,
    )
    expected = np.zeros((2, 2, 23))
    expected[0, 0, 3] = expected[0, 1, 22] = 1.0
    np.testing.assert_array_equal(profile, expected)
    np.testing.assert_array_equal(mean, [[0, 4], [0, 0]])
