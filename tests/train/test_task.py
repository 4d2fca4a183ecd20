"""What is trained, really: data that count what they skip, weights from a file."""

from __future__ import annotations

import dataclasses
import re

import numpy as np
import pytest
from fake import fake_config
from listening import listening
from run_fake import fake_task
from synthetic import chain, write_shard
from tiny import model_params, tiny_config

from records.errors import InputError
from tffold.config import Config, DataConfig, FilterConfig, TrainConfig
from tffold.model.alphafold import AlphaFold
from tffold.train.feed import Feed
from tffold.train.run import build_trainer, train
from tffold.train.saving import start_from
from tffold.train.strategy import build_cluster
from tffold.train.task import TrainingData, alphafold_task
from tffold.weights.npz import write_npz


def test_damaged_records_are_counted(tmp_path):
    chains = [chain(num_msa=9, num_templates=1, chain_id=f"c{i}_A", seed=i) for i in range(3)]
    path = write_shard(tmp_path / "chains.tfrecord", chains)
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 0xFF
    path.write_bytes(data)
    config = Config()
    config.model.num_recycle = 0
    config.train.batch_size = 1
    config.data = DataConfig(
        train=[str(path)],
        train_filter=FilterConfig(sample_by_length=False, sample_by_cluster=False),
        crop_size=16,
        max_msa_clusters=8,
        max_extra_msa=8,
        on_corrupt="skip",
    )
    dataset = TrainingData(config)
    assert dataset.skipped == 0
    batches = Feed(dataset, build_cluster(config.train)).batches(0)
    for _ in range(6):
        assert "damaged" not in next(batches)
    assert dataset.skipped == 1


def test_a_run_tells_of_skipped_records(tmp_path):
    task = fake_task(frozenset(), dropout=0.0)

    def dataset(config):
        factory = task.dataset(config)
        factory.skipped = 3
        return factory

    config = fake_config(run_dir=str(tmp_path), steps=1)
    with listening() as said:
        outcome = train(config, dataclasses.replace(task, dataset=dataset))
    assert any("3 damaged records were skipped" in line for line in said)
    assert outcome.summary["skipped_records"] == 3


def test_training_starts_from_deepminds_parameters(tmp_path):
    """Every weight and its average come from the file; a file that does not fit changes nothing."""
    config = Config(model=tiny_config())
    task = alphafold_task()
    source = task.network(dataclasses.replace(config, train=TrainConfig(seed=8)))
    path = tmp_path / "params_model_1_ptm.npz"
    write_npz(path, model_params(source))
    trainer = build_trainer(config, task, build_cluster(config.train))
    with listening() as said:
        start_from(trainer, str(path), task)
    assert len(said) == 1 and str(path) in said[0]
    wanted = [np.asarray(v) for v in source.trainable_variables]
    for field in ("parameters", "average"):
        for value, want in zip(getattr(trainer.state_variables, field), wanted, strict=True):
            np.testing.assert_array_equal(np.asarray(value), want)

    shallow = tiny_config()
    shallow.evoformer.num_block = 1
    write_npz(path, model_params(AlphaFold(shallow, seed=9)))
    with pytest.raises(InputError, match="of another shape.*1 Evoformer block"):
        start_from(trainer, str(path), task)
    for value, want in zip(trainer.state_variables.parameters, wanted, strict=True):
        np.testing.assert_array_equal(np.asarray(value), want)


@pytest.mark.parametrize("divides_first", [True, False])
def test_weights_of_another_form_are_told(tmp_path, divides_first):
    """Shapes don't show whether the outer product was divided before its linear map."""
    key = "outer_product_divides_first"
    config = fake_config(run_dir=str(tmp_path / "run"), steps=1)
    setattr(config.model, key, divides_first)
    task = fake_task(frozenset(), dropout=0.0)
    train(config, task)
    for ours in (True, False):
        setattr(config.model, key, ours)
        trainer = build_trainer(config, task, build_cluster(config.train))
        with listening() as said:
            start_from(trainer, str(tmp_path / "params.npz"), task)
            start_from(trainer, str(tmp_path / "run"), task)
        warnings = [line for line in said if key in line]
        first, words = str(divides_first).lower(), str(ours).lower()
        wanted = [f"params.npz: DeepMind's code trained .*{key}=false.* it true"] if ours else []
        if ours != divides_first:
            wanted += [f"step-00000001: the run .*{key}={first}.* it {words}: .*set it to {first}$"]
        assert len(warnings) == len(wanted)
        for line, pattern in zip(warnings, wanted, strict=True):
            assert re.search(pattern, line)
