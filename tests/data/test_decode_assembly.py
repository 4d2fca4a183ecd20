"""Records of several chains read inside a graph: what NumPy reads, laid flat; damage is a value."""

from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from synthetic import assembly, chain, uniprot_rows, write_shard

from records import shards
from records.chains import Assembly
from records.schema import ENTITY, NUM_HITS
from tffold.config import DataConfig
from tffold.data import decode_assembly
from tffold.data.assemblies import AssemblyTable
from tffold.data.reader import Damage, RecordSet

OLD_SHARD = Path(__file__).parents[1] / "records" / "data" / "version1.tfrecord"


def _two_with_pairs():
    """Both entities have rows to pair."""
    made = assembly((1, 2, 2), chain_id="2cpx")
    made.entities[1].update(uniprot_rows(9, 13))
    return made


ASSEMBLIES = [
    assembly((1, 1, 2)),
    _two_with_pairs(),
    assembly((1,), chain_id="3cpx"),
    Assembly.of_chain(chain(num_res=15, num_templates=0, chain_id="1abc_A")),
]


def _table(*sources):
    return AssemblyTable([RecordSet(sources, Damage("raise"), DataConfig(max_chains=4))])


def _graph(table):
    """One graph for all reads: tracing it is what takes time."""
    hits = {"hits": tf.TensorSpec([None, 3], tf.int32), "num_hits": tf.TensorSpec([None], tf.int32)}
    signature = (tf.TensorSpec([], tf.int64), hits)
    return tf.function(table.read, input_signature=signature, autograph=False)


@pytest.fixture(scope="module")
def table(tmp_path_factory):
    return _table(write_shard(tmp_path_factory.mktemp("s") / "a.tfrecord", ASSEMBLIES))


def _expected(made, name, feature, hits):
    """A feature by definition: the entities' tables one after another."""
    if feature.per != ENTITY:
        return np.asarray(made.features[name])
    shape = [size or 0 for size in decode_assembly.flat_shape(feature)]
    tables = []
    for number, entity in enumerate(made.entities):
        value = np.asarray(entity.get(name, np.zeros(shape, feature.dtype)))
        if feature.axes(NUM_HITS):
            value = value[hits[number]]
        tables.append(value.reshape(-1, *shape[1:]))
    return np.concatenate(tables)


def _read(read, number, hits):
    padded = np.array([[*of, 0, 0, 0][:3] for of in hits], np.int32)
    counts = np.array([len(of) for of in hits], np.int32)
    hits = {"hits": tf.constant(padded), "num_hits": tf.constant(counts)}
    return read(tf.constant(number, tf.int64), hits)


@pytest.fixture(scope="module")
def read(table):
    return _graph(table)


@pytest.mark.parametrize(
    ("number", "hits"),
    [(0, [[0], [1, 0]]), (0, [[], []]), (1, [[], [1]]), (2, [[0]]), (3, [[]])],
)
def test_the_graph_reads_what_numpy_reads(read, number, hits):
    made = ASSEMBLIES[number]
    raw, ok = _read(read, number, hits)
    assert ok
    for name, feature in decode_assembly.stored(labels=True).items():
        assert raw[name].dtype == feature.dtype, name
        np.testing.assert_array_equal(raw[name], _expected(made, name, feature, hits), err_msg=name)
    assert raw["chain_entity"].numpy().tolist() == list(made.entity_id)
    rows = [len(entity.get("uniprot_msa", ())) for entity in made.entities]
    assert raw["entity_num_uniprot"].numpy().tolist() == rows


def test_monomers_of_before_are_assemblies_of_one_chain():
    read = _graph(_table(OLD_SHARD))
    records = RecordSet([OLD_SHARD], Damage("raise"))
    for number in range(2):
        hits = [[0]] if records.num_templates[number] else [[]]
        raw, ok = _read(read, number, hits)
        expected = records.read_assembly(number)
        assert ok and raw["chain_entity"].numpy().tolist() == [1]
        for name, feature in decode_assembly.stored(labels=True).items():
            flat = _expected(expected, name, feature, hits)
            np.testing.assert_array_equal(raw[name], flat, err_msg=name)


def test_arrays_of_several_streams(tmp_path):
    """Alignments of three and of one slabs, hits of two."""
    made = assembly((1, 2))
    large = chain(num_res=600, num_msa=900, num_templates=3)
    per_chain = ("residue_index", "all_atom_positions", "all_atom_mask", "confidence")
    coordinates = {
        name: np.concatenate([np.asarray(made.features[name])[:10], large[name]])
        for name in per_chain
    }
    entities = (made.entities[0], Assembly.of_chain(large).entities[0])
    made = Assembly({**made.features, **coordinates}, entities, (1, 2))
    table = _table(write_shard(tmp_path / "large.tfrecord", [made]))
    raw, ok = _read(table.read, 0, [[0], [2, 0]])
    assert ok
    for name, feature in decode_assembly.stored(labels=True).items():
        flat = _expected(made, name, feature, [[0], [2, 0]])
        np.testing.assert_array_equal(raw[name], flat, err_msg=name)


def test_what_the_index_does_not_promise_is_damage(table):
    entry = {**table._entry(tf.constant(0)), **table.layout(tf.constant(0))}
    entry |= {"hits": np.zeros([2, 1], np.int32), "num_hits": np.ones(2, np.int32)}
    changes = [
        ("chain_entity", np.array([1, 2, 2], np.int32)),
        ("entity_num_res", np.array([13, 10], np.int64)),
        ("entity_num_uniprot", np.array([0, 6], np.int64)),
        ("entity_num_templates", np.array([2, 1], np.int64)),
        ("entity_num_msa", np.array([5], np.int64)),
        ("chain_id", "2cpx"),
    ]
    tensors = {name: tf.convert_to_tensor(value) for name, value in entry.items()}
    signature = {name: tf.TensorSpec([None] * x.shape.rank, x.dtype) for name, x in tensors.items()}
    read = tf.function(decode_assembly.read_assembly, input_signature=[signature], autograph=False)
    assert read(tensors)[1]
    for name, value in changes:
        raw, ok = read({**tensors, name: tf.constant(value)})
        assert not ok and raw["msa"].shape == (0,), name


def test_a_flipped_bit_is_damage(tmp_path):
    shard = write_shard(tmp_path / "a.tfrecord", ASSEMBLIES[:1])
    data = bytearray(shard.read_bytes())
    data[shards.read_index(shard)[0]["offset"] + 99] ^= 1
    shard.write_bytes(data)
    _, ok = _read(_table(shard).read, 0, [[], []])
    assert not ok
