"""Training some of the weights: the others keep every bit, and cost no backward pass."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import tensorflow as tf
from fake import fake_batch, fake_config
from run_fake import fake_task
from tiny import tiny_config
from toy_run import assert_same, go

from records.errors import InputError
from tffold.config import Config
from tffold.model.evoformer import EvoformerBlock
from tffold.plan.hlo import Program
from tffold.plan.lower import lower_step
from tffold.train.run import build_trainer
from tffold.train.strategy import build_cluster
from tffold.train.task import alphafold_task
from tffold.weights import checkpoint
from tffold.weights.npz import read_checkpoint

SIZES = {"into": 20, "feedback": 16, "unused": 3, "out": 4}


def first_weights():
    task = fake_task(dropout=0.0)
    network = task.network(fake_config())
    return {v.path: v.numpy() for v in network.trainable_variables}


def test_frozen_weights_keep_every_bit_and_have_no_moments(tmp_path):
    state, said, outcome = go(tmp_path, steps=5, freeze=["fake//into", "*feedback"])
    before = first_weights()
    assert "training 7 parameters; 36 are frozen" in said
    for name, value in before.items():
        kept = name in ("fake/into", "fake/feedback")
        assert (f"frozen/{name}" in state) == kept
        assert (f"parameters/{name}" in state) == (f"average/{name}" in state) == (not kept)
        if kept:
            np.testing.assert_array_equal(state[f"frozen/{name}"], value)
    assert not np.array_equal(state["parameters/fake/out"], before["fake/out"])
    assert state["first_moment"].shape == state["second_moment"].shape == (7,)
    averaged = dict(zip(before, outcome.trainer.averaged, strict=True))
    np.testing.assert_array_equal(averaged["fake/into"].numpy(), before["fake/into"])
    assert not np.array_equal(averaged["fake/out"].numpy(), before["fake/out"])


def test_the_others_get_the_gradient_they_always_got():
    """Of the trained weights alone, and clipped by their own norm."""
    gradients = []
    for freeze in ([], ["fake//feedback", "fake//unused"]):
        config = fake_config(clip_norm=1e9, freeze=freeze)
        trainer = build_trainer(config, fake_task(dropout=0.0), build_cluster(config.train))
        step = trainer.training_step
        batch = {k: tf.constant(v) for k, v in fake_batch(config, 0).items() if k != "chain_id"}
        values = ([tf.convert_to_tensor(v) for v in group] for group in (step.trained, step.frozen))
        parameters, frozen = values
        gradient, _ = step.local_gradients(parameters, batch, tf.constant(0), 0, frozen)
        gradients.append(gradient.numpy())
    whole, part = gradients
    np.testing.assert_allclose(part, np.concatenate([whole[:20], whole[-4:]]), rtol=1e-5)


def test_a_scaled_rate_scales_the_way():
    ways = []
    for scale in ([], ["fake//into=0.25"]):
        config = fake_config(learning_rate_scale=scale)
        trainer = build_trainer(config, fake_task(dropout=0.0), build_cluster(config.train))
        before = [v.numpy() for v in trainer.training_step.trained]
        batch = {k: tf.constant(v) for k, v in fake_batch(config, 0).items() if k != "chain_id"}
        trainer.run_step(batch)
        after = [v.numpy() for v in trainer.training_step.trained]
        ways.append([b - a for a, b in zip(before, after, strict=True)])
    (into, *others), (scaled, *same) = ways
    np.testing.assert_allclose(scaled, 0.25 * into, rtol=1e-3)
    for one, other in zip(others, same, strict=True):
        np.testing.assert_array_equal(one, other)


def test_a_frozen_run_resumes_bit_for_bit_and_refuses_another_set(tmp_path):
    freeze = ["fake//into"]
    whole, _, _ = go(tmp_path / "whole", steps=4, freeze=freeze)
    go(tmp_path / "parts", steps=2, freeze=freeze)
    parts, _, _ = go(tmp_path / "parts", steps=4, freeze=freeze)
    assert_same(whole, parts)
    with pytest.raises(InputError, match=r"train.freeze: \[.fake//into.\] -> \[\]"):
        go(tmp_path / "parts", steps=6)
    with pytest.raises(checkpoint.CheckpointError, match="'fake/into' is frozen either.*init_from"):
        go(tmp_path / "parts", steps=6, allow=True)


def test_a_run_starts_from_one_that_froze_other_weights(tmp_path):
    first, _, _ = go(tmp_path / "first", steps=4, freeze=["fake//into"])
    second, said, _ = go(
        tmp_path / "second", steps=2, freeze=["fake//out"], init_from=str(tmp_path / "first")
    )
    assert not any("newly drawn" in line for line in said)
    np.testing.assert_array_equal(second["frozen/fake/out"], first["average/fake/out"])
    start, _, _ = go(tmp_path / "third", steps=0, init_from=str(tmp_path / "first"))
    np.testing.assert_array_equal(start["parameters/fake/into"], first["frozen/fake/into"])
    np.testing.assert_array_equal(start["average/fake/into"], first["frozen/fake/into"])
    np.testing.assert_array_equal(start["parameters/fake/out"], first["parameters/fake/out"])


def test_an_export_holds_frozen_and_trained_weights(tmp_path):
    state, _, _ = go(tmp_path, steps=2, freeze=["fake//into"])
    for raw, kind in ((False, "average"), (True, "parameters")):
        params = read_checkpoint(tmp_path, raw)
        assert params.keys() == {f"fake//{name}" for name in SIZES}
        np.testing.assert_array_equal(params["fake//into"], state["frozen/fake/into"])
        np.testing.assert_array_equal(params["fake//out"], state[f"{kind}/fake/out"])


def toy(freeze) -> Config:
    config = Config(model=tiny_config(num_recycle=0))
    config.model.evoformer.num_block, config.model.structure_module.num_layer = 2, 1
    config.data.crop_size = 16
    config.data.max_msa_clusters = config.data.max_extra_msa = 8
    config.train = dataclasses.replace(config.train, batch_size=1, freeze=freeze)
    return config


@pytest.mark.slow
def test_a_frozen_trunk_has_no_backward_pass(monkeypatch):
    """Its blocks are traced once, not again to recompute them, and the work falls to the forward's.

    The program is counted as TensorFlow makes it, before XLA could prune anything.
    """
    calls = []
    call = EvoformerBlock.call
    monkeypatch.setattr(
        EvoformerBlock, "call", lambda self, *a, **k: calls.append(self) or call(self, *a, **k)
    )

    def lowered(freeze):
        calls.clear()
        step = lower_step(toy(freeze), alphafold_task(), local_batch=1)
        return len(calls), Program(step.text).cost().flops, step

    traced, work, step = lowered([])
    traced_frozen, work_frozen, frozen_step = lowered(["evoformer"])
    heads = ["masked_msa_head", "predicted_lddt_head", "predicted_aligned_error_head"]
    _, forward, _ = lowered(["evoformer", "structure_module", "distogram_head", *heads])
    assert traced_frozen == traced // 2
    assert frozen_step.num_parameters == step.num_parameters
    assert work > 2.5 * forward  # a block's backward pass is twice its forward, and recomputes that
    assert work_frozen < 0.5 * work
