"""What must hold of network and losses whatever the weights: row order, motion, odd input."""

from __future__ import annotations

import keras
import numpy as np
import pytest
import tensorflow as tf
from tiny import real_batch, tiny_config

from tffold.config import LossConfig
from tffold.geometry import atoms, frames, rigid, torsions
from tffold.geometry.rigid import Rigid, quat_to_rot
from tffold.losses.table import compute_losses
from tffold.model.alphafold import AlphaFold

pytestmark = pytest.mark.slow  # a whole network is compiled, with its losses and gradients
NUM_RES = 20
PADDED = 32


class Compiled:
    """One compiled pass with loss and gradients, for batches of one shape."""

    def __init__(self, model, num_res):
        self.model = model
        config = LossConfig(
            violation_weight=1.0,
            experimentally_resolved_weight=0.01,
            predicted_aligned_error_weight=0.1,
        )

        @tf.function(autograph=False, jit_compile=True)
        def run(batch):
            weights = [tf.convert_to_tensor(v) for v in model.trainable_variables]
            with tf.GradientTape() as tape:
                tape.watch(weights)
                mapping = list(zip(model.trainable_variables, weights, strict=True))
                with keras.StatelessScope(mapping):
                    outputs = model.one_pass(batch, model.first_previous(num_res))
                total, _ = compute_losses(outputs, batch, config, model.config.heads)
            unconnected = tf.UnconnectedGradients.ZERO
            return outputs, total, tape.gradient(total, weights, unconnected_gradients=unconnected)

        self._run = run

    def __call__(self, batch):
        outputs, total, gradients = self._run({k: tf.constant(v) for k, v in batch.items()})
        finite = all(bool(tf.reduce_all(tf.math.is_finite(g))) for g in gradients)
        return outputs, float(total), finite


@pytest.fixture(scope="module")
def model():
    return AlphaFold(tiny_config(), seed=4)


@pytest.fixture(scope="module")
def padded_run(model):
    return Compiled(model, PADDED)


def padded_batch(num_res: int = NUM_RES) -> dict[str, np.ndarray]:
    """The first ``num_res`` residues of a real chain, padded with zeros to PADDED."""
    full = select(real_batch(PADDED), 0)
    cut = select(real_batch(num_res), 0)
    out = {}
    for name, value in cut.items():
        pad = [(0, a - b) for a, b in zip(full[name].shape, value.shape, strict=True)]
        out[name] = np.pad(value, pad) if pad else value
    return out


def select(batch, index):
    return {k: v[index] for k, v in batch.items()}


def close(a, b, scale=None, tolerance=2e-4):
    a, b = np.asarray(a), np.asarray(b)
    scale = np.abs(b).max() if scale is None else scale
    assert np.isfinite(a).all()
    assert np.abs(a - b).max() <= tolerance * scale


def with_labels(batch, aatype, positions, mask):
    """The batch with another structure and its labels."""
    batch = dict(batch, aatype=aatype, all_atom_positions=positions, all_atom_mask=mask)
    made = {
        **atoms.make_atom14_masks(aatype),
        **atoms.make_atom14_positions(aatype, positions, mask),
        **frames.atom37_to_frames(aatype, positions, mask),
    }
    made["pseudo_beta"], made["pseudo_beta_mask"] = atoms.pseudo_beta(aatype, positions, mask)
    made["chi_angles"], made["chi_mask"] = torsions.chi_angles(
        torsions.atom37_to_torsion_angles(aatype, positions, mask)
    )
    made["backbone_affine_tensor"] = frames.backbone_affine(made["rigidgroups_gt_frames"])
    made["backbone_affine_mask"] = made["rigidgroups_gt_exists"][..., 0]
    return batch | {k: np.asarray(v) for k, v in made.items()}


def random_motion(seed: int = 0) -> Rigid:
    random = np.random.default_rng(seed)
    quat = random.standard_normal(4)
    quat = tf.constant(quat / np.linalg.norm(quat), tf.float32)
    return Rigid(quat_to_rot(quat), tf.constant(random.standard_normal(3) * 20, tf.float32))


def test_msa_row_order_matters_to_the_first_row_only(padded_run):
    batch = padded_batch(PADDED)
    order = np.concatenate(
        [[0], 1 + np.random.default_rng(1).permutation(len(batch["msa_mask"]) - 1)]
    )
    shuffled = dict(batch)
    for name in ("msa_feat", "msa_mask", "bert_mask", "true_msa", "msa_row_mask"):
        shuffled[name] = batch[name][order]
    extra = np.random.default_rng(2).permutation(len(batch["extra_msa_mask"]))
    for name in batch:
        if name.startswith("extra_"):
            shuffled[name] = batch[name][extra]
    outputs, total, _ = padded_run(batch)
    other, other_total, _ = padded_run(shuffled)
    close(other["distogram"]["logits"], outputs["distogram"]["logits"])
    close(other["representations"]["msa"], np.asarray(outputs["representations"]["msa"])[order])
    assert other_total == pytest.approx(total, rel=1e-4)


def test_moving_the_truth_changes_no_loss(padded_run):
    batch = padded_batch(PADDED)
    batch = with_labels(batch, batch["aatype"], batch["all_atom_positions"], batch["all_atom_mask"])
    _, total, _ = padded_run(batch)
    moved = rigid.apply(random_motion(), tf.constant(batch["all_atom_positions"])).numpy()
    moved = moved * batch["all_atom_mask"][..., None]
    _, moved_total, _ = padded_run(
        with_labels(batch, batch["aatype"], moved, batch["all_atom_mask"])
    )
    assert moved_total == pytest.approx(total, rel=1e-3)


ODD = {
    "masked rows": lambda b: b["msa_mask"].__setitem__(slice(1, None), 0),
    "no rows at all": lambda b: (b["msa_mask"].fill(0), b["extra_msa_mask"].fill(0)),
    "no templates": lambda b: [v.fill(0) for k, v in b.items() if k.startswith("template_")],
    "nothing resolved": lambda b: b["all_atom_mask"].fill(0),
    "missing backbones": lambda b: b["all_atom_mask"].__setitem__((slice(3, 9), slice(0, 3)), 0),
    "coincident atoms": lambda b: b["all_atom_positions"].fill(1.0),
    "glycine only": lambda b: b["aatype"].fill(7),
    "unknown only": lambda b: b["aatype"].fill(20),
    "one residue": lambda b: (
        [
            b[k].__setitem__((Ellipsis, slice(1, None)), 0)
            for k in ("seq_mask", "msa_mask", "extra_msa_mask", "bert_mask")
        ]
        + [b["all_atom_mask"].__setitem__(slice(1, None), 0)]
    ),
}


@pytest.mark.parametrize("what", ODD)
def test_odd_input_gives_finite_numbers(padded_run, what):
    batch = {k: v.copy() for k, v in padded_batch(PADDED).items()}
    ODD[what](batch)
    positions = batch["all_atom_positions"] * batch["all_atom_mask"][..., None]
    batch = with_labels(batch, batch["aatype"], positions, batch["all_atom_mask"])
    if what == "one residue":
        for name in ("atom14_atom_exists", "atom37_atom_exists"):
            batch[name] = batch[name] * batch["seq_mask"].reshape(-1, 1)
    outputs, total, finite = padded_run(batch)
    assert np.isfinite(total)
    assert finite
    assert np.isfinite(np.asarray(outputs["structure_module"]["final_atom_positions"])).all()


def test_bfloat16_trunk_keeps_structure_and_softmax_in_float32(monkeypatch):
    """Traced, not run: what reaches the structure module and every softmax."""
    from keras import ops

    from tffold.model import attention

    seen = []
    monkeypatch.setattr(
        attention.ops,
        "softmax",
        lambda x, axis=-1: (seen.append(x.dtype), ops.nn.softmax(x, axis))[1],
    )
    model = AlphaFold(tiny_config(bfloat16=True), seed=4)
    assert model.dtype_policy.name == "mixed_bfloat16"
    trunk = []
    block = model.alphafold_iteration.evoformer.evoformer_stack.block
    original = type(block).call

    def call(self, state, masks, key=None):
        trunk.extend(x.dtype for x in state)
        return original(self, state, masks, key)

    monkeypatch.setattr(type(block), "call", call)
    batch = {k: tf.constant(v) for k, v in select(real_batch(), 0).items()}
    graph = tf.function(
        lambda b: model.one_pass(b, model.first_previous(NUM_RES)), autograph=False
    ).get_concrete_function(batch)
    assert set(trunk) == {tf.bfloat16}
    assert seen and set(seen) == {tf.float32}
    assert {v.dtype for v in model.trainable_variables} == {"float32"}
    dtypes = {x.dtype for x in tf.nest.flatten(graph.structured_outputs) if x.dtype.is_floating}
    assert dtypes == {tf.float32}
