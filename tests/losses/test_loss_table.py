"""The table as a whole: what is computed, symmetries, padding and gradients."""

import dataclasses
import functools

import numpy as np
import pytest
import tensorflow as tf
from structures import add_heads, labels, random_protein, structure_outputs

from records import chemistry
from tffold import losses
from tffold.config import HeadsConfig, LossConfig
from tffold.geometry import rigid
from tffold.losses import table

HEADS = HeadsConfig()
EVERYTHING = LossConfig(
    experimentally_resolved_weight=0.01,
    predicted_aligned_error_weight=0.1,
    violation_weight=1.0,
)


def disturb(batch, seed=0, layers=2, size=2.0):
    """Trajectory and angles some way off the truth."""
    rng = np.random.default_rng(seed)
    num_res = batch["aatype"].shape[0]
    traj = np.repeat(batch["true_traj"], layers, axis=0)
    traj += rng.standard_normal(traj.shape) * ([size / 10] * 4 + [size] * 3)
    traj[..., :4] /= np.linalg.norm(traj[..., :4], axis=-1, keepdims=True)
    raw = rng.standard_normal((layers, num_res, 7, 2))
    return tf.constant(traj.astype("float32")), tf.constant(raw.astype("float32"))


def outputs_of(batch, traj, raw, heads):
    angles = raw * tf.math.rsqrt(tf.reduce_sum(raw**2, axis=-1, keepdims=True) + 1e-8)
    return {"structure_module": structure_outputs(batch, traj, angles, raw), **heads}


def setup(batch, seed=0, **options):
    traj, raw = disturb(batch, seed, **options)
    heads = {}
    add_heads(heads, batch)
    return traj, raw, heads


def test_perfect_prediction():
    batch = random_protein()
    heads = {}
    add_heads(heads, batch)
    outputs = outputs_of(batch, batch["true_traj"], batch["true_angles"], heads)
    _, parts = losses.compute_losses(outputs, batch, EVERYTHING, HEADS)
    for name in ("fape", "backbone_fape", "sidechain_fape"):
        # What epsilon leaves: sqrt(1e-4) / 10; rounding of the label frames adds a little.
        assert float(parts[f"structure_module/{name}"]) == pytest.approx(0.001, abs=5e-4)
    assert float(parts["structure_module/chi_loss"]) < 1e-4
    assert float(parts["structure_module/angle_norm_loss"]) < 1e-4
    off = outputs_of(batch, *disturb(batch), heads)
    _, worse = losses.compute_losses(off, batch, EVERYTHING, HEADS)
    for name in ("fape", "sidechain_fape", "chi_loss", "angle_norm_loss"):
        name = f"structure_module/{name}"
        assert float(worse[name]) > 10 * float(parts[name])


def test_zero_weight_terms_are_not_computed(monkeypatch):
    batch = random_protein()
    traj, raw, heads = setup(batch)
    outputs = outputs_of(batch, traj, raw, heads)
    called = []

    def spy(term):
        def function(*args):
            called.append(term.name)
            return term.function(*args)

        return term._replace(function=function)

    monkeypatch.setattr(table, "LOSS_TERMS", tuple(map(spy, table.LOSS_TERMS)))
    # Terms without weight may even be without input.
    config = dataclasses.replace(
        EVERYTHING,
        distogram_weight=0.0,
        predicted_aligned_error_weight=0.0,
        chi_weight=0.0,
        violation_weight=0.0,
    )
    del outputs["distogram"], outputs["predicted_aligned_error"]
    total, parts = losses.compute_losses(outputs, batch, config, HEADS)
    assert set(called) == {
        "backbone_fape",
        "sidechain_fape",
        "angle_norm_loss",
        "masked_msa",
        "predicted_lddt",
        "experimentally_resolved",
    }
    assert not [name for name in parts if "distogram" in name or "viol" in name or "chi" in name]
    assert np.isfinite(total)
    called.clear()
    losses.compute_losses(
        outputs, batch, dataclasses.replace(config, structure_module_weight=0.0), HEADS
    )
    assert "backbone_fape" not in called and "masked_msa" in called


def test_every_weight_is_read():
    """Doubling any weight raises the total by that term's share."""
    batch = random_protein()
    outputs = outputs_of(batch, *setup(batch)[:2], {})
    add_heads(outputs, batch)
    # Two chains that lie farther apart in truth than predicted.
    second = np.arange(12) >= 6
    batch["asym_id"] = tf.constant(1 + second, tf.int32)
    batch["all_atom_positions"] += 60.0 * second[:, None, None].astype("float32")
    config = dataclasses.replace(EVERYTHING, scale_by_sqrt_length=False, chain_center_weight=1.0)
    total, parts = losses.compute_losses(outputs, batch, config, HEADS)
    weights = [f.name for f in dataclasses.fields(config) if f.name.endswith("_weight")]
    used = {w for w in losses.HEAD_WEIGHTS.values()}
    used |= {term.weight for term in losses.LOSS_TERMS if term.weight}
    assert used == set(weights)
    share = {w: parts[f"{head}/loss"] for head, w in losses.HEAD_WEIGHTS.items()}
    share |= {t.weight: parts[f"{t.head}/{t.name}"] for t in losses.LOSS_TERMS if t.weight}
    for weight in weights:
        value = getattr(config, weight)
        assert float(share[weight]) > 0.0
        doubled = dataclasses.replace(config, **{weight: 2 * value})
        higher, _ = losses.compute_losses(outputs, batch, doubled, HEADS)
        assert float(higher - total) == pytest.approx(value * float(share[weight]), rel=1e-3)


def test_sqrt_length_scales_the_total_by_real_residues():
    batch = random_protein()
    batch["seq_mask"] = tf.constant([1.0] * 9 + [0.0] * 3)
    outputs = outputs_of(batch, *setup(batch)[:2], {})
    add_heads(outputs, batch)
    plain = dataclasses.replace(EVERYTHING, scale_by_sqrt_length=False)
    total, parts = losses.compute_losses(outputs, batch, plain, HEADS)
    config = dataclasses.replace(plain, scale_by_sqrt_length=True)
    scaled, scaled_parts = losses.compute_losses(outputs, batch, config, HEADS)
    assert float(scaled) == pytest.approx(3 * float(total), rel=1e-5)
    for head in losses.HEAD_WEIGHTS:
        assert float(scaled_parts[f"{head}/loss"]) == float(parts[f"{head}/loss"])
    weighted = sum(float(scaled_parts[f"{head}/weighted"]) for head in losses.HEAD_WEIGHTS)
    assert weighted == pytest.approx(float(scaled), rel=1e-5)


@pytest.mark.parametrize("all_angles", [False, True])
def test_moving_the_truth_changes_nothing(all_angles):
    batch = random_protein()
    traj, raw, heads = setup(batch)
    msa = {name: batch[name] for name in ("true_msa", "bert_mask")}
    config = dataclasses.replace(EVERYTHING, torsion_all_angles=all_angles)
    _, before = losses.compute_losses(outputs_of(batch, traj, raw, heads), batch, config, HEADS)
    motion = rigid.from_tensor_7(
        np.array([0.5, -1.0, 2.0, 0.3, 20, -30, 10], "float32"), normalize=True
    )
    mask = np.asarray(batch["all_atom_mask"])
    moved = np.asarray(rigid.apply(motion, batch["all_atom_positions"])) * mask[..., None]
    moved_batch = labels(
        np.asarray(batch["aatype"]), moved, mask, np.asarray(batch["residue_index"])
    )
    moved_batch |= msa
    outputs = outputs_of(moved_batch, traj, raw, heads)
    _, after = losses.compute_losses(outputs, moved_batch, config, HEADS)
    for name, value in before.items():
        np.testing.assert_allclose(after[name], value, rtol=2e-4, err_msg=name)


def pad(batch, num):
    """`num` residues of zeros behind every per-residue label."""
    num_res = batch["aatype"].shape[0]

    def padded(name, value):
        value = np.asarray(value)
        if value.ndim == 0 or name.startswith("true_") and name != "true_msa":
            return value
        axis = 1 if name in ("true_msa", "bert_mask") else 0
        assert value.shape[axis] == num_res, name
        widths = [(0, num if i == axis else 0) for i in range(value.ndim)]
        return np.pad(value, widths)

    return {name: tf.constant(padded(name, value)) for name, value in batch.items()}


def test_padding_changes_nothing():
    batch = random_protein()
    traj, raw, heads = setup(batch)
    _, before = losses.compute_losses(outputs_of(batch, traj, raw, heads), batch, EVERYTHING, HEADS)
    longer = pad(batch, 5)
    # What the network says of padding is arbitrary.
    rng = np.random.default_rng(9)

    def grow(value, *axes):
        value = np.asarray(value)
        shape = [n + 5 if i in axes else n for i, n in enumerate(value.shape)]
        result = rng.standard_normal(shape).astype("float32")
        result[tuple(slice(n) for n in value.shape)] = value
        return tf.constant(result)

    axes = {
        "distogram": (0, 1),
        "predicted_aligned_error": (0, 1),
        "masked_msa": (1,),
        "predicted_lddt": (0,),
        "experimentally_resolved": (0,),
    }
    more = {name: {"logits": grow(heads[name]["logits"], *axes[name])} for name in heads}
    outputs = outputs_of(longer, grow(traj, 1), grow(raw, 1), more)
    _, after = losses.compute_losses(outputs, longer, EVERYTHING, HEADS)
    for name, value in before.items():
        np.testing.assert_allclose(after[name], value, rtol=1e-5, err_msg=name)


@functools.cache
def gradient_function(config_items, jit_compile):
    """Parts and gradients; XLA compiles once for all batches of a shape."""
    config = LossConfig(**dict(config_items))

    @tf.function(jit_compile=jit_compile)
    def run(batch, traj, raw, logits):
        variables = [traj, raw, *logits.values()]
        with tf.GradientTape() as tape:
            tape.watch(variables)
            given = {name: {"logits": value} for name, value in logits.items()}
            outputs = outputs_of(batch, traj, raw, given)
            total, parts = losses.compute_losses(outputs, batch, config, HEADS)
        return parts, tape.gradient(total, variables, unconnected_gradients="zero")

    return run


def all_gradients(batch, traj, raw, heads, config=EVERYTHING, jit_compile=True):
    run = gradient_function(tuple(dataclasses.asdict(config).items()), jit_compile)
    used = {name: value for name, value in batch.items() if not name.startswith("true_t")}
    return run(used, traj, raw, {name: head["logits"] for name, head in heads.items()})


def degenerate(kind):
    """Batches and predictions where naive code divides by zero."""
    rng = np.random.default_rng(0)
    aatype = rng.permutation(20)[:6]
    if kind == "glycine only":
        aatype = np.full(6, chemistry.RESTYPE_ORDER["G"])
    elif kind == "all unknown":
        aatype = np.full(6, 20)
    elif kind == "one residue":
        aatype = aatype[:1]
    batch = random_protein(aatype=aatype)
    mask = np.array(batch["all_atom_mask"])
    positions = np.array(batch["all_atom_positions"])
    if kind == "nothing resolved":
        mask[:] = 0
    elif kind == "missing backbones":
        mask[1::2, :5] = 0
    elif kind == "coinciding true atoms":
        positions[:] = positions[0, 0]
    batch |= labels(
        np.asarray(batch["aatype"]), positions * mask[..., None], mask, np.arange(len(aatype))
    )
    if kind == "all padding":
        batch = {
            name: value if name.startswith("true_") else tf.zeros_like(value)
            for name, value in batch.items()
        }
    traj, raw, heads = setup(batch, layers=1)
    if kind == "all padding":
        batch["bert_mask"] = tf.zeros_like(batch["bert_mask"])
    if kind == "black hole":
        traj = tf.constant(np.tile(np.array([1, 0, 0, 0, 0, 0, 0], "float32"), [1, 6, 1]))
        raw = tf.zeros_like(raw)
    elif kind == "perfect":
        traj, raw = batch["true_traj"], batch["true_angles"]
    elif kind == "far away":
        traj = traj * ([1.0] * 4 + [1e4] * 3)
    return batch, traj, raw, heads


@pytest.mark.parametrize(
    "kind",
    [
        "all padding",
        "all unknown",
        "black hole",
        "coinciding true atoms",
        "far away",
        "glycine only",
        "missing backbones",
        "nothing resolved",
        "one residue",
        "perfect",
    ],
)
def test_gradients_are_finite(kind):
    batch, traj, raw, heads = degenerate(kind)
    for clamped in (0.0, 1.0):
        batch["use_clamped_fape"] = tf.constant(clamped)
        parts, gradients = all_gradients(batch, traj, raw, heads, jit_compile=kind != "one residue")
        for name, value in parts.items():
            assert np.isfinite(value), name
        for gradient in gradients:
            assert np.isfinite(gradient).all()
        if kind == "all padding":
            assert float(parts["total_loss"]) == 0.0
            assert not any(np.asarray(gradient).any() for gradient in gradients)


def test_gradient_descends():
    """One plain step from a disturbed structure towards the truth."""
    batch = random_protein(num_res=6)
    traj, raw, heads = setup(batch, layers=1)
    config = dataclasses.replace(EVERYTHING, violation_weight=0.0, scale_by_sqrt_length=False)
    first, gradients = all_gradients(batch, traj, raw, heads, config, jit_compile=False)
    traj, raw = traj - 0.5 * gradients[0], raw - 0.5 * gradients[1]
    traj = tf.concat(
        [traj[..., :4] / tf.norm(traj[..., :4], axis=-1, keepdims=True), traj[..., 4:]], -1
    )
    second, _ = all_gradients(batch, traj, raw, heads, config, jit_compile=False)
    for name in ("backbone_fape", "sidechain_fape", "chi_loss", "angle_norm_loss"):
        name = f"structure_module/{name}"
        assert float(second[name]) < float(first[name])
