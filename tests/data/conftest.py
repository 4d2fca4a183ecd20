"""Shards of a few chains, one of them damaged."""

from __future__ import annotations

import pytest
from pipelines import OPEN, chains
from synthetic import write_shard

from records import shards
from tffold.config import DataConfig


@pytest.fixture(scope="module")
def shard(tmp_path_factory):
    return write_shard(tmp_path_factory.mktemp("shards") / "train.tfrecord", chains())


@pytest.fixture(scope="module")
def config(shard):
    return DataConfig(
        train=[str(shard)],
        validation=[str(shard)],
        train_filter=OPEN,
        crop_size=20,
        max_msa_clusters=12,
        max_extra_msa=16,
        size_buckets=[16, 32, 48],
    )


@pytest.fixture
def damaged(tmp_path):
    path = write_shard(tmp_path / "bad.tfrecord", chains()[:2])
    data = bytearray(path.read_bytes())
    data[shards.read_index(path)[1]["offset"] + 99] ^= 1
    path.write_bytes(data)
    return path
