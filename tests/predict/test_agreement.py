"""What validation computes from a trainer's averaged weights, prediction computes from its file."""

from __future__ import annotations

import dataclasses

import keras
import numpy as np
import pytest
from predicting import small_config
from synthetic import chain, write_shard

from tffold import geometry
from tffold.model.alphafold import AlphaFold
from tffold.predict.evidence import Evidences
from tffold.predict.models import load_models
from tffold.predict.targets import find_targets
from tffold.train import saving
from tffold.train.evaluation import ChainEvaluation
from tffold.train.strategy import build_cluster
from tffold.train.task import alphafold_task
from tffold.train.trainer import AlphaFoldTrainer
from tffold.train.validation import Progress
from tffold.weights import checkpoint

pytestmark = pytest.mark.slow

CA = 1


def test_a_checkpoint_is_predicted_as_it_was_validated(tmp_path):
    shard = write_shard(tmp_path / "a.tfrecord", [chain(28, num_msa=40, num_templates=2)])
    config = small_config()
    config.model.structure_module.num_layer = 1
    for term in dataclasses.fields(config.loss):
        if term.name.endswith("_weight"):
            setattr(config.loss, term.name, 0.0)  # not what is tested here
    config.data.validation = [str(shard)]
    config.data.mask_msa_in_inference = False  # as in validation
    config.validation.num_recycle = config.model.num_recycle
    config.train.run_dir = str(tmp_path / "run")
    config.train.batch_size = 1
    task = alphafold_task()
    trainer = AlphaFoldTrainer(
        AlphaFold(config.model, seed=3), config, build_cluster(config.train), task.loss_fn(config),
        task.metric_fn(config),
    )  # fmt: skip
    random = np.random.default_rng(0)
    for average in trainer.state_variables.average:
        step = 0.02 * random.standard_normal(average.shape)
        average.assign(keras.ops.convert_to_numpy(average) + step.astype("float32"))
    evaluation = ChainEvaluation(config, trainer)
    (validated,) = evaluation.evaluate([0], draw=True)
    folder = tmp_path / "run" / "checkpoints"
    description = saving.describe_state(0, config, Progress())
    checkpoint.save(folder, 0, saving.copy_state(trainer), description, keep=1)

    models = {}
    for raw in (False, True):
        (models[raw],) = load_models({"run": config}, [str(tmp_path / "run")], raw)
    # The program is the same for any weights: compile it once.
    program = evaluation.passes.program
    models = {k: dataclasses.replace(m, program=program) for k, m in models.items()}
    (target,) = find_targets([str(shard)], Evidences())
    features = target.load()
    predicted = {raw: model.predict(features, 0, "x") for raw, model in models.items()}

    shown = validated.drawing
    positions = predicted[False].chains[0].atom_positions
    known = shown["true_mask"][:, CA].astype("float32")
    motion = geometry.superpose(positions[:, CA], shown["true_positions"][:, CA], known)
    moved = geometry.rigid.apply(geometry.rigid.expand(motion), positions.reshape(-1, 3))
    exists = shown["atom_exists"] > 0
    difference = np.asarray(moved).reshape(positions.shape) - shown["positions"]
    assert np.abs(difference[exists]).max() < 1e-3
    np.testing.assert_allclose(predicted[False].plddt, shown["plddt"], atol=1e-3)
    np.testing.assert_allclose(predicted[False].pae, shown["pae"], atol=1e-3)
    np.testing.assert_allclose(predicted[False].changes[1:], validated.changes, rtol=1e-4)
    # The weights themselves say something else.
    assert np.abs(predicted[True].plddt - predicted[False].plddt).max() > 0.01
