"""Shards: framing that others read, atomic appearance, index, and damage."""

import json
import os
import struct
import subprocess
import sys
import uuid

import pytest
from synthetic import chain, data_of, write_shard

from records import example, paths, shards
from records.errors import CorruptRecordError, InputError


@pytest.fixture
def shard(tmp_path):
    chains = [chain(num_res=r, chain_id=f"{r}abc_A", num_templates=1) for r in (10, 12, 14)]
    return write_shard(tmp_path / "a.tfrecord", chains)


def test_an_independent_reader_reads_them(shard):
    """The ``tfrecord`` package, in a process of its own: it cannot live beside TensorFlow."""
    script = (
        "import sys, tfrecord.reader as r\n"
        "for item in r.tfrecord_loader(sys.argv[1], None, {'chain_id': 'byte', 'num_res': 'int'}):"
        "\n    print(bytes(item['chain_id']).decode(), int(item['num_res'][0]))"
    )
    run = subprocess.run(
        [sys.executable, "-c", script, str(shard)], capture_output=True, text=True, check=True
    )
    assert run.stdout.split("\n")[:3] == ["10abc_A 10", "12abc_A 12", "14abc_A 14"]


def test_tensorflow_reads_them(shard):
    import tensorflow as tf

    ours = data_of(shard)
    assert [item.numpy() for item in tf.data.TFRecordDataset(str(shard))] == ours


def test_index_finds_each_record(shard):
    entries = shards.read_index(shard)
    assert [entry["chain_id"] for entry in entries] == ["10abc_A", "12abc_A", "14abc_A"]
    for entry in reversed(entries):
        data = shards.read_record(shard, entry["offset"], entry["length"])
        assert example.decode(data)["chain_id"] == entry["chain_id"]


def test_a_shard_on_a_store_is_the_same(shard):
    """Written to a URL, found, indexed, read and walked there."""
    folder = f"memory://{uuid.uuid4().hex}/out"
    with shards.ShardWriter(f"{folder}/train/a.tfrecord") as writer:
        for entry, data in zip(shards.read_index(shard), data_of(shard), strict=True):
            assert not paths.exists(folder)
            writer.write(entry["chain_id"], data, entry)
    (place,) = shards.find_shards([folder])
    assert place == f"{folder}/train/a.tfrecord"
    assert shards.find_shards([f"{folder}/*/a*.tfrecord*"]) == [place]
    assert paths.read_bytes(place) == shard.read_bytes()
    assert shards.read_index(place) == shards.read_index(shard)
    assert list(shards.scan(place)) == list(shards.scan(shard))
    for entry in shards.read_index(place):
        at = entry["offset"], entry["length"]
        assert shards.read_record(place, *at) == shards.read_record(shard, *at)
    paths.remove(shards.index_path(place))
    assert shards.read_index(place) == shards.read_index(shard)
    with pytest.raises(InputError, match=f"^{folder}/none.*: no shards here"):
        shards.find_shards([f"{folder}/none*"])


def test_a_failed_shard_is_not_on_the_store(shard):
    place = f"memory://{uuid.uuid4().hex}/a.tfrecord"
    with pytest.raises(RuntimeError):
        with shards.ShardWriter(place) as writer:
            writer.write("1abc_A", data_of(shard)[0], {})
            raise RuntimeError
    assert not paths.exists(place)


def test_a_store_that_fails_does_not_cost_the_index(shard, monkeypatch):
    """The whole shard would be read for want of it."""
    place = f"memory://{uuid.uuid4().hex}/a.tfrecord"
    paths.upload(shard, place)

    def refuse(path):
        raise InputError("forbidden", file=path)

    info = paths.info
    monkeypatch.setattr(paths, "info", lambda p: refuse(p) if "index" in str(p) else info(p))
    with pytest.raises(InputError, match="index.jsonl: forbidden"):
        shards.read_index(place)


def test_missing_index_is_rebuilt_the_same(shard):
    stored = shards.read_index(shard)
    shards.index_path(shard).unlink()
    assert shards.read_index(shard) == stored


@pytest.mark.parametrize("stale", ["", "not json\n", "[1]\n", '{"offset": 0, "length": 7}\n'])
def test_stale_index_is_rebuilt(shard, stale):
    stored = shards.read_index(shard)
    shards.index_path(shard).write_text(stale)
    assert shards.read_index(shard) == stored


def test_nothing_appears_before_close(tmp_path):
    path = tmp_path / "b.tfrecord"
    writer = shards.ShardWriter(path)
    data, entry = example.encode(chain()), example.index_entry(chain())
    writer.write("1abc_A", data, entry)
    assert len(writer) == 1 and writer.size == len(data) + 16
    assert not path.exists() and not shards.index_path(path).exists()
    writer.close()
    assert path.exists() and shards.index_path(path).exists()
    assert sorted(os.listdir(tmp_path)) == ["b.tfrecord", "b.tfrecord.index.jsonl"]
    with pytest.raises(ValueError, match="closed"):
        writer.write("1abc_A", data, entry)


def test_an_exception_leaves_the_old_shard(shard):
    before = shard.read_bytes()
    with pytest.raises(RuntimeError), shards.ShardWriter(shard) as writer:
        writer.write("x", b"new", {})
        raise RuntimeError
    assert shard.read_bytes() == before
    assert len(list(shard.parent.iterdir())) == 2


def test_bit_flips_anywhere_are_noticed(shard):
    """Every byte of a record is covered: length, its checksum, data, its checksum."""
    entry = shards.read_index(shard)[1]
    original = shard.read_bytes()
    start, end = entry["offset"], entry["offset"] + entry["length"] + 16
    for place in [*range(start, start + 14), *range(start + 14, end, 97), end - 1]:
        damaged = bytearray(original)
        damaged[place] ^= 0x10
        shard.write_bytes(damaged)
        with pytest.raises(CorruptRecordError, match=r"a\.tfrecord.*checksum|a\.tfrecord.*ends"):
            shards.read_record(shard, entry["offset"], entry["length"])


def test_truncation_names_file_and_record(shard):
    entries = shards.read_index(shard)
    os.truncate(shard, entries[2]["offset"] + 20)
    assert shards.read_index(shard) == entries  # the index still knows what is missing
    shards.read_record(shard, entries[1]["offset"], entries[1]["length"])
    with pytest.raises(CorruptRecordError, match=r"a\.tfrecord: record at byte.*ends inside"):
        shards.read_record(shard, entries[2]["offset"], entries[2]["length"])


def test_rebuilding_over_damage_keeps_the_rest(shard):
    entries = shards.read_index(shard)
    shards.index_path(shard).unlink()
    damaged = bytearray(shard.read_bytes())
    damaged[entries[1]["offset"] + 40] ^= 1
    shard.write_bytes(damaged)
    rebuilt = shards.read_index(shard)
    assert [entry["chain_id"] for entry in rebuilt] == ["10abc_A", "record 1", "14abc_A"]
    assert "checksum" in rebuilt[1]["error"] and str(shard) in rebuilt[1]["error"]
    with pytest.raises(CorruptRecordError, match="record 1 at byte"):
        data_of(shard)


def test_a_file_that_is_no_shard(tmp_path):
    path = tmp_path / "x.tfrecord"
    path.write_bytes(b"this is a text file, not a TFRecord file at all")
    (entry,) = shards.read_index(path)
    assert "checksum of the length" in entry["error"]
    with pytest.raises(InputError, match="no such shard"):
        shards.read_index(tmp_path / "missing.tfrecord")


def test_find_shards(tmp_path, shard):
    nested = write_shard(tmp_path / "sub" / "b.tfrecord", [chain()])
    (tmp_path / ".c.tfrecord.1.partial").write_bytes(b"")
    assert shards.find_shards([tmp_path]) == [shard, nested]
    assert shards.find_shards([str(tmp_path / "*.tfrecord"), shard]) == [shard]
    assert shards.find_shards([str(tmp_path / "a.tfrecord*")]) == [shard]
    with pytest.raises(InputError, match="no shards here"):
        shards.find_shards([tmp_path / "nothing*"])


def test_index_lines_are_plain_json(shard):
    lines = shards.index_path(shard).read_text().splitlines()
    assert {"chain_id", "offset", "length", "num_res", "cluster_size", "resolution"} <= set(
        json.loads(lines[0])
    )


@pytest.mark.parametrize("claimed", [1 << 31, 1 << 44, (1 << 64) - 1])
def test_a_claim_beyond_the_file_takes_no_memory(tmp_path, claimed):
    """The length's checksum holds: only the size of the file, or the bound, tells."""
    path = tmp_path / "claims.tfrecord"
    length = struct.pack("<Q", claimed)
    path.write_bytes(length + struct.pack("<I", shards.masked_crc(length)) + bytes(100))
    ((_, _, error),) = shards.scan(path)
    assert "claims" in str(error)
    (entry,) = shards.read_index(path)
    assert "claims" in entry["error"]
    with pytest.raises(CorruptRecordError, match="claims|ends inside"):
        shards.read_record(path, 0, claimed)


@pytest.mark.parametrize(
    "change",
    [
        {"length": 1 << 40},
        {"length": -16},
        {"offset": -1},
        {"length": "1"},
        {"num_res": "x" * (10 << 20)},
    ],
)
def test_an_index_that_claims_too_much_is_not_believed(shard, change):
    index = shards.index_path(shard)
    before = shards.read_index(shard)
    lines = index.read_text().splitlines()
    lines[-1] = json.dumps({**json.loads(lines[-1]), **change})
    index.write_text("".join(line + "\n" for line in lines))
    assert shards.read_index(shard) == before
