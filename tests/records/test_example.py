"""The record codec: exactness, determinism, laziness, and what it refuses."""

import resource
import zlib
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from synthetic import assembly, chain, data_of, uniprot_rows

from records import example
from records.errors import CorruptRecordError, InputError
from records.schema import RECORD_FEATURES, SCHEMA_VERSION

OLD_SHARD = Path(__file__).parent / "data" / "version1.tfrecord"


def assert_same(actual, expected):
    assert set(actual) == set(expected)
    for name, feature in RECORD_FEATURES.items():
        if name not in expected:
            continue
        if feature.dtype == "str":
            assert actual[name] == expected[name], name
        else:
            assert np.asarray(actual[name]).dtype == feature.dtype, name
            np.testing.assert_array_equal(actual[name], expected[name], err_msg=name)


def nothing_to_pair(features):
    """What stands for the absent rows."""
    num_res = len(features["aatype"])
    return {
        "uniprot_msa": np.zeros((0, num_res), np.uint8),
        "uniprot_deletion_matrix": np.zeros((0, num_res), np.uint8),
        "uniprot_species": np.zeros(0, np.int64),
    }


@pytest.mark.parametrize(
    "features",
    [
        chain(),
        chain(num_res=60, num_msa=9000),  # alignments of three slabs
        chain(**uniprot_rows(5, 40)),
        chain(num_templates=0),
        chain(num_res=1, num_msa=1, num_templates=1),
        chain(resolution=np.float32(0.0), release_date="", cluster_size=np.int32(-1)),
    ],
)
def test_round_trip(features):
    assert_same(example.decode(example.encode(features)), {**nothing_to_pair(features), **features})


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


def _both(stored, num_res):
    for name in ("num_res", "entity_num_res"):
        stored[name].int64_list.value[0] = num_res


def _tampered(edit) -> bytes:
    message = example.Example.FromString(example.encode(chain()))
    edit(message.features.feature)
    return message.SerializeToString()


@pytest.mark.parametrize(
    ("version", "words"), [(0, "0.*tffold-convert"), (SCHEMA_VERSION + 1, "3.*a newer one")]
)
def test_another_schema_is_refused_with_the_mend(version, words):
    def changed(stored):
        stored["schema_version"].int64_list.value[0] = version

    with pytest.raises(InputError, match=f"schema version {words}") as caught:
        example.decode(_tampered(changed))
    assert not isinstance(caught.value, CorruptRecordError)


def test_version_1_is_read_as_monomers():
    """Written by the program of that time; what it wrote can be made again."""
    small = chain(num_res=12, num_msa=9, num_templates=2, chain_id="1old_A")
    deep = chain(num_res=12, num_msa=9, num_templates=0, chain_id="2old_B")
    # One stream of more bytes than a slab has.
    deep |= {name: np.tile(deep[name], (2500, 1)) for name in ("msa", "deletion_matrix")}
    data = data_of(OLD_SHARD)
    for serialized, features in zip(data, (small, deep), strict=True):
        absent = {**nothing_to_pair(features), "chain_names": [""]}
        assert_same(example.decode(serialized), {**features, **absent})
        found = example.decode_assembly(serialized)
        assert found.entity_id == (1,) and found.version == 1
    hits = example.decode(data[0], hits=[1])
    np.testing.assert_array_equal(hits["template_aatype"], small["template_aatype"][[1]])


def test_a_feature_of_a_later_program_is_passed_over():
    def add(stored):
        stored["later"].bytes_list.value.append(b"whatever it is")

    assert_same(example.decode(_tampered(add)), example.decode(example.encode(chain())))


@pytest.mark.parametrize("entity_id", [(1,), (1, 1), (1, 2), (1, 1, 2), (1, 2, 2, 3)])
def test_assembly_round_trip(entity_id):
    features = assembly(entity_id)
    serialized = example.encode(features)
    decoded = example.decode_assembly(serialized)
    assert decoded.entity_id == entity_id
    absent = [{}] + [nothing_to_pair(entity) for entity in features.entities[1:]]
    assert_same(decoded.features, features.features)
    for found, nothing, entity in zip(decoded.entities, absent, features.entities, strict=True):
        assert_same(found, {**nothing, **entity})
    assert example.encode(decoded) == serialized
    sizes = [7 + 3 * entity for entity in entity_id]
    assert len(decoded.features["all_atom_mask"]) == sum(sizes)


def test_copies_share_what_belongs_to_their_sequence():
    one, four = (len(example.encode(assembly(ids))) for ids in ((1,), (1, 1, 1, 1)))
    coordinates = 3 * 10 * 37 * 4 * 3
    assert four - one < coordinates


def test_hits_are_chosen_for_each_entity():
    features = assembly((1, 2, 3))
    decoded = example.decode_assembly(example.encode(features), hits=[[], [1], [2, 0]])
    assert [len(entity["template_aatype"]) for entity in decoded.entities] == [0, 1, 2]
    for name in ("template_all_atom_positions", "template_sum_probs"):
        np.testing.assert_array_equal(decoded.entities[2][name], features.entities[2][name][[2, 0]])
    assert decoded.entities[1]["template_domain_names"] == ["9xyz_1"]


def test_a_complex_is_no_chain():
    with pytest.raises(InputError, match="1cpx: an assembly of 3 chains, where one chain"):
        example.decode(example.encode(assembly()))


@pytest.mark.parametrize("entity_id", [(), (2, 1), (1, 2, 1), (1, 3), (0, 1), (1,)])
def test_chains_out_of_order_are_refused(entity_id):
    features = assembly((1, 2))
    with pytest.raises(InputError, match="1cpx: 2 entities, of which the chains"):
        example.encode(replace(features, entity_id=entity_id))


@pytest.mark.parametrize(
    ("edit", "words"),
    [
        (lambda stored: stored.pop("msa"), "msa is missing"),
        (lambda stored: stored.pop("schema_version"), "no schema_version"),
        (lambda stored: stored["msa"].bytes_list.value.__setitem__(0, b"??"), "does not inflate"),
        (lambda stored: stored["num_res"].int64_list.value.__setitem__(0, 41), "incomplete"),
        (lambda stored: _both(stored, 41), "bytes, not"),
        (lambda stored: stored["msa"].bytes_list.value.append(b""), "2 of msa, not 1"),
        (lambda stored: stored["num_chains"].int64_list.value.__setitem__(0, 2), "incomplete"),
        (lambda stored: stored["entity_id"].int64_list.value.append(1), "incomplete"),
        (lambda stored: stored["entity_num_msa"].int64_list.value.append(1), "incomplete"),
        (lambda stored: stored["entity_num_uniprot"].int64_list.value.__setitem__(0, 9), "uniprot"),
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


def test_index_entry_of_a_complex():
    entry = example.index_entry(assembly((1, 1, 2)))
    assert (entry["num_res"], entry["num_msa"], entry["num_templates"]) == (33, 5 + 6, 3)
    assert (entry["num_chains"], entry["entity_id"]) == (3, [1, 1, 2])
    assert entry["chain_names"] == ["A", "B", "C"]
    assert entry["entity_num_res"] == [10, 13] and entry["entity_num_uniprot"] == [6, 0]


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
    for name in (dimension, f"entity_{dimension}"):
        message.features.feature[name].int64_list.value[0] = claimed
    with pytest.raises(CorruptRecordError):
        example.decode(message.SerializeToString())


def test_fuzzed_records_are_refused_or_whole():
    rng = np.random.default_rng(0)
    original = example.encode(assembly((1, 1, 2)))
    refused = 0
    for _ in range(400):
        damaged = bytearray(original)
        for _ in range(rng.integers(1, 4)):
            damaged[rng.integers(len(damaged))] = rng.integers(256)
        try:
            found = example.decode_assembly(bytes(damaged))
        except InputError:
            refused += 1
        else:
            assert len(found.features["all_atom_mask"]) == sum(found.chain_sizes)
    assert refused > 200
