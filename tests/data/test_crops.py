"""Crops over chains: the rules written again in NumPy, what they keep, and how often."""

import numpy as np
import pytest
import tensorflow as tf

from records.chemistry import ATOM_ORDER
from tffold.data import crops, keys
from tffold.data.keys import Draw

CA = ATOM_ORDER["CA"]
DRAWS = 3000


def by_definition(length, size, draws):
    """Algorithm 1 of Evans et al., chain after chain."""
    start, taken = [0] * len(length), [0] * len(length)
    added, remaining = 0, sum(length)
    for chain in np.argsort(draws[0], kind="stable"):
        whole = length[chain]
        remaining -= whole
        largest = min(size - added, whole)
        smallest = min(whole, max(0, size - (added + remaining)))
        taken[chain] = smallest + int(draws[1][chain] * (largest - smallest + 1))
        added += taken[chain]
        start[chain] = int(draws[2][chain] * (whole - taken[chain] + 1))
    return start, taken


@pytest.fixture(scope="module")
def contiguous():
    signature = (tf.TensorSpec([None], tf.int32), tf.TensorSpec([3, None], tf.float64))
    run = tf.function(
        lambda length, draws: crops.contiguous_crop(length, 12, draws),
        input_signature=signature,
        autograph=False,
    )
    return lambda length, draws: [x.numpy().tolist() for x in run(length, draws)]


@pytest.mark.parametrize("length", [[40], [5, 20], [3, 3, 3, 3, 3], [100, 1, 1], [7, 13, 2, 9]])
def test_contiguous_crops_are_as_defined_and_full(contiguous, length):
    rng = np.random.default_rng(len(length))
    for _ in range(100):
        draws = rng.random((3, len(length)))
        start, taken = contiguous(length, draws)
        assert (start, taken) == by_definition(length, 12, draws)
        assert sum(taken) == 12
        assert all(0 <= s <= n - t for s, t, n in zip(start, taken, length, strict=True))


def atoms(ca, known=None):
    positions, mask = np.zeros((len(ca), 37, 3), np.float32), np.zeros((len(ca), 37), np.float32)
    mask[:, CA] = 1 if known is None else known
    positions[:, CA] = np.asarray(ca) * mask[:, CA, None]
    return positions, mask


@pytest.fixture(scope="module")
def crop():
    """Crops of 12 residues at many positions; one graph for all assemblies."""
    signature = (
        tf.TensorSpec([None, 37, 3], tf.float32),
        tf.TensorSpec([None, 37], tf.float32),
        tf.TensorSpec([None], tf.int32),
        tf.TensorSpec([], tf.float64),
        tf.TensorSpec([], tf.int64),
    )

    def draw(positions, mask, length, share, position):
        return crops.draw_crop(
            positions,
            mask,
            length,
            size=12,
            spatial_probability=share,
            seed=5,
            position=position,
        )

    run = tf.function(draw, input_signature=signature, autograph=False)
    return lambda truth, length, share, position: run(*truth, length, share, position).numpy()


def two_rods(distance, length=(30, 20)):
    """Two straight chains side by side, of which only the last ten residues are so near."""
    first = np.stack([3.8 * np.arange(length[0]), np.zeros(length[0]), np.zeros(length[0])], 1)
    second = np.stack([3.8 * np.arange(length[1]), np.zeros(length[1]), np.zeros(length[1])], 1)
    second += [3.8 * (length[0] - 10), distance, 0]
    return np.concatenate([first, second])


def test_interface_residues_see_other_chains_alone():
    ca, chain = two_rods(9.0), np.repeat([0, 1], [30, 20])
    known = np.ones(50, bool)
    known[[25, 31]] = False
    distance = np.linalg.norm(ca[:, None] - ca[None], axis=-1)
    pair = (distance < 10) & (chain[:, None] != chain[None]) & known[:, None] & known[None]
    for rows in (7, 512):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(crops, "_ROWS", rows)
            found = crops.interface_residues(tf.constant(ca, tf.float32), known, chain)
        assert found.numpy().tolist() == pair.any(1).tolist()
    assert 20 <= pair.any(1).sum() < 30


def test_a_spatial_crop_is_the_nearest_residues_in_order():
    """Unresolved residues are farthest; of two that are equally near the first is taken."""
    ca = np.zeros((8, 3), np.float32)
    ca[:, 0] = [0, 1, 2, 3, 4, 5, 6, 7]
    known = np.array([1, 1, 1, 1, 1, 0, 1, 1], bool)
    assert crops.spatial_crop(ca, known, tf.constant(4), 3).numpy().tolist() == [2, 3, 4]
    assert crops.spatial_crop(ca, known, tf.constant(4), 5).numpy().tolist() == [1, 2, 3, 4, 6]
    assert crops.spatial_crop(ca, known, tf.constant(4), 8).numpy().tolist() == list(range(8))


def test_a_spatial_crop_lies_around_an_interface(crop):
    truth, length = atoms(two_rods(6.0)), [30, 20]
    interface = crops.interface_residues(
        tf.constant(truth[0][:, CA]), truth[1][:, CA] > 0, np.repeat([0, 1], length)
    ).numpy()
    seen = set()
    for position in range(60):
        kept = crop(truth, length, 1.0, position)
        assert len(kept) == 12 and (np.diff(kept) > 0).all()
        assert interface[kept].any() and (kept < 30).any() and (kept >= 30).any()
        seen.add(tuple(kept))
    assert len(seen) > 10


def test_without_an_interface_crops_are_contiguous(crop):
    far, length = atoms(two_rods(50.0)), [30, 20]
    unknown = atoms(two_rods(6.0), known=np.zeros(50))
    for position in range(10):
        expected = crop(far, length, 0.0, position)
        assert crop(far, length, 1.0, position).tolist() == expected.tolist()
        assert crop(unknown, length, 1.0, position).tolist() == expected.tolist()


@pytest.mark.parametrize("share", [0.0, 1.0])
@pytest.mark.parametrize("length", [[12], [4, 5], [1]])
def test_what_fits_is_whole(crop, length, share):
    """A crop larger than the assembly too."""
    truth = atoms(np.zeros((sum(length), 3)))
    assert crop(truth, length, share, 3).tolist() == list(range(sum(length)))


def test_a_crop_is_that_of_its_draws(crop):
    truth, length = atoms(two_rods(6.0)), [30, 20]
    spatial = 0
    for position in range(200):
        kind = keys.doubles(2, 5, tf.constant(position, tf.int64), Draw.CROP).numpy()
        draws = keys.doubles(6, 5, tf.constant(position, tf.int64), Draw.CROP, 1).numpy()
        start, taken = by_definition(length, 12, draws.reshape(3, 2))
        runs = [f + s + np.arange(t) for f, s, t in zip((0, 30), start, taken, strict=True)]
        same = crop(truth, length, 0.5, position).tolist() == np.concatenate(runs).tolist()
        assert same or kind[0] < 0.5
        spatial += kind[0] < 0.5
    assert abs(spatial - 100) < 4 * np.sqrt(50)


def test_how_often_a_residue_is_kept():
    """Two chains of one length share a contiguous crop evenly; all places of a run are as likely.

    Sizes of the chain that comes first are uniform over 0 to 12, as the other has room for all.
    """
    draws = np.random.default_rng(0).random((DRAWS, 3, 2))
    run = tf.function(lambda d: crops.contiguous_crop(tf.constant([20, 20]), 12, d))
    found = [run(tf.constant(d)) for d in draws]
    start, taken = (np.array([x[k].numpy() for x in found]) for k in (0, 1))
    counts = np.bincount(taken[:, 0], minlength=13)
    assert np.abs(counts - DRAWS / 13).max() < 4.5 * np.sqrt(DRAWS / 13)
    whole = taken[:, 0] == 12
    places = np.bincount(start[whole, 0], minlength=9)
    assert np.abs(places - whole.sum() / 9).max() < 4.5 * np.sqrt(whole.sum() / 9)
