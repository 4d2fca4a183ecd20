"""What must hold of the network whatever its weights: padding, row order, motion, odd input."""

from __future__ import annotations

import keras
import numpy as np
import pytest
import tensorflow as tf
from tiny import real_batch, tiny_config

from tffold.config import HeadsConfig, LossConfig
from tffold.geometry import atoms, frames, rigid, torsions
from tffold.geometry.rigid import Rigid, quat_to_rot
from tffold.losses.table import compute_losses
from tffold.model.alphafold import AlphaFold, select_pass
from tffold.model.ipa import InvariantPointAttention
from tffold.model.module import Options

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


def test_padding_residues_change_nothing_for_real_ones(model, padded_run):
    outputs, _, _ = padded_run(padded_batch())
    n = NUM_RES
    # What stands in the padding must not matter.
    changed = padded_batch()
    random = np.random.default_rng(0)
    for name in ("target_feat", "msa_feat", "extra_has_deletion"):
        axis = -2 if name.endswith("feat") else -1
        index = [slice(None)] * changed[name].ndim
        index[axis] = slice(n, None)
        changed[name][tuple(index)] = random.standard_normal(changed[name][tuple(index)].shape)
    other, _, _ = padded_run(changed)
    for a, b in (
        (outputs["distogram"]["logits"][:n, :n], other["distogram"]["logits"][:n, :n]),
        (outputs["masked_msa"]["logits"][:, :n], other["masked_msa"]["logits"][:, :n]),
        (
            outputs["structure_module"]["final_atom14_positions"][:n],
            other["structure_module"]["final_atom14_positions"][:n],
        ),
        (outputs["predicted_lddt"]["logits"][:n], other["predicted_lddt"]["logits"][:n]),
    ):
        close(a, b)
    # And no padding at all gives the same.
    bare = model.one_pass(
        {k: tf.constant(v) for k, v in select(real_batch(n), 0).items()}, model.first_previous(n)
    )
    close(outputs["distogram"]["logits"][:n, :n], bare["distogram"]["logits"])
    close(
        outputs["structure_module"]["final_atom14_positions"][:n],
        bare["structure_module"]["final_atom14_positions"],
        tolerance=1e-3,
    )


def test_masked_rows_and_templates_change_nothing(padded_run):
    batch = padded_batch(PADDED)
    for mask, row in (("msa_mask", 9), ("extra_msa_mask", 12), ("template_mask", 1)):
        batch[mask][row:] = 0
    batch["template_pseudo_beta_mask"][1:] = 0
    batch["template_all_atom_masks"][1:] = 0
    outputs, _, _ = padded_run(batch)
    changed = {k: v.copy() for k, v in batch.items()}
    changed["msa_feat"][9:] = 1.0
    changed["extra_msa"][12:] = 3
    changed["template_aatype"][1:] = 5
    changed["template_pseudo_beta"][1:] += 7.0
    other, _, _ = padded_run(changed)
    close(other["distogram"]["logits"], outputs["distogram"]["logits"])
    close(other["representations"]["msa"][:9], outputs["representations"]["msa"][:9])
    # The check can fail: an unmasked row does change the result.
    changed["msa_feat"][8] = 1.0
    third, _, _ = padded_run(changed)
    difference = np.asarray(third["distogram"]["logits"]) - np.asarray(
        outputs["distogram"]["logits"]
    )
    assert np.abs(difference).max() > 1e-3


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


def test_moving_the_frames_moves_the_structure():
    """Invariant point attention is unchanged, and atoms follow their frames."""
    config = tiny_config()
    layer = InvariantPointAttention(
        config.structure_module, 16, 12, options=Options(zero_init=False)
    )
    layer.build()
    random = np.random.default_rng(3)
    single = tf.constant(random.standard_normal((9, 16)), tf.float32)
    pair = tf.constant(random.standard_normal((9, 9, 12)), tf.float32)
    quat = random.standard_normal((9, 4))
    quat = tf.constant(quat / np.linalg.norm(quat, axis=-1, keepdims=True), tf.float32)
    here = Rigid(quat_to_rot(quat), tf.constant(random.standard_normal((9, 3)), tf.float32))
    motion = random_motion(5)
    motion = Rigid(motion.rot, motion.trans / 10.0)
    there = rigid.compose(Rigid(motion.rot[None], motion.trans[None]), here)
    mask = tf.ones([9])
    close(
        layer(single, pair, mask, frames=there),
        layer(single, pair, mask, frames=here),
        tolerance=1e-3,
    )
    elsewhere = Rigid(
        here.rot, here.trans + tf.constant(random.standard_normal((9, 3)), tf.float32)
    )
    difference = layer(single, pair, mask, frames=elsewhere) - layer(
        single, pair, mask, frames=here
    )
    assert np.abs(difference).max() > 1e-2
    aatype = tf.constant(random.integers(0, 20, 9), tf.int32)
    angles = random.standard_normal((9, 7, 2))
    angles = tf.constant(angles / np.linalg.norm(angles, axis=-1, keepdims=True), tf.float32)
    places = [
        frames.frames_to_atom14_positions(
            aatype, frames.torsion_angles_to_frames(aatype, where, angles)
        )
        for where in (here, there)
    ]
    exists = atoms.make_atom14_masks(aatype)["atom14_atom_exists"][..., None]
    close(places[1], rigid.apply(motion, places[0]) * exists, tolerance=1e-4)


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


def test_heads_config_is_the_losses():
    """The distogram's and the error head's bins are one and the same for both sides."""
    config = HeadsConfig()
    from tffold.model.heads import distogram_breaks, predicted_aligned_error_breaks

    breaks = np.asarray(distogram_breaks(config))
    assert len(breaks) == 63 and breaks[0] == 2.3125 and breaks[-1] == 21.6875
    breaks = np.asarray(predicted_aligned_error_breaks(config))
    np.testing.assert_allclose(breaks, np.arange(0, 31.01, 0.5))


def test_select_pass():
    batch = {"aatype": tf.constant([[1, 2], [3, 4]])}
    assert select_pass(batch, 1)["aatype"].numpy().tolist() == [3, 4]
