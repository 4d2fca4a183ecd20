"""Batches of complexes: what a residue of a crop carries, and that the seed decides all of it."""

import dataclasses

import numpy as np
import pytest
import tensorflow as tf
from pipelines import OPEN, assert_same
from synthetic import assembly, chain, uniprot_rows, write_shard

from records import chemistry, shards
from records.chains import Assembly
from records.errors import InputError
from records.schema import COMPLEX_FEATURES, LABEL, batch_features
from tffold.config import DataConfig
from tffold.data import assemblies, pipeline

CROP, CA = 20, chemistry.ATOM_ORDER["CA"]


def _complexes():
    paired = assembly((1, 1, 2))
    paired.entities[1].update(uniprot_rows(9, 13))
    return [paired, assembly((1, 2), chain_id="2cpx"), assembly((1,), chain_id="3cpx")]


def _monomers():
    return [
        chain(num_res=40, num_msa=30, num_templates=6, chain_id="long_A"),
        chain(num_res=15, num_msa=1, num_templates=0, chain_id="bare_A"),
    ]


@pytest.fixture(scope="module")
def truth():
    made = [*_complexes(), *map(Assembly.of_chain, _monomers())]
    return {str(one.features["chain_id"]): one for one in made}


@pytest.fixture(scope="module")
def config(tmp_path_factory):
    folder = tmp_path_factory.mktemp("shards")
    complexes = write_shard(folder / "complexes.tfrecord", _complexes())
    return DataConfig(
        train=[str(write_shard(folder / "monomers.tfrecord", _monomers()))],
        complexes=[str(complexes)],
        validation=[str(complexes)],
        train_filter=OPEN,
        complex_filter=OPEN,
        complex_probability=0.6,
        crop_size=CROP,
        max_msa_clusters=12,
        max_extra_msa=16,
        size_buckets=[16, 32, 48],
        max_chains=4,
        max_assembly_length=50,
        mask_msa_in_inference=False,
    )


def _batches(config, count, start_step=0, **kwargs):
    options = {"num_recycle": 1, "batch_size": 2, "seed": 3, **kwargs}
    dataset = pipeline.training_dataset(config, start_step=start_step, **options).take(count)
    return [{name: value.numpy() for name, value in batch.items()} for batch in dataset]


@pytest.fixture(scope="module")
def batches(config):
    return _batches(config, 20)


def _examples(batches):
    """Each example's name and features of the first pass."""
    for batch in batches:
        for number, name in enumerate(batch["chain_id"]):
            features = {key: x[number, 0] for key, x in batch.items() if key != "chain_id"}
            yield name.decode(), features


def test_a_batch_is_of_the_feature_table(config, batches):
    table = batch_features(complexes=True)
    sizes = {"num_res": CROP, "num_chains": 4, "num_assembly_res": 50, "num_templates_used": 4}
    sizes |= {"num_msa_seq": 8, "num_extra_seq": 16}
    for batch in batches[:2]:
        assert set(batch) == {*table, "chain_id"}
        for name, feature in table.items():
            assert batch[name].shape == (2, 2, *feature.sizes(sizes)), name
            assert batch[name].dtype == feature.dtype, name


def test_records_of_both_kinds_are_seen(truth, batches):
    assert {name for name, _ in _examples(batches)} == set(truth)


def test_a_residue_of_the_crop_is_one_of_its_chain(truth, batches):
    for name, found in _examples(batches):
        made = truth[name]
        count = int(found["seq_length"])
        total = sum(made.chain_sizes)
        assert count == min(CROP, total) and found["seq_mask"].sum() == count
        start = np.cumsum([0, *made.chain_sizes])
        places = start[found["asym_id"][:count] - 1] + found["residue_index"][:count]
        assert (np.diff(places) > 0).all()
        for ids, values in made.residue_chains().items():
            assert found[ids][:count].tolist() == values[places].tolist(), ids
            assert not found[ids][count:].any()
        aatype = np.concatenate([made.entities[e - 1]["aatype"] for e in made.entity_id])
        assert found["aatype"][:count].tolist() == aatype[places].tolist()
        assert (found["true_msa"][0, :count] == aatype[places]).all()
        for label in ("all_atom_positions", "all_atom_mask"):
            expected = np.asarray(made.features[label])[places]
            np.testing.assert_array_equal(found[label][:count], expected)


def test_the_truth_of_all_chains_is_whole(truth, batches):
    """As the chain permutation reads it: by chain and residue it has the crop's own labels."""
    for name, found in _examples(batches):
        made, count = truth[name], int(found["seq_length"])
        total, chains = sum(made.chain_sizes), len(made.entity_id)
        positions = np.asarray(made.features["all_atom_positions"])
        np.testing.assert_array_equal(found["assembly_atom_positions"][:total], positions)
        assert not found["assembly_atom_mask"][total:].any()
        assert found["assembly_chain_length"].tolist() == [*made.chain_sizes, *[0] * (4 - chains)]
        assert found["assembly_chain_entity"][:chains].tolist() == list(made.entity_id)
        index = found["assembly_chain_start"][found["asym_id"] - 1] + found["residue_index"]
        mask = found["assembly_atom_mask"][index[:count]]
        np.testing.assert_array_equal(mask, found["all_atom_mask"][:count])


def test_templates_lie_in_slots_of_each_chain(truth, batches):
    """Slot k of a chain holds one of its entity's hits, the same for all copies, or nothing."""
    slots = set()
    for name, found in _examples(batches):
        made, count = truth[name], int(found["seq_length"])
        entity, column = found["entity_id"][:count] - 1, found["residue_index"][:count]
        any_there = np.zeros(4)
        for number, of in enumerate(made.entities):
            here = entity == number
            hits = np.asarray(of["template_all_atom_positions"])[:, column[here]]
            seen = []
            for slot in range(4):
                atoms = found["template_all_atom_positions"][slot, :count][here]
                if not found["template_all_atom_masks"][slot, :count][here].any():
                    continue
                equal = [hit for hit, x in enumerate(hits) if np.array_equal(x, atoms)]
                assert len(equal) == 1
                aatype = np.asarray(of["template_aatype"])[equal[0], column[here]]
                assert found["template_aatype"][slot, :count][here].tolist() == aatype.tolist()
                seen.append(equal[0])
                any_there[slot] = 1
            assert len(set(seen)) == len(seen)
            slots.add(tuple(seen))
        assert (found["template_mask"] >= any_there).all()
    assert len(slots) > 5


def test_any_step_is_made_alike(config, batches):
    assert_same(_batches(config, 1, start_step=7)[0], batches[7])
    other = _batches(config, 1, seed=4)[0]
    assert any(not np.array_equal(other[name], batches[0][name]) for name in other)


def test_parts_of_a_batch(config, batches):
    (found,) = _batches(config, 1, start_step=5, num_shards=2, shard_index=1)
    assert_same(found, {name: x[1:] for name, x in batches[5].items()})


def test_assemblies_that_have_no_room_are_not_trained_on(config):
    small = dataclasses.replace(config, max_assembly_length=32)
    names = {name for name, _ in _examples(_batches(small, 12))}
    assert names == {"2cpx", "3cpx", "bare_A"}
    said = "none of the 3 complexes passes.*data.complex_filter.*data.max_assembly_length"
    with pytest.raises(InputError, match=said):
        pipeline.TrainingReader(
            dataclasses.replace(config, train=[], max_assembly_length=9),
            num_recycle=0,
            global_batch_size=1,
            seed=0,
        )


def test_damaged_complexes_are_replaced_by_complexes(config, tmp_path):
    path = write_shard(tmp_path / "bad.tfrecord", _complexes())
    data = bytearray(path.read_bytes())
    data[shards.read_index(path)[0]["offset"] + 99] ^= 1
    path.write_bytes(data)
    bad = dataclasses.replace(config, complexes=[str(path)], on_corrupt="skip")
    batches = _batches(bad, 12)
    found = {name for batch in batches for name in batch["chain_id"]}
    assert found == {b"2cpx", b"3cpx", b"long_A", b"bare_A"}
    damaged = {number for batch in batches for number in batch["damaged"].ravel()}
    assert damaged == {-1, 2}


def test_validation_is_whole_and_what_memory_gives(config, truth):
    """Sizes are those of the padded crop; and a record is the same as its assembly in memory."""
    dataset = pipeline.validation_dataset(config, num_recycle=0)
    for position, batch in enumerate(dataset):
        made = truth[batch["chain_id"].numpy()[0].decode()]
        found = {name: value[0].numpy() for name, value in batch.items() if name != "chain_id"}
        size = found["aatype"].shape[1]
        assert found["assembly_atom_mask"].shape == (1, size, 37)
        assert found["seq_length"] == sum(made.chain_sizes) <= size
        memory = pipeline.inference_example(made, config, num_recycle=0, labels=True)
        if position:  # rows are drawn by position, and memory has none but 0
            for features in (found, memory):
                for name in [n for n in features if n.startswith(("msa", "extra", "true", "bert"))]:
                    del features[name]
        assert_same(found, memory)


def test_prediction_needs_no_structure_no_templates_and_no_pairs(config):
    made = assembly((1, 2, 2))
    entities = tuple(
        {name: of[name] for name in ("aatype", "between_segment_residues", "msa")}
        | {"deletion_matrix": of["deletion_matrix"]}
        for of in made.entities
    )
    bare = Assembly({"residue_index": made.features["residue_index"]}, entities, made.entity_id)
    found = pipeline.inference_example(bare, config, num_recycle=0)
    labels = {name for name, f in COMPLEX_FEATURES.items() if f.group == LABEL}
    assert set(found) == set(batch_features(labels=False, complexes=True))
    assert not labels & set(found)
    assert not found["template_mask"].any() and found["seq_length"] == 36
    monomer = pipeline.inference_example(chain(num_res=15), config, num_recycle=0)
    assert monomer["asym_id"][0].tolist() == [1] * 15 + [0]
    with pytest.raises(InputError, match="an assembly of 3 chains, where one chain is read"):
        single = dataclasses.replace(config, max_chains=0)
        pipeline.inference_example(made, single, num_recycle=0)
    with pytest.raises(InputError, match="an assembly of 3 chains.*data.max_chains=2"):
        few = dataclasses.replace(config, max_chains=2)
        pipeline.inference_example(made, few, num_recycle=0, labels=True)


def test_templates_are_drawn_for_each_entity():
    """Of h hits 0 to min(h, max_templates) are taken, all different, among the best."""
    config = DataConfig(max_templates=4, template_top=6)
    run = tf.function(
        lambda position: assemblies.training_templates(
            config, tf.constant([3, 0, 9], tf.int64), seed=1, position=position
        )
    )
    counts = np.zeros((3, 5))
    for position in range(400):
        found = run(tf.constant(position, tf.int64))
        hits, number = found["hits"].numpy(), found["num_hits"].numpy()
        for entity, available in enumerate((3, 0, 6)):
            taken = hits[entity, : number[entity]]
            assert len(set(taken)) == len(taken) and (taken < available).all()
            counts[entity, number[entity]] += 1
    expected = np.array([[1, 1, 1, 1, 0], [4, 0, 0, 0, 0], [1, 1, 1, 1, 3]])
    expected = expected / expected.sum(1, keepdims=True)
    assert np.abs(counts / 400 - expected).max() < 4 * np.sqrt(0.25 / 400)
