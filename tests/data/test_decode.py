"""Records read inside a graph: the same as outside of it; damage of every kind is a value."""

import resource
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from synthetic import chain, write_shard

from records import example, shards, slabs
from records.errors import CorruptRecordError, InputError
from records.schema import NUM_MSA, NUM_RES
from tffold.data import decode
from tffold.data.reader import Damage, RecordSet


@pytest.fixture
def folder(tmp_path):
    write_shard(
        tmp_path / "a.tfrecord",
        [chain(num_res=10, chain_id="1aaa_A"), chain(num_res=12, num_msa=7, chain_id="1aab_A")],
    )
    write_shard(
        tmp_path / "b.tfrecord", [chain(num_res=14, num_templates=0, num_msa=5, chain_id="1aac_A")]
    )
    return tmp_path


@tf.function(autograph=False)
def _graph(entry):
    return decode.read_record(entry)


def _tensors(entry):
    return {name: tf.constant(value) for name, value in entry.items()}


def _read(entry):
    """One graph for all tests: tracing it is what takes time."""
    return _graph(_tensors(entry))


def _entry(shard, record, **changes):
    """What the index promises of a record, and that all of it is wanted."""
    place = shards.read_index(shard)[record]
    whole = {
        "shard": str(shard),
        "crop_start": np.int32(0),
        "crop_size": np.int32(place["num_res"]),
        "hits": np.arange(4, dtype=np.int32),
        "num_hits": np.int32(min(place["num_templates"], 4)),
    }
    columns = ("offset", "length", "num_res", "num_msa", "num_templates")
    whole |= {name: np.int64(place[name]) for name in columns}
    return {**whole, "chain_id": place["chain_id"], **changes}


@pytest.mark.parametrize(
    ("name", "record", "hits"), [("a", 0, [2, 0]), ("a", 1, [0, 1, 2]), ("b", 0, [])]
)
def test_the_graph_reads_what_numpy_reads(folder, name, record, hits):
    shard = folder / f"{name}.tfrecord"
    padded = np.array([*hits, 0, 0, 0, 0][:4], np.int32)
    window = {"crop_start": np.int32(3), "crop_size": np.int32(6)}
    entry = _entry(shard, record, hits=padded, num_hits=np.int32(len(hits)), **window)
    raw, ok = _read(entry)
    serialized = shards.read_record(shard, entry["offset"], entry["length"])
    expected = example.decode(serialized, hits=hits)
    assert ok and set(raw) == set(decode.stored(labels=True))
    for name, feature in decode.stored(labels=True).items():
        value = expected[name]
        if not feature.axes(NUM_MSA):
            for axis in feature.axes(NUM_RES):
                value = np.take(value, range(3, 9), axis)
        assert raw[name].dtype == feature.dtype
        np.testing.assert_array_equal(raw[name], value, err_msg=name)


OLD_SHARD = Path(__file__).parents[1] / "records" / "data" / "version1.tfrecord"


@pytest.mark.parametrize("record", [0, 1])
def test_records_of_before_are_read(record):
    entry = _entry(OLD_SHARD, record)
    raw, ok = _read(entry)
    serialized = shards.read_record(OLD_SHARD, entry["offset"], entry["length"])
    expected = example.decode(serialized, hits=range(entry["num_hits"]))
    assert ok
    for name in decode.stored(labels=True):
        np.testing.assert_array_equal(raw[name], expected[name], err_msg=name)


@pytest.mark.parametrize("at_once", [1 << 30, 0])
def test_arrays_of_several_streams(tmp_path, monkeypatch, at_once):
    """An alignment of three slabs, hits of two; inflated together, and one after another."""
    monkeypatch.setattr(decode, "_AT_ONCE", at_once)
    features = chain(num_res=600, num_msa=900, num_templates=3)
    shard = write_shard(tmp_path / "large.tfrecord", [features])
    assert slabs.num_slabs(600 * 900) == 3 and slabs.num_slabs(600 * 37 * 12) == 2
    hits = {"hits": np.array([2, 0, 0, 0], np.int32), "num_hits": np.int32(2)}
    raw, ok = decode.read_record(_tensors(_entry(shard, 0, **hits)))
    assert ok
    for name, feature in decode.stored(labels=True).items():
        value = np.asarray(features[name])
        value = value[[2, 0]] if feature.axes("num_templates") else value
        np.testing.assert_array_equal(raw[name], value, err_msg=name)


def test_a_slab_that_holds_too_much_is_refused(tmp_path, monkeypatch):
    """Together the streams hold what they should; one slab more than the other less."""
    features = chain(num_res=600, num_msa=900, num_templates=0)
    message = example.Example.FromString(example.encode(features))
    streams = message.features.feature["msa"].bytes_list.value
    first, second = (zlib.decompress(stream) for stream in streams[:2])
    streams[0], streams[1] = zlib.compress(first[:-1]), zlib.compress(first[-1:] + second)
    shard = tmp_path / "forged.tfrecord"
    with shards.ShardWriter(shard) as writer:
        writer.write("1abc_A", message.SerializeToString(), example.index_entry(features))
    for at_once in (1 << 30, 0):
        monkeypatch.setattr(decode, "_AT_ONCE", at_once)
        assert not decode.read_record(_tensors(_entry(shard, 0)))[1]


def test_without_labels(folder):
    entry = _entry(folder / "a.tfrecord", 0)
    raw, ok = decode.read_record(_tensors(entry), labels=False)
    assert ok and "all_atom_positions" not in raw and "template_all_atom_positions" in raw


def _damage(folder, kind):
    """Damages the second record of the first shard after its index was read."""
    path = folder / "a.tfrecord"
    first, second = shards.read_index(path)
    data = bytearray(path.read_bytes())
    if kind == "gone":
        path.unlink()
        return
    if kind == "cut":
        del data[second["offset"] + 200 :]
    elif kind == "length":
        data[second["offset"]] ^= 1
    elif kind == "body":
        data[second["offset"] + 300] ^= 1
    path.write_bytes(data)


@pytest.mark.parametrize("kind", ["gone", "cut", "length", "body"])
def test_damage_is_a_value(folder, kind):
    records = RecordSet([folder], Damage("raise"))
    first, second = (_entry(folder / "a.tfrecord", record) for record in range(2))
    assert _read(second)[1]
    _damage(folder, kind)
    raw, ok = _read(second)
    assert not ok and raw["aatype"].shape == (0,)
    assert bool(_read(first)[1]) == (kind != "gone")
    with pytest.raises(InputError, match=r"a\.tfrecord: 1aab_A"):
        records.report(1)


def _forge(path, claimed):
    data, start = bytearray(path.read_bytes()), shards.read_index(path)[1]["offset"]
    claim = struct.pack("<Q", claimed)
    data[start : start + 12] = claim + struct.pack("<I", shards.masked_crc(claim))
    path.write_bytes(data)


@pytest.mark.parametrize("claimed", [1 << 44, 7])
def test_a_forged_claim_is_found_when_the_shard_is_opened(folder, claimed):
    """The checksum holds; to read more than there is memory for would end the process."""
    _forge(folder / "a.tfrecord", claimed)
    with pytest.raises(
        InputError, match=rf"a\.tfrecord: 1aab_A: claims {claimed} bytes, the index"
    ):
        RecordSet([folder], Damage("raise"))
    skipping = Damage("skip")
    assert RecordSet([folder], skipping).chain_id == ["1aaa_A", "1aac_A"] and skipping.records == 1


def test_a_forged_claim_on_a_store_is_found_when_the_record_is_read(folder):
    """There it is not looked for when shards are opened; the shard's size is known instead."""
    path = folder / "a.tfrecord"
    far = {"shard_bytes": np.int64(path.stat().st_size)}
    assert all(_read(_entry(path, record, **far))[1] for record in range(2))
    for claimed in (1 << 60, 7):
        _forge(path, claimed)
        found = [bool(_read(_entry(path, record, **far))[1]) for record in range(2)]
        assert found == [True, False]


def _rewritten(folder, edit):
    """The first shard again, with one message edited and checksums that hold."""
    entries = shards.read_index(folder / "a.tfrecord")
    data = [shards.read_record(folder / "a.tfrecord", e["offset"], e["length"]) for e in entries]
    message = example.Example.FromString(data[1])
    edit(message.features.feature)
    with shards.ShardWriter(folder / "a.tfrecord") as writer:
        writer.write("1aaa_A", data[0], entries[0])
        writer.write("1aab_A", message.SerializeToString(), entries[1])


def _set(name, value):
    return lambda stored: stored[name].bytes_list.value.__setitem__(0, value)


EDITS = {
    "missing": lambda stored: stored.pop("msa"),
    "of a wrong kind": lambda stored: stored["msa"].int64_list.value.append(3),
    "not zlib": _set("msa", b"??"),
    "cut stream": _set("msa", zlib.compress(bytes(range(84)))[:-12]),
    "too short": _set("msa", zlib.compress(bytes(83))),
    "too long": _set("msa", zlib.compress(bytes(85))),
    "one hit too few": lambda stored: stored["template_aatype"].bytes_list.value.pop(),
    "another chain": _set("chain_id", b"9zzz_A"),
    "another version": lambda stored: stored["schema_version"].int64_list.value.__setitem__(0, 9),
    "another size": lambda stored: stored["num_res"].int64_list.value.__setitem__(0, 11),
    "claims much": lambda stored: stored["num_res"].int64_list.value.__setitem__(0, 1 << 40),
    "claims less than nothing": lambda stored: stored["num_msa"].int64_list.value.__setitem__(
        0, -7
    ),
}


@pytest.mark.parametrize("edit", EDITS.values(), ids=EDITS)
def test_what_no_checksum_finds_is_found(folder, edit):
    _rewritten(folder, edit)
    assert not _read(_entry(folder / "a.tfrecord", 1))[1]
    assert _read(_entry(folder / "a.tfrecord", 0))[1]
    with pytest.raises(InputError):
        RecordSet([folder], Damage("raise")).report(1)


def _bomb(size):
    """``size`` MiB of zeros, packed without ever being there."""
    stream = zlib.compressobj()
    return b"".join([*(stream.compress(bytes(1 << 20)) for _ in range(size)), stream.flush()])


def test_a_bomb_takes_no_memory(folder):
    """200 MiB of zeros as the 84 bytes of an alignment: refused by its length, here and there."""
    _rewritten(folder, _set("msa", _bomb(200)))
    entry = _entry(folder / "a.tfrecord", 1)
    assert _read(_entry(folder / "a.tfrecord", 0))[1]
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    assert not _read(entry)[1]
    with pytest.raises(InputError, match="1aab_A.*packed"):
        RecordSet([folder], Damage("raise")).report(1)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 30 << 10


def test_a_long_stream_takes_no_memory_either(monkeypatch):
    """One stream of any length for an array (version 1): inflated part by part, up to the bound."""
    monkeypatch.setattr(decode, "_AT_ONCE", 0)
    monkeypatch.setattr(decode, "_PART", 1 << 10)
    inflate, inflated = tf.io.decode_compressed, []

    def watched(*arguments):
        inflated.append(inflate(*arguments))
        return inflated[-1]

    monkeypatch.setattr(tf.io, "decode_compressed", watched)
    size, bomb = 60_000, _bomb(50)
    data = np.random.default_rng(0).integers(0, 256, size, np.uint8)
    packed = zlib.compress(data.tobytes())
    assert len(bomb) < len(packed) <= slabs.longest_stream(size)

    def unpack(stream):
        one = tf.constant([1], tf.int64)
        return decode.inflate(tf.constant([stream]), size * one, one, slabs.MAX_BYTES * one[0])

    np.testing.assert_array_equal(unpack(packed), data)
    with pytest.raises(tf.errors.InvalidArgumentError):
        unpack(bomb)
    assert max(tf.strings.length(x).numpy().max() for x in inflated) < size + 1032 * (1 << 10)


def test_numpy_inflates_no_more_than_wanted():
    """A stream that is short enough to be real: stopped one byte after the end."""
    features = chain(num_res=200, num_msa=300)
    message = example.Example.FromString(example.encode(features))
    bomb = _bomb(50)
    assert len(bomb) < slabs.longest_stream(300 * 200)
    message.features.feature["msa"].bytes_list.value[0] = bomb
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(CorruptRecordError, match="msa holds more than 60000 bytes"):
        example.decode(message.SerializeToString())
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 30 << 10


def test_fuzz(folder):
    """Random bytes over random places, checksums made good again: never anything but a value."""
    rng = np.random.default_rng(0)
    path = folder / "a.tfrecord"
    entry = _entry(path, 1)
    original = path.read_bytes()
    start, stop = entry["offset"] + 12, entry["offset"] + 12 + entry["length"]
    refused = 0
    for _ in range(60):
        body = bytearray(original[start:stop])
        for _ in range(rng.integers(1, 4)):
            body[rng.integers(len(body))] = rng.integers(256)
        path.write_bytes(original[: entry["offset"]] + shards.frame(bytes(body)))
        raw, ok = _read(entry)
        refused += not ok
        if ok:
            assert raw["msa"].shape == (7, 12) and raw["aatype"].shape == (12,)
    assert refused > 30
