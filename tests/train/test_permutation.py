"""Which copy of the truth each predicted chain gets: small assemblies, all assignments tried."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import tensorflow as tf
from structures import random_protein, structure_outputs

from tffold import geometry
from tffold.config import Config, HeadsConfig, LossConfig
from tffold.data.targets import structure_labels
from tffold.losses.table import compute_losses
from tffold.train.permutation import assign_chains, permuted
from tffold.train.task import alphafold_task

CA = 1


def motion(rng, shift=40.0):
    rot = np.linalg.qr(rng.standard_normal((3, 3)))[0]
    return rot * np.sign(np.linalg.det(rot)), shift * rng.standard_normal(3)


class Assembly:
    """Chains of random walks; chains of one entity are one shape, each laid somewhere."""

    def __init__(self, entities, seed=0, length=12, noise=0.3):
        rng = np.random.default_rng(seed)
        self.entities = np.asarray(entities, np.int32)
        lengths = {e: length + 2 * e for e in set(entities)}
        shapes = {e: np.cumsum(rng.standard_normal((n, 3)) * 2.2, 0) for e, n in lengths.items()}
        self.lengths = np.array([lengths[e] for e in entities], np.int32)
        self.chains, self.known = [], []
        for e in entities:
            rot, shift = motion(rng)
            bent = shapes[e] + noise * rng.standard_normal(shapes[e].shape)
            self.chains.append(bent @ rot.T + shift)
            self.known.append(np.ones(lengths[e]))

    def batch(self, crops=None):
        """The labels' part; ``crops``: residues of each chain, by default all."""
        crops = crops or [range(n) for n in self.lengths]
        parts = {"asym_id": [], "entity_id": [], "residue_index": []}
        for number, crop in enumerate(crops):
            parts["asym_id"] += [number + 1] * len(crop)
            parts["entity_id"] += [self.entities[number]] * len(crop)
            parts["residue_index"] += list(crop)
        batch = {name: np.array(values, np.int32) for name, values in parts.items()}
        num_all = int(self.lengths.sum())
        positions, mask = np.zeros((num_all, 37, 3)), np.zeros((num_all, 37))
        mask[:, CA] = np.concatenate(self.known)
        positions[:, CA] = np.concatenate(self.chains) * mask[:, CA, None]
        batch |= {
            "aatype": np.zeros(len(batch["asym_id"]), np.int32),
            "seq_mask": np.ones(len(batch["asym_id"]), np.float32),
            "assembly_atom_positions": positions.astype(np.float32),
            "assembly_atom_mask": mask.astype(np.float32),
            "assembly_chain_start": (np.cumsum(self.lengths) - self.lengths).astype(np.int32),
            "assembly_chain_length": self.lengths,
            "assembly_chain_entity": self.entities,
        }
        return {name: tf.constant(value) for name, value in batch.items()}

    def prediction(self, batch, copies, seed=1, noise=0.5):
        """Cα near truth, moved as a whole, chain number i where copy ``copies[i]`` is."""
        rng = np.random.default_rng(seed)
        rot, shift = motion(rng)
        chain, index = (np.asarray(batch[n]) for n in ("asym_id", "residue_index"))
        true = np.array([self.chains[copies[c - 1]][r] for c, r in zip(chain, index, strict=True)])
        noisy = true + noise * rng.standard_normal(true.shape)
        return tf.constant((noisy @ rot.T + shift).astype(np.float32))


def by_brute_force(assembly, batch, predicted):
    """The assignment with the least deviation of all, each superposed as well as can be."""
    chain, index = (np.asarray(batch[n]) for n in ("asym_id", "residue_index"))
    best = None
    for copies in itertools.permutations(range(len(assembly.entities))):
        if any(assembly.entities[list(copies)] != assembly.entities):
            continue
        true, known = (
            np.array([values[copies[c - 1]][r] for c, r in zip(chain, index, strict=True)])
            for values in (assembly.chains, assembly.known)
        )
        arrays = (x.astype(np.float32) for x in (true, np.asarray(predicted), known))
        deviation = float(geometry.superposed_rmsd(*map(tf.constant, arrays)))
        if best is None or deviation < best[0]:
            best = deviation, list(copies)
    return best[1]


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize(
    ("entities", "copies"),
    [
        ([1, 1], [1, 0]),
        ([1, 1, 1], [2, 0, 1]),
        ([1, 1, 1, 1], [3, 2, 0, 1]),
        ([1, 1, 2, 2], [1, 0, 2, 3]),
        ([1, 2, 2, 2], [0, 3, 1, 2]),
        ([1, 2, 3], [0, 1, 2]),
    ],
)
def test_the_assignment_is_the_best_of_all(entities, copies, seed):
    assembly = Assembly(entities, seed)
    batch = assembly.batch()
    predicted = assembly.prediction(batch, copies, seed)
    found = assign_chains(batch, predicted).numpy().tolist()
    assert found == copies == by_brute_force(assembly, batch, predicted)


def test_crops_that_hold_different_residues_of_each_copy():
    """Truth is uncropped: each chain's residues are looked up in any copy."""
    assembly = Assembly([1, 1, 2], length=30)
    batch = assembly.batch([range(2, 14), range(15, 30), range(8)])
    predicted = assembly.prediction(batch, [1, 0, 2])
    assert assign_chains(batch, predicted).numpy().tolist() == [1, 0, 2]
    labels = permuted(batch, predicted)
    found = labels["all_atom_positions"][:, CA].numpy()
    expected = [assembly.chains[1][2:14], assembly.chains[0][15:30], assembly.chains[2][:8]]
    np.testing.assert_allclose(found, np.concatenate(expected), rtol=1e-5)
    assert labels["all_atom_mask"].numpy()[:, CA].all()
    np.testing.assert_allclose(labels["pseudo_beta_mask"], 0.0)  # alanine without Cβ


def test_chains_that_the_crop_lacks_or_truth_does_not_know():
    assembly = Assembly([1, 1, 1, 2])
    assembly.known[2][:] = 0.0
    batch = assembly.batch([range(12), range(12), [], []])
    predicted = assembly.prediction(batch, [1, 0, 2, 3])
    found = assign_chains(batch, predicted).numpy().tolist()
    assert found[:2] == [1, 0] and sorted(found) == [0, 1, 2, 3] and found[3] == 3
    # The resolved copies go to chains that can be held against them.
    assembly.known[0][:] = 0.0
    batch = assembly.batch([range(12), range(12), [], []])
    found = assign_chains(batch, predicted).numpy().tolist()
    assert found[0] == 1
    for chain in assembly.known:
        chain[:] = 0.0
    batch = assembly.batch()
    found = assign_chains(batch, assembly.prediction(batch, [1, 0, 2, 3])).numpy().tolist()
    assert found == [0, 1, 2, 3]


def test_padding_changes_nothing():
    assembly = Assembly([1, 1, 2])
    batch = assembly.batch()
    predicted = assembly.prediction(batch, [1, 0, 2])

    def pad(name, value):
        add = {"assembly_chain": 2, "assembly_atom": 5}.get("_".join(name.split("_")[:2]), 3)
        return tf.pad(value, [[0, add]] + [[0, 0]] * (len(value.shape) - 1))

    padded = {name: pad(name, value) for name, value in batch.items()}
    noise = tf.constant(np.full((3, 3), 7.0, "float32"))
    found = assign_chains(padded, tf.concat([predicted, noise], 0)).numpy().tolist()
    assert found[:3] == [1, 0, 2]
    labels = permuted(padded, tf.concat([predicted, noise], 0))
    expected = permuted(batch, predicted)
    num = len(predicted)
    for name in ("all_atom_positions", "all_atom_mask", "backbone_affine_mask"):
        np.testing.assert_array_equal(labels[name][:num], expected[name], err_msg=name)
        assert not np.any(labels[name][num:])


def homomer(num_copies=3, seed=5):
    """Whole residues in ``num_copies`` chains of one sequence, each with its own place."""
    single = random_protein(seed=seed, num_res=8)
    rng = np.random.default_rng(seed)
    atoms, mask = (np.asarray(single[f"all_atom_{x}"]) for x in ("positions", "mask"))
    copies = []
    for _ in range(num_copies):
        rot, shift = motion(rng, 15.0)
        copies.append((atoms @ rot.T + shift) * mask[..., None])
    lengths = np.full(num_copies, len(mask), np.int32)
    chain = np.repeat(np.arange(1, num_copies + 1), len(mask)).astype(np.int32)
    batch = {
        "aatype": np.tile(single["aatype"], num_copies),
        "residue_index": np.tile(single["residue_index"], num_copies),
        "asym_id": chain,
        "entity_id": np.ones_like(chain),
        "sym_id": chain,
        "seq_mask": np.ones(len(chain), np.float32),
        "resolution": np.float32(2.0),
        "assembly_atom_positions": np.concatenate(copies).astype(np.float32),
        "assembly_atom_mask": np.tile(mask, (num_copies, 1)).astype(np.float32),
        "assembly_chain_start": np.cumsum(lengths, dtype=np.int32) - lengths,
        "assembly_chain_length": lengths,
        "assembly_chain_entity": np.ones(num_copies, np.int32),
    }
    batch = {name: tf.constant(value) for name, value in batch.items()}
    return batch | geometry.make_atom14_masks(batch["aatype"])


def relabelled(batch, order):
    """The same truth with its copies stored in another order."""
    num_copies = len(order)
    changed = dict(batch)
    for name in ("assembly_atom_positions", "assembly_atom_mask"):
        parts = tf.split(batch[name], num_copies)
        changed[name] = tf.concat([parts[i] for i in order], 0)
    return changed


def test_no_relabelling_of_copies_changes_the_loss():
    batch = homomer()
    rng = np.random.default_rng(2)
    own = permuted(batch, batch["assembly_atom_positions"][:, CA])
    traj = np.asarray(own["backbone_affine_tensor"])[None].copy()
    traj[..., 4:] += 0.7 * rng.standard_normal(traj[..., 4:].shape)
    angle = rng.uniform(-3, 3, (1, len(traj[0]), 7)).astype("float32")
    angles = np.stack([np.sin(angle), np.cos(angle)], axis=-1)
    outputs = {
        "structure_module": structure_outputs(
            batch, tf.constant(traj.astype("float32")), tf.constant(angles)
        )
    }
    config = LossConfig(
        by_chain=True,
        permute_chains=True,
        violation_weight=1.0,
        chain_center_weight=1.0,
        **{f"{head}_weight": 0.0 for head in ("distogram", "masked_msa", "predicted_lddt")},
    )
    # As a training step takes it.
    of_step = alphafold_task().loss_fn(Config(loss=config))

    def loss(labels):
        return float(compute_losses(outputs, labels, config, HeadsConfig())[0])

    def as_stored(batch):
        """The labels without permutation: all residues of all copies are there, in order."""
        atoms = (batch["assembly_atom_positions"], batch["assembly_atom_mask"])
        return batch | structure_labels(batch["aatype"], *atoms)

    others = [relabelled(batch, order) for order in itertools.permutations(range(3))]
    losses = [float(of_step(outputs, other)[0]) for other in others]
    np.testing.assert_allclose(losses, losses[0], rtol=1e-6)
    assert loss(as_stored(batch)) == pytest.approx(losses[0], rel=1e-5)
    # The check can fail: held against the copies as they are stored, the loss does change.
    assert all(loss(as_stored(other)) > losses[0] + 0.1 for other in others[1:])


def test_works_compiled():
    assembly = Assembly([1, 1, 2])
    batch = assembly.batch()
    predicted = assembly.prediction(batch, [1, 0, 2])
    found = tf.function(assign_chains, jit_compile=True)(batch, predicted)
    assert found.numpy().tolist() == [1, 0, 2]
