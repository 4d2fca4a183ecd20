"""BERT masking: rates and replacement fractions against the definition."""

from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

from tffold.data import keys, masking

GOLDEN = Path(__file__).parents[1] / "golden" / "clusters_1ubq.npz"
REPLACEMENT = masking.Replacement(uniform=0.1, profile=0.1, same=0.1)


def test_full_profile_is_the_column_mean():
    golden = np.load(GOLDEN)
    profile = masking.hhblits_profile(golden["in/msa_restype_order"])
    np.testing.assert_allclose(profile, golden["out/hhblits_profile"], atol=1e-7)
    np.testing.assert_allclose(profile.sum(axis=-1), 1.0, rtol=1e-6)
    by_hand = masking.hhblits_profile(np.array([[0, 21], [0, 5], [3, 21], [0, 21]], np.uint8))
    assert by_hand[0, 0] == 0.75 and by_hand[0, 3] == 0.25 and by_hand[1, 21] == 0.75


@pytest.fixture(scope="module")
def masked():
    """Centres all of letter 3 and a full alignment of X and gap alone.

    So every replacement tells its origin: 22 is the mask token, 20 and 21 come
    from the profile, 3 is unchanged (or uniform), the rest is uniform.
    """
    num_centres, num_res, count = 50, 40, 200
    rng = np.random.default_rng(0)
    share_of_gaps = np.linspace(0.1, 0.9, num_res)
    full = np.where(rng.random((400, num_res)) < share_of_gaps, 21, 20).astype(np.uint8)
    centres = tf.fill([num_centres, num_res], tf.constant(3, tf.uint8))

    @tf.function
    def draw(position):
        return masking.mask_centres(
            centres,
            tf.constant(full),
            keys.key(0, position),
            0,
            fraction=0.15,
            replacement=REPLACEMENT,
        )

    drawn = [draw(tf.constant(position, tf.int64)) for position in range(count)]
    return (
        full,
        np.stack([new.numpy() for new, _ in drawn]),
        np.stack([chosen.numpy() for _, chosen in drawn]),
    )


def _close(count, total, expected):
    sigma = np.sqrt(expected * (1 - expected) / total)
    assert abs(count / total - expected) < 4.5 * sigma, (count / total, expected)


def test_mask_rate_is_even_over_rows_and_columns(masked):
    _, _, chosen = masked
    _close(chosen.sum(), chosen.size, 0.15)
    _close(chosen[:, 0].sum(), chosen[:, 0].size, 0.15)  # the query too
    by_column = chosen.mean(axis=(0, 1))
    assert np.abs(by_column - 0.15).max() < 4.5 * np.sqrt(0.15 * 0.85 / chosen[..., 0].size)


def test_cells_not_chosen_stay(masked):
    _, new, chosen = masked
    assert (new[~chosen] == 3).all()


def test_replacement_fractions(masked):
    _, new, chosen = masked
    counts = np.bincount(new[chosen], minlength=23)
    total = chosen.sum()
    _close(counts[22], total, 0.7)
    _close(counts[20] + counts[21], total, 0.1)
    _close(counts[3], total, 0.1 + 0.1 / 20)
    others = np.delete(counts[:20], 3)
    _close(others.sum(), total, 0.1 * 19 / 20)
    assert np.abs(others / total - 0.005).max() < 4.5 * np.sqrt(0.005 / total)


def test_profile_draws_follow_the_column(masked):
    full, new, chosen = masked
    profile = masking.hhblits_profile(full)
    from_profile = chosen & ((new == 20) | (new == 21))
    gaps = (from_profile & (new == 21)).sum(axis=(0, 1))
    total = from_profile.sum(axis=(0, 1))
    sigma = np.sqrt(profile[:, 21] * profile[:, 20] / total)
    assert (np.abs(gaps / total - profile[:, 21]) < 4.5 * sigma).all()


def test_fraction_zero_changes_nothing():
    centres = tf.constant([[1, 21, 20]], tf.uint8)
    new, chosen = masking.mask_centres(
        centres, centres, keys.key(0, 0), 0, fraction=0.0, replacement=REPLACEMENT
    )
    np.testing.assert_array_equal(new, centres)
    assert not chosen.numpy().any()


def test_gaps_are_masked_like_letters():
    centres = tf.fill([100, 100], tf.constant(21, tf.uint8))
    _, chosen = masking.mask_centres(
        centres, centres, keys.key(0, 0), 0, fraction=0.15, replacement=REPLACEMENT
    )
    _close(chosen.numpy().sum(), 10_000, 0.15)


def test_column_profile_is_the_column_mean():
    rows = np.array([[0, 21], [0, 5], [3, 21], [0, 21]], np.uint8)
    profile = masking.column_profile(tf.constant(rows)).numpy()
    np.testing.assert_array_equal(profile[:, :22], masking.hhblits_profile(rows))
    assert profile.shape == (2, 23)


def test_noise_chooses_with_the_probabilities_of_the_monomer():
    """40,000 cells of letter 3 in columns that are of X and gaps alone."""
    centres = tf.fill([200, 200], tf.constant(3, tf.uint8))
    cells = tf.cast(tf.where(centres == 3), tf.int32)
    profile = np.zeros((200, 23), np.float32)
    profile[:, 20], profile[:, 21] = 0.25, 0.75
    noise = keys.gumbel([40_000, 23], keys.key(0, 0), keys.Draw.LETTER_NOISE, 0)
    new = masking.replace_by_noise(centres, cells, tf.constant(profile), noise, REPLACEMENT)
    counts = np.bincount(new.numpy().ravel(), minlength=23)
    _close(counts[22], 40_000, 0.7)
    _close(counts[20], 40_000, 0.025)
    _close(counts[21], 40_000, 0.075)
    _close(counts[3], 40_000, 0.1 + 0.005)
    _close(counts[0], 40_000, 0.005)


def test_noise_replaces_chosen_cells_alone():
    centres = tf.constant([[1, 2, 21], [4, 5, 6]], tf.uint8)
    noise = np.zeros((2, 23), np.float32)
    noise[0, 7] = noise[1, 0] = 1000.0
    cells = tf.constant([[0, 2], [1, 1]])
    profile = tf.zeros([3, 23])
    new = masking.replace_by_noise(centres, cells, profile, tf.constant(noise), REPLACEMENT)
    assert new.numpy().tolist() == [[1, 2, 7], [4, 0, 6]]
