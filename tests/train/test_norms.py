"""Norms by module: named as people speak of modules, right, and computed in logged steps alone."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf
from fake import FakeNetwork, fake_batch, fake_config, fake_loss, fake_metrics

from tffold.train.norms import is_logged, module_of
from tffold.train.optimizer import TrainState, flatten
from tffold.train.step import TrainingStep


@pytest.mark.parametrize(
    ("path", "module"),
    [
        ("alphafold/alphafold_iteration/structure_module/ipa/q/weights", "structure_module"),
        ("alphafold/alphafold_iteration/evoformer/group-evoformer_loop/block/w", "evoformer_loop"),
        ("alphafold/alphafold_iteration/evoformer/single_activations/w", "single_activations"),
        ("alphafold/alphafold_iteration/distogram_head/half_logits/bias", "distogram_head"),
        ("fake/into", "fake"),
        ("weight", "other"),
    ],
)
def test_modules_go_by_their_own_names(path, module):
    assert module_of(path) == module


def test_norms_are_those_of_the_mean_gradient_and_of_the_change():
    config = fake_config(log_every=3, steps=10)
    network = FakeNetwork()
    network.build()
    step = TrainingStep(network, config, lambda o, b: fake_loss(o, b), fake_metrics)
    values = [tf.convert_to_tensor(v) for v in network.trainable_variables]
    zeros = tf.zeros_like(flatten(values))
    state = TrainState(values, zeros, zeros, values, tf.constant(0), tf.constant(0))
    for number in range(1, 5):
        batch = {k: v for k, v in fake_batch(config, number - 1).items() if k != "chain_id"}
        batch = {k: tf.constant(v) for k, v in batch.items()}
        gradient, _ = step.local_gradients(state.parameters, batch, state.step, 0)
        after, logs = step.pure(state, batch)
        norms = [float(logs[f"optim/{kind}_norm/fake"]) for kind in ("gradient", "update")]
        if number in (1, 3):  # the first, and every third
            arrays = [gradient.numpy() / config.train.batch_size]
            changes = [
                a.numpy() - b.numpy()
                for a, b in zip(after.parameters, state.parameters, strict=True)
            ]
            expected = [np.sqrt(sum((x**2).sum() for x in xs)) for xs in (arrays, changes)]
            assert norms == pytest.approx(expected, rel=1e-5)
            assert min(norms) > 0
        else:
            assert norms == [0.0, 0.0]
        state = after


def test_the_last_step_is_logged_whatever_its_number():
    config = fake_config(log_every=4, steps=10).train
    assert [step for step in range(1, 11) if is_logged(step, config)] == [1, 4, 8, 10]
