"""Sets of records: columns from the indices, reading, and damage."""

import json
import logging
import os
import time
import uuid
from pathlib import Path
from unittest import mock

import numpy as np
import pytest
from synthetic import assembly, chain, write_shard

from records import cache, example, paths, shards
from records.errors import CorruptRecordError, InputError
from tffold.config import DataConfig
from tffold.data.reader import Damage, RecordSet, RecordTable, ReplacedError

OLD_SHARD = Path(__file__).parents[1] / "records" / "data" / "version1.tfrecord"


@pytest.fixture
def folder(tmp_path):
    write_shard(
        tmp_path / "a.tfrecord",
        [
            chain(num_res=10, chain_id="1aaa_A", cluster_size=np.int32(4)),
            chain(num_res=12, chain_id="1aab_A", resolution=np.float32(3.5)),
        ],
    )
    write_shard(tmp_path / "b.tfrecord", [chain(num_res=14, chain_id="1aac_A", num_msa=5)])
    return tmp_path


def _set(folder, on_corrupt="raise"):
    return RecordSet([folder], Damage(on_corrupt))


def test_columns(folder):
    records = _set(folder)
    assert len(records) == 3
    assert records.chain_id == ["1aaa_A", "1aab_A", "1aac_A"]
    assert records.num_res.tolist() == [10, 12, 14]
    assert records.num_msa.tolist() == [30, 30, 5]
    assert records.cluster_size.tolist() == [4, 1, 1]
    np.testing.assert_allclose(records.resolution, [1.8, 3.5, 1.8])


def test_read_gives_the_record_with_the_wanted_hits(folder):
    features = _set(folder).read(2, hits=[1])
    assert features["chain_id"] == "1aac_A"
    assert features["msa"].shape == (5, 14)
    assert features["template_domain_names"] == ["9xyz_1"]


def test_no_shards_and_empty_shards(tmp_path):
    with pytest.raises(InputError, match="no shards here"):
        _set(tmp_path)
    write_shard(tmp_path / "empty.tfrecord", [])
    with pytest.raises(InputError, match="hold no records"):
        _set(tmp_path)


def _flip(folder, name, record, byte=60):
    shard = folder / name
    place = shards.read_index(shard)[record]["offset"] + byte
    data = bytearray(shard.read_bytes())
    data[place] ^= 4
    shard.write_bytes(data)


def test_flipped_bit_names_shard_and_chain(folder):
    _flip(folder, "a.tfrecord", 1)
    records = _set(folder)
    records.read(0)
    with pytest.raises(CorruptRecordError, match=r"a\.tfrecord: 1aab_A: checksum of the data"):
        records.read(1)


def test_truncated_shard_names_shard_and_chain(folder):
    os.truncate(folder / "b.tfrecord", 50)
    with pytest.raises(CorruptRecordError, match=r"b\.tfrecord: 1aac_A: the file ends"):
        _set(folder).read(2)


def test_vanished_shard(folder):
    records = _set(folder)
    (folder / "b.tfrecord").unlink()
    with pytest.raises(InputError, match=r"b\.tfrecord: 1aac_A: no such file"):
        records.read(2)


@pytest.mark.parametrize("on_corrupt", ["raise", "skip"])
@pytest.mark.parametrize("far", [False, True])
def test_a_replaced_shard_is_told_though_damage_is_skipped(folder, on_corrupt, far):
    """Even by records of the same sizes: its version tells."""
    place = f"memory://{uuid.uuid4().hex}" if far else str(folder)
    for path in folder.iterdir() if far else ():
        paths.upload(path, f"{place}/{path.name}")
    # As TensorFlow's own stores are read: not from a copy.
    with mock.patch.object(cache, "_tensorflow_reads", lambda url: True):
        records = RecordSet([place], Damage(on_corrupt))
    assert ("shard_bytes" in RecordTable([records])._entry(2)) == far  # see test_decode.py
    records.check_shards()
    shard = f"{place}/b.tfrecord"
    data = bytearray(paths.read_bytes(shard))
    data[60] ^= 4
    time.sleep(0.02)  # clocks of file systems tick slowly
    paths.write_whole(shard, bytes(data))
    told = "the shard was replaced.*start again"
    with pytest.raises(ReplacedError, match=f"b.tfrecord: {told}"):
        records.check_shards()
    with pytest.raises(ReplacedError, match=f"b.tfrecord: 1aac_A: {told}"):
        records.report(2)
    paths.remove(shard)
    with pytest.raises(InputError, match="b.tfrecord: no such file"):
        records.check_shards()


def test_damage_known_from_rebuilding_is_raised_or_skipped(folder, caplog):
    _flip(folder, "a.tfrecord", 0)
    shards.index_path(folder / "a.tfrecord").unlink()
    with pytest.raises(InputError, match=r"a\.tfrecord.*checksum of the data"):
        _set(folder)
    damage = Damage("skip")
    with caplog.at_level(logging.WARNING):
        records = RecordSet([folder], damage)
    assert records.chain_id == ["1aab_A", "1aac_A"]
    assert damage.records == 1
    assert "skipped" in caplog.text and "a.tfrecord" in caplog.text


def test_a_damaged_record_is_reported_once(caplog):
    damage = Damage("skip")
    with caplog.at_level(logging.WARNING):
        for _ in range(3):
            damage.report(InputError("bad", file="x", item="1abc_A"))
        damage.report(InputError("bad", file="x", item="2abc_A"))
    assert damage.records == 2 and sum(damage.count.values()) == 4
    assert len(caplog.records) == 2
    with pytest.raises(InputError):
        Damage("raise").report(InputError("bad"))


def test_older_schema_is_refused_at_opening(folder):
    index = shards.index_path(folder / "b.tfrecord")
    entry = json.loads(index.read_text())
    entry["schema_version"] = 0
    index.write_text(json.dumps(entry) + "\n")
    with pytest.raises(InputError, match=r"b\.tfrecord: 1aac_A: schema version 0.*tffold-convert"):
        _set(folder)
    assert len(_set(folder, "skip")) == 2


def test_older_schema_in_the_record_itself(folder, monkeypatch):
    records = _set(folder)
    monkeypatch.setattr(example, "READABLE_VERSIONS", (3, 3))
    with pytest.raises(InputError, match=r"a\.tfrecord: 1aaa_A: schema version 2"):
        records.read(0)


def test_complexes_are_left_out_and_counted(folder, caplog):
    write_shard(folder / "c.tfrecord", [assembly((1, 1)), chain(chain_id="1aad_A")])
    with caplog.at_level(logging.INFO):
        records = _set(folder)
    assert records.chain_id[-2:] == ["1aac_A", "1aad_A"]
    assert records.read(3)["chain_id"] == "1aad_A"
    assert [r.message for r in caplog.records] == [
        f"{folder}: left out 1 complexes, not single chains"
    ]
    write_shard(folder / "a.tfrecord", [assembly((1, 2))])
    with pytest.raises(InputError, match="hold no single chains, complexes alone"):
        RecordSet([folder / "a.tfrecord"], Damage("raise"))


def test_complexes_of_few_enough_chains_are_read_where_they_are_wanted(folder, caplog):
    made = [assembly((1, 1)), assembly((1, 2, 2), chain_id="2cpx"), chain(chain_id="1aad_A")]
    write_shard(folder / "c.tfrecord", made)
    with caplog.at_level(logging.INFO):
        records = RecordSet([folder], Damage("raise"), DataConfig(max_chains=2))
    assert records.chain_id[-2:] == ["1cpx", "1aad_A"]
    assert records.num_chains.tolist() == [1, 1, 1, 2, 1]
    assert records.num_res.tolist()[-2:] == [20, 40]
    assert records.layouts[3]["entity_id"] == [1, 1]
    assert records.layouts[3]["entity_num_uniprot"] == [6]
    assert records.layouts[4] == {
        "entity_id": [1],
        "entity_cluster_size": [1],
        "entity_num_res": [40],
        "entity_num_msa": [30],
        "entity_num_templates": [3],
        "entity_num_uniprot": [0],
    }
    assert records.read_assembly(3).entity_id == (1, 1)
    assert [r.message for r in caplog.records] == [
        f"{folder}: left out 1 complexes, more than data.max_chains=2 chains"
    ]
    write_shard(folder / "a.tfrecord", made[1:2])
    with pytest.raises(InputError, match="no assembly of up to 2 chains"):
        RecordSet([folder / "a.tfrecord"], Damage("raise"), DataConfig(max_chains=2))


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ('"entity_id": [1, 1, 2]', '"entity_id": [1, 2, 2]'),
        ('"entity_id": [1, 1, 2]', '"entity_id": [1, 2, 1]'),
        ('"entity_id": [1, 1, 2], ', ""),
        ('"entity_num_msa": [5, 6]', '"entity_num_msa": [5]'),
        ('"entity_num_res": [10, 13]', '"entity_num_res": [10, 1.5]'),
    ],
)
def test_an_index_that_contradicts_itself_about_chains(tmp_path, old, new):
    shard = write_shard(tmp_path / "c.tfrecord", [assembly()])
    index = shards.index_path(shard)
    text = index.read_text()
    assert old in text
    index.write_text(text.replace(old, new))
    with pytest.raises(InputError, match="1cpx: the index .* which chains .*it is rebuilt"):
        RecordSet([tmp_path], Damage("raise"), DataConfig(max_chains=4))


def test_an_index_that_hides_a_complex(folder):
    shard = write_shard(folder / "b.tfrecord", [assembly((1, 1))])
    index = shards.index_path(shard)
    index.write_text(index.read_text().replace('"num_chains": 2', '"num_chains": 1'))
    with pytest.raises(InputError, match=r"b\.tfrecord: 1cpx: an assembly of 2 chains"):
        _set(folder).read(2)


def test_records_of_version_1():
    """Their index lines do not count chains."""
    records = _set(OLD_SHARD)
    assert records.chain_id == ["1old_A", "2old_B"]
    assert records.read(1)["msa"].shape == (22500, 12)


def test_index_of_another_shard(folder):
    """Records of equal lengths under a wrong index: names tell."""
    shard = write_shard(folder / "b.tfrecord", [chain(num_res=14, chain_id="1zzz_A", num_msa=5)])
    index = shards.index_path(shard)
    index.write_text(index.read_text().replace("1zzz_A", "1aac_A"))
    with pytest.raises(InputError, match="promises 1aac_A here, the record is 1zzz_A.*delete"):
        _set(folder).read(2)


def test_index_without_a_number_that_sampling_needs(folder):
    index = shards.index_path(folder / "b.tfrecord")
    entry = json.loads(index.read_text())
    del entry["cluster_size"]
    index.write_text(json.dumps(entry) + "\n")
    with pytest.raises(InputError, match="no cluster_size.*delete"):
        _set(folder)


@pytest.mark.parametrize("value", [1 << 40, "many", None])
def test_index_with_a_number_that_cannot_be(folder, value):
    index = shards.index_path(folder / "b.tfrecord")
    index.write_text(json.dumps({**json.loads(index.read_text()), "num_res": value}) + "\n")
    with pytest.raises(InputError, match="num_res, or none that can be.*delete"):
        _set(folder)
