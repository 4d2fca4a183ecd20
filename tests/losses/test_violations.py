"""Violations, by hand and on a real structure."""

import numpy as np
import pytest
import tensorflow as tf
from reference import load_batch

from records import chemistry
from tffold.config import LossConfig
from tffold.losses import violations as v

CONFIG = LossConfig()
N, CA, C, O, CB, SG = range(6)  # noqa: E741
TYPE = chemistry.RESTYPE_ORDER


def batch_of(letters, atoms, residue_index=None):
    """Only the named slots exist: `atoms` is one list of slots per residue."""
    exists = np.zeros([len(letters), 14], "float32")
    for i, slots in enumerate(atoms):
        exists[i, slots] = 1
    index = np.arange(len(letters)) if residue_index is None else residue_index
    return {
        "aatype": tf.constant([TYPE[letter] for letter in letters]),
        "atom14_atom_exists": tf.constant(exists),
        "residue_index": tf.constant(np.asarray(index, np.int32)),
        "seq_mask": tf.ones([len(letters)]),
    }


def place(num_res, **at):
    """Positions [R, 14, 3]: everything far away but `r0_1=(x, y, z)`: residue 0, slot 1."""
    positions = np.zeros([num_res, 14, 3], "float32")
    for name, xyz in at.items():
        residue, slot = name[1:].split("_")
        positions[int(residue), int(slot)] = xyz
    return tf.constant(positions)


def test_clash_by_hand():
    batch = batch_of("AA", [[O], [CB]])
    allowed = 1.52 + 1.7 - 1.5
    found = v.clash_violations(batch, place(2, r0_3=(0, 0, 0), r1_4=(1, 0, 0)), CONFIG)
    assert float(found["clashes_mean_loss"]) == pytest.approx(allowed - 1, rel=1e-4)
    per_atom = np.asarray(found["clashes_per_atom_loss_sum"])
    assert per_atom[0, O] == per_atom[1, CB] == pytest.approx(allowed - 1)
    assert np.count_nonzero(per_atom) == 2
    np.testing.assert_array_equal(found["clashes_per_atom_clash_mask"], per_atom > 0)
    apart = v.clash_violations(batch, place(2, r0_3=(0, 0, 0), r1_4=(allowed + 0.01, 0, 0)), CONFIG)
    assert not np.asarray(apart["clashes_per_atom_loss_sum"]).any()


@pytest.mark.parametrize(
    "letters, slots, residue_index, clashes",
    [
        ("AA", (C, N), [4, 5], False),  # the peptide bond
        ("AA", (C, N), [4, 6], True),  # a gap: no bond
        ("AA", (N, C), [4, 5], True),  # not bonded this way round
        ("AA", (N, C), [5, 4], False),  # bonded, stored in the other order
        ("CC", (SG, SG), [4, 9], False),  # a disulfide bridge
        ("AA", (O, O), [4, 4], False),  # one residue, or both padding
    ],
)
def test_who_may_touch(letters, slots, residue_index, clashes):
    batch = batch_of(letters, [[slots[0]], [slots[1]]], residue_index)
    found = v.clash_violations(batch, tf.zeros([2, 14, 3]), CONFIG)
    assert bool(np.asarray(found["clashes_per_atom_clash_mask"]).any()) == clashes
    # Where atoms do not exist nothing clashes.
    none = {**batch, "atom14_atom_exists": tf.zeros([2, 14])}
    found = v.clash_violations(none, tf.zeros([2, 14, 3]), CONFIG)
    assert not any(np.asarray(x).any() for x in found.values())


def peptide(length=1.329, ca_c_n=-0.4473, c_n_ca=-0.5203):
    """CA, C, N, CA of two residues in a plane with the given bond and cosines of angles."""
    sin1, sin2 = (np.sqrt(1 - cos**2) for cos in (ca_c_n, c_n_ca))
    ca = 1.525 * np.array([ca_c_n, sin1, 0])
    n = np.array([length, 0, 0])
    ca_next = n + 1.459 * np.array([-c_n_ca, -sin2, 0])
    return place(2, r0_1=ca, r0_2=(0, 0, 0), r1_0=n, r1_1=ca_next)


def test_peptide_bond_by_hand():
    batch = batch_of("AA", [[CA, C], [N, CA]])
    names = ("bonds_c_n", "angles_ca_c_n", "angles_c_n_ca")

    def check(positions, expected, batch=batch, tolerance=2.0):
        config = LossConfig(violation_tolerance_factor=tolerance)
        found = v.connection_violations(batch, positions, config)
        losses = [float(found[f"{name}_loss_mean"]) for name in names]
        np.testing.assert_allclose(losses, expected, atol=2e-3)
        violated = np.asarray(found["connections_per_residue_violation_mask"])
        assert violated.tolist() == [float(sum(expected) > 0)] * 2
        half = found["connections_per_residue_loss_sum"]
        np.testing.assert_allclose(half, [sum(losses) / 2] * 2, rtol=1e-4)

    check(peptide(), [0, 0, 0])
    check(peptide(length=1.429), [0.1 - 2 * 0.014, 0, 0])
    check(peptide(length=1.229), [0.1 - 2 * 0.014, 0, 0])
    check(peptide(ca_c_n=-0.2473), [0, 0.2 - 2 * 0.0311, 0])
    check(peptide(c_n_ca=-0.3203), [0, 0, 0.2 - 2 * 0.0353])
    # Before proline the bond is 1.341 +- 0.016.
    check(peptide(length=1.441), [0.1 - 2 * 0.016, 0, 0], batch_of("AP", [[CA, C], [N, CA]]))
    # The chain has a gap: nothing to hold together.
    gap = batch_of("AA", [[CA, C], [N, CA]], [3, 5])
    strict = LossConfig(violation_tolerance_factor=2.0)
    found = v.connection_violations(gap, peptide(length=5.0), strict)
    assert all(float(found[f"{name}_loss_mean"]) == 0 for name in names)
    assert not np.asarray(found["connections_per_residue_violation_mask"]).any()
    # A missing N leaves nothing to measure.
    missing = batch_of("AA", [[CA, C], [CA]])
    found = v.connection_violations(missing, peptide(length=5.0), strict)
    assert all(float(found[f"{name}_loss_mean"]) == 0 for name in names)


def test_within_residue_by_hand():
    batch = batch_of("A", [[N, CA]])
    long = 1.459 + 12 * 0.020 + 0.3
    found = v.within_residue_violations(batch, place(1, r0_0=(long, 0, 0)), CONFIG)
    # The pair counts for both atoms, in both orders.
    np.testing.assert_allclose(np.asarray(found["per_atom_loss_sum"])[0, :2], [0.6] * 2, rtol=1e-4)
    assert np.asarray(found["per_atom_violations"]).sum() == 2
    found = v.within_residue_violations(batch, place(1, r0_0=(1.459, 0, 0)), CONFIG)
    assert not any(np.asarray(x).any() for x in found.values())


def test_a_crystal_structure_is_clean_and_a_collapsed_one_is_not():
    batch = {name: tf.constant(value[-1]) for name, value in load_batch("case_a").items()}
    truth = batch["atom14_gt_positions"]
    found = v.find_violations(batch, truth, CONFIG)
    metrics = v.violation_metrics(batch, truth, found, CONFIG)
    assert all(float(value) == 0 for value in metrics.values()), metrics
    collapsed = tf.zeros_like(truth)
    found = v.find_violations(batch, collapsed, CONFIG)
    metrics = v.violation_metrics(batch, collapsed, found, CONFIG)
    assert float(metrics.pop("violations_extreme_ca_ca_distance")) == 0
    assert all(float(value) == 1 for value in metrics.values()), metrics
    stretched = v.violation_metrics(
        batch, truth * 1.5, v.find_violations(batch, truth * 1.5, CONFIG), CONFIG
    )
    assert float(stretched["violations_extreme_ca_ca_distance"]) == 1
    assert float(stretched["violations_between_residue_bond"]) == 1


def test_bond_lengths_and_angles_are_counted_apart():
    """Moving a residue along its peptide bond leaves the angles; turning one leaves the length."""
    batch = {name: tf.constant(value[-1]) for name, value in load_batch("case_a").items()}
    batch["residue_index"] = tf.range(batch["aatype"].shape[0])
    truth = batch["atom14_gt_positions"].numpy()
    num_pairs = len(truth) - 1

    def shares(positions):
        found = v.find_violations(batch, tf.constant(positions), CONFIG)
        metrics = v.violation_metrics(batch, positions, found, CONFIG)
        return [float(metrics[f"violations_bond_{x}"]) * num_pairs for x in ("length", "angle")]

    ca, c, n_next = truth[10, 1], truth[10, 2], truth[11, 0]
    pulled = truth.copy()
    pulled[11:] += 2.0 * (n_next - c) / np.linalg.norm(n_next - c)
    assert shares(pulled) == pytest.approx([1, 0], abs=0.01)
    bent = truth.copy()
    # N to where CA, C and N stand in line, at the same distance from C.
    straight = c + np.linalg.norm(n_next - c) * (c - ca) / np.linalg.norm(c - ca)
    bent[11:] += straight - n_next
    assert shares(bent) == pytest.approx([0, 1], abs=0.01)


KNOWS_CHAINS = LossConfig(by_chain=True)
AS_RELEASED = LossConfig(by_chain=True, violations_as_released=True)


def in_chains(batch, *chain):
    return batch | {"asym_id": tf.constant(chain)}


@pytest.mark.parametrize(
    ("slots", "residue_index", "chain", "clashes"),
    [
        ((C, N), [4, 5], (1, 1), (True, True)),  # the peptide bond: no clash
        ((C, N), [4, 5], (1, 2), (False, False)),  # of two chains: no bond
        ((O, CB), [4, 4], (1, 1), (True, True)),  # one residue
        ((O, CB), [4, 4], (1, 2), (False, True)),  # equal numbers in two chains
        ((O, CB), [4, 9], (1, 2), (False, False)),
    ],
)
def test_clashes_know_chains(slots, residue_index, chain, clashes):
    """Whether a pair is exempt: rightly, and in DeepMind's code."""
    first, second = slots
    batch = in_chains(batch_of("AA", [[first], [second]], residue_index), *chain)
    where = place(2, **{f"r0_{first}": (0, 0, 0), f"r1_{second}": (1, 0, 0)})
    for config, exempt in zip((KNOWS_CHAINS, AS_RELEASED), clashes, strict=True):
        found = v.clash_violations(batch, where, config)
        assert np.asarray(found["clashes_per_atom_clash_mask"]).any() != exempt


def test_bonds_end_with_their_chain():
    """A crop may put residue 5 of one chain behind residue 4 of another."""
    batch = batch_of("AA", [[CA, C], [N, CA]], [4, 5])
    far = peptide(length=5.0)

    def check(batch, config):
        found = v.connection_violations(batch, far, config)
        found = {f"between_residues/{name}": value for name, value in found.items()}
        found["between_residues/clashes_per_atom_clash_mask"] = tf.zeros([2, 14])
        found["within_residues/per_atom_violations"] = tf.zeros([2, 14])
        found["total_per_residue_violations_mask"] = tf.zeros([2])
        metrics = v.violation_metrics(batch, far, found, config)
        bond = float(found["between_residues/bonds_c_n_loss_mean"])
        return bond > 0.0, float(metrics["violations_extreme_ca_ca_distance"]) > 0.0

    one, two = in_chains(batch, 1, 1), in_chains(batch, 1, 2)
    assert check(one, KNOWS_CHAINS) == check(one, AS_RELEASED) == (True, True)
    assert check(two, KNOWS_CHAINS) == (False, False)
    assert check(two, AS_RELEASED) == (True, True)


def test_released_tolerance_of_an_angle():
    """The bond's 0.014 where the angle's is 0.0311, of complexes alone."""
    batch = in_chains(batch_of("AA", [[CA, C], [N, CA]], [4, 5]), 1, 1)
    bent = peptide(ca_c_n=-0.2473)  # 0.2 off

    def loss(**settings):
        config = LossConfig(violation_tolerance_factor=2.0, **settings)
        return float(v.connection_violations(batch, bent, config)["angles_ca_c_n_loss_mean"])

    assert loss(by_chain=True) == pytest.approx(0.2 - 2 * 0.0311, abs=2e-3)
    assert loss(violations_as_released=True) == pytest.approx(0.2 - 2 * 0.0311, abs=2e-3)
    released = loss(by_chain=True, violations_as_released=True)
    assert released == pytest.approx(0.2 - 2 * 0.014, abs=2e-3)
