"""The record codec: exactness, determinism, laziness, and what it refuses."""

import resource
import zlib

import numpy as np
import pytest
from synthetic import chain

from records import example
from records.errors import CorruptRecordError, InputError
from records.schema import RECORD_FEATURES, SCHEMA_VERSION


def assert_same(actual, expected):
    assert set(actual) == set(expected)
    for name, feature in RECORD_FEATURES.items():
        if feature.dtype == "str":
            assert actual[name] == expected[name], name
        else:
            assert np.asarray(actual[name]).dtype == feature.dtype, name
            np.testing.assert_array_equal(actual[name], expected[name], err_msg=name)


@pytest.mark.parametrize(
    "features",
    [
        chain(),
        chain(num_templates=0),
        chain(num_res=1, num_msa=1, num_templates=1),
        chain(resolution=np.float32(0.0), release_date="", cluster_size=np.int32(-1)),
    ],
)
def test_round_trip(features):
    assert_same(example.decode(example.encode(features)), features)


def test_same_features_same_bytes():
    features = chain()
    backwards = dict(reversed(features.items()))
    assert example.encode(features) == example.encode(backwards)


def test_only_the_wanted_hits_are_inflated():
    features = chain(num_templates=5)
    decoded = example.decode(example.encode(features), hits=[3, 0])
    assert decoded["template_domain_names"] == ["9xyz_3", "9xyz_0"]
    for name in ("template_aatype", "template_all_atom_positions", "template_sum_probs"):
        np.testing.assert_array_equal(decoded[name], features[name][[3, 0]])
    none = example.decode(example.encode(features), hits=[])
    assert none["template_all_atom_positions"].shape == (0, 40, 37, 3)
    assert none["template_domain_names"] == []


def test_omitted_features_are_left_out():
    decoded = example.decode(example.encode(chain()), omit=["msa", "deletion_matrix"])
    assert set(RECORD_FEATURES) - set(decoded) == {"msa", "deletion_matrix"}


def test_tensorflow_reads_it_as_an_ordinary_example():
    import tensorflow as tf

    features = chain()
    parsed = tf.train.Example.FromString(example.encode(features)).features.feature
    assert parsed["num_res"].int64_list.value == [40]
    assert parsed["chain_id"].bytes_list.value == [b"1abc_A"]
    assert parsed["resolution"].float_list.value == [pytest.approx(1.8)]
    inflated = tf.io.decode_compressed(parsed["msa"].bytes_list.value[0], "ZLIB")
    msa = tf.reshape(tf.io.decode_raw(inflated, tf.uint8), [30, 40])
    np.testing.assert_array_equal(msa, features["msa"])


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"aatype": np.full(40, 21)}, "aatype"),
        ({"msa": np.full((30, 40), 22)}, "msa"),
        ({"msa": np.zeros((30, 39), int)}, r"msa has shape \(30, 39\), expected \(30, 40\)"),
        ({"deletion_matrix": np.full((30, 40), 256)}, "deletion_matrix"),
        ({"all_atom_mask": np.full((40, 37), 0.5)}, "all_atom_mask must hold integers"),
        ({"all_atom_positions": np.full((40, 37, 3), np.nan)}, "not finite"),
        ({"template_domain_names": ["x"]}, "template_domain_names has 1 entries, expected 3"),
    ],
)
def test_wrong_features_are_named(change, words):
    with pytest.raises(InputError, match=words) as caught:
        example.encode(chain(**change))
    assert "1abc_A" in str(caught.value)


def test_missing_and_unknown_features_are_named():
    features = chain()
    del features["confidence"]
    with pytest.raises(InputError, match="missing features .'confidence'."):
        example.encode(features)
    with pytest.raises(InputError, match="unknown features .'plddt'."):
        example.encode({**chain(), "plddt": 1})


def _tampered(edit) -> bytes:
    message = example.Example.FromString(example.encode(chain()))
    edit(message.features.feature)
    return message.SerializeToString()


def test_older_schema_is_refused_with_the_mend():
    def older(stored):
        stored["schema_version"].int64_list.value[0] = SCHEMA_VERSION - 1

    with pytest.raises(InputError, match="schema version 0.*tffold-convert") as caught:
        example.decode(_tampered(older))
    assert not isinstance(caught.value, CorruptRecordError)


@pytest.mark.parametrize(
    ("edit", "words"),
    [
        (lambda stored: stored.pop("msa"), "msa is missing"),
        (lambda stored: stored.pop("schema_version"), "no schema_version"),
        (lambda stored: stored["msa"].bytes_list.value.__setitem__(0, b"??"), "does not inflate"),
        (lambda stored: stored["num_res"].int64_list.value.__setitem__(0, 41), "bytes, not"),
        (lambda stored: stored["template_aatype"].bytes_list.value.pop(), "incomplete"),
    ],
)
def test_damage_inside_a_record_is_named(edit, words):
    with pytest.raises(CorruptRecordError, match=words):
        example.decode(_tampered(edit))


def test_bytes_that_are_no_example():
    with pytest.raises(CorruptRecordError):
        example.decode(b"\xff\xff not a message")


def test_index_entry():
    features = chain(
        num_res=4, sequence="AAAG", aatype=np.array([0, 0, 0, 7]), confidence=[90, 80, 70, 60]
    )
    entry = example.index_entry(features)
    assert entry["max_residue_fraction"] == 0.75
    assert entry["mean_confidence"] == 75.0
    assert (entry["num_res"], entry["num_msa"], entry["num_templates"]) == (4, 30, 3)
    assert entry["resolution"] == pytest.approx(1.8)
    assert entry["release_date"] == "2010-02-03"


def _bomb(size):
    """``size`` MiB of zeros, packed without ever being there."""
    stream = zlib.compressobj()
    return b"".join([*(stream.compress(bytes(1 << 20)) for _ in range(size)), stream.flush()])


@pytest.mark.parametrize(("size", "words"), [(50, "holds more than 60000"), (1000, "packed")])
def test_a_bomb_takes_no_memory(size, words):
    """A short stream is stopped one byte after the end, a long one not begun."""
    message = example.Example.FromString(example.encode(chain(num_res=200, num_msa=300)))
    message.features.feature["msa"].bytes_list.value[0] = _bomb(size)
    serialized = message.SerializeToString()
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(CorruptRecordError, match=f"msa .*{words}"):
        example.decode(serialized)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 30 << 10


@pytest.mark.parametrize("dimension", ["num_res", "num_msa", "num_templates"])
@pytest.mark.parametrize("claimed", [-7, 1 << 32, 1 << 62])
def test_dimensions_that_cannot_be_are_refused(dimension, claimed):
    message = example.Example.FromString(example.encode(chain(num_templates=2)))
    message.features.feature[dimension].int64_list.value[0] = claimed
    with pytest.raises(CorruptRecordError):
        example.decode(message.SerializeToString())


def test_fuzzed_records_are_refused_or_whole():
    rng = np.random.default_rng(0)
    original = example.encode(chain(num_res=12, num_msa=7))
    refused = 0
    for _ in range(400):
        damaged = bytearray(original)
        for _ in range(rng.integers(1, 4)):
            damaged[rng.integers(len(damaged))] = rng.integers(256)
        try:
            features = example.decode(bytes(damaged))
        except InputError:
            refused += 1
        else:
            assert features["msa"].shape[1] == len(features["aatype"])
    assert refused > 200
