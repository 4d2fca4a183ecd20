"""The real data set behind training: it counts what it had to skip."""

from __future__ import annotations

import dataclasses

from fake import fake_config
from run_fake import fake_parts
from synthetic import chain, write_shard

from tffold.config import Config, DataConfig, FilterConfig
from tffold.train.parts import TrainingData
from tffold.train.run import train


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
    assert len(list(dataset(start_step=0).take(6))) == 6
    assert dataset.skipped == 1


def test_a_run_tells_of_skipped_records(tmp_path):
    parts = fake_parts(frozenset(), dropout=0.0)

    def dataset(config):
        factory = parts.dataset(config)
        factory.skipped = 3
        return factory

    said = []
    config = fake_config(run_dir=str(tmp_path), steps=1)
    outcome = train(config, dataclasses.replace(parts, dataset=dataset), False, (), said.append)
    assert any("3 damaged records were skipped" in line for line in said)
    assert outcome.summary["skipped_records"] == 3
