"""A tiny multimer network on a small complex, from parameters under DeepMind's names.

It learns from there, goes on bit for bit, is validated.
"""

from __future__ import annotations

import json
import shutil

import keras
import numpy as np
import pytest
import tensorflow as tf
from synthetic import assembly, chain, uniprot_rows, write_shard
from tiny import tiny_complexes_config

from tffold.cli.export import main as export
from tffold.config import Config, DataConfig, FilterConfig, LossConfig, TrainConfig
from tffold.model.alphafold import AlphaFold
from tffold.train.monitor import read_metrics
from tffold.train.run import train
from tffold.train.task import TrainingData, alphafold_task
from tffold.weights import checkpoint
from tffold.weights.npz import load_params

pytestmark = pytest.mark.slow

STEPS, HALF = 40, 20
OPEN = FilterConfig(sample_by_length=False, sample_by_cluster=False)


def made(folder):
    """Two copies of one chain and one of another, 33 residues; a monomer beside them."""
    complexes = [assembly((1, 1, 2))]
    complexes[0].entities[1].update(uniprot_rows(9, 13))
    model = tiny_complexes_config(num_recycle=1)
    model.evoformer.num_block = model.extra_msa_stack.num_block = model.template.num_block = 1
    model.structure_module.num_layer = 2
    shard = str(write_shard(folder / "complexes.tfrecord", complexes))
    return Config(
        model=model,
        loss=LossConfig(
            by_chain=True,
            permute_chains=True,
            chain_center_weight=1.0,
            zero_error_bin=True,
            violation_weight=0.1,
            predicted_aligned_error_weight=0.1,
            experimentally_resolved_weight=0.01,
        ),
        data=DataConfig(
            train=[str(write_shard(folder / "monomers.tfrecord", [chain(num_res=30)]))],
            complexes=[shard],
            validation=[shard],
            train_filter=OPEN,
            complex_filter=OPEN,
            complex_probability=0.9,
            crop_size=28,
            max_chains=3,
            max_assembly_length=36,
            max_msa_clusters=8,
            max_extra_msa=8,
            max_templates=1,
            size_buckets=[36],
        ),
        train=TrainConfig(
            run_dir=str(folder / "run"),
            steps=STEPS,
            batch_size=1,
            learning_rate=3e-3,
            warmup_samples=5,
            ema_decay=0.9,
            log_every=1,
            checkpoint_every=HALF,
        ),
    )


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("complexes")


@pytest.fixture(scope="module")
def params(folder):
    """A tiny multimer as ``tffold-export`` writes it: DeepMind's names, shapes and types."""
    network = AlphaFold(made(folder).model, seed=5)
    weights = {v.path: v.numpy() for v in network.trainable_variables}
    arrays = {
        f"{kind}/{path}": value
        for kind in ("parameters", "average")
        for path, value in weights.items()
    }
    checkpoint.save(folder / "multimer" / "checkpoints", 7, arrays, {}, keep=1)
    path = folder / "params_tiny_multimer.npz"
    assert export([str(folder / "multimer"), str(path)]) == 0
    assert all(key.startswith("alphafold/alphafold_iteration/") for key in np.load(path))
    return path


@pytest.fixture(scope="module")
def config(folder, params):
    config = made(folder)
    config.train.init_from = str(params)
    config.validation.every, config.validation.num_recycle = STEPS, 1
    return config


def state(outcome):
    return {name: keras.ops.convert_to_numpy(v) for name, v in outcome.trainer.named_state()}


@pytest.fixture(scope="module")
def outcome(config):
    return train(config, alphafold_task())


def test_the_first_loss_is_that_of_the_parameters(config, params, outcome):
    """Fine-tuning starts where the file's network is, not the configuration's own."""
    task = alphafold_task()
    network = task.network(config)
    (batch,) = TrainingData(config)(start_step=0).take(1)
    example = {name: x[0] for name, x in batch.items() if x.dtype != tf.string}
    passes = example["num_iter_recycling"][0]
    last = {name: tf.gather(x, passes) for name, x in example.items()}
    zero = tf.zeros([2], tf.int32)

    @tf.function(autograph=False)
    def loss():
        previous = network.recycle(example, passes, zero)
        return task.loss_fn(config)(network.one_pass(last, previous, zero), last)[0]

    untrained = float(loss())
    load_params(params, network)
    first = next(line["loss"] for line in read_metrics(config.train.run_dir) if "loss" in line)
    assert first == pytest.approx(float(loss()), rel=1e-4)
    assert first != pytest.approx(untrained, rel=1e-2)


def test_the_loss_falls(config, outcome):
    lines = [line for line in read_metrics(config.train.run_dir) if "loss" in line]
    losses = [line["loss"] for line in lines]
    assert len(losses) == STEPS and np.isfinite(losses).all()
    assert np.mean(losses[-10:]) < 0.85 * np.mean(losses[:5])
    # What complexes alone have is there.
    names = {name for line in lines for name in line}
    for wanted in ("interface_backbone_fape", "intra_chain_backbone_fape", "chain_center"):
        assert any(wanted in name for name in names), sorted(names)


def test_validation_measures_whole_complexes(config, outcome, folder):
    (path,) = (folder / "run" / "validation").glob("*/validation.json")
    (found,) = json.loads(path.read_text())["chains"]
    assert (found["chain"], found["residues"]) == ("1cpx", 33)
    for name in ("lddt_ca", "plddt", "tm_score", "loss/total"):
        assert np.isfinite(found[name])


def test_a_run_goes_on_bit_for_bit(config, outcome, folder):
    """The first half again from its checkpoint: the same crops, alignments and weights."""
    other = folder / "other"
    shutil.copytree(folder / "run", other)
    for path in other.rglob(f"*{STEPS:08d}*"):
        if path.is_dir():
            shutil.rmtree(path)
        elif path.exists():
            path.unlink()
    config.train.run_dir = str(other)
    again = train(config, alphafold_task())
    first, second = state(outcome), state(again)
    assert first.keys() == second.keys()
    for name, value in first.items():
        np.testing.assert_array_equal(value, second[name], err_msg=name)
