"""The training pipeline: contents, shapes, reproducibility, damage."""

import dataclasses

import numpy as np
import pytest
import tensorflow as tf
from pipelines import OPEN, PYTHON, assert_same, chains, operations_of
from synthetic import chain, write_shard

from records import chemistry
from records.errors import InputError
from records.schema import TEMPLATE_FEATURES, batch_features
from tffold.config import DataConfig, FilterConfig
from tffold.data import pipeline
from tffold.data.choices import draw_recycles
from tffold.data.recipe import Recipe
from tffold.data.targets import structure_labels

PER_PASS = {"msa_feat", "bert_mask", "true_msa", "extra_msa", "extra_has_deletion"}
PER_PASS |= {"extra_deletion_value", "msa_mask", "msa_row_mask", "extra_msa_mask"}


def _batches(config, count, **arguments):
    arguments = {"num_recycle": 2, "batch_size": 4, "seed": 0, **arguments}
    dataset = pipeline.training_dataset(config, **arguments)
    return [{k: v.numpy() for k, v in batch.items()} for batch in dataset.take(count)]


@pytest.mark.parametrize("on_corrupt", ["raise", "skip"])
def test_no_operation_calls_python(config, on_corrupt):
    config = dataclasses.replace(config, on_corrupt=on_corrupt)
    training = pipeline.training_dataset(config, num_recycle=1, batch_size=2, seed=0)
    for dataset in (training, pipeline.validation_dataset(config, num_recycle=1)):
        operations = operations_of(dataset)
        assert {"TFRecordDatasetV2", "DecodeCompressed", "ParallelMapDatasetV2"} <= operations
        assert not PYTHON & operations
    called = training.map(lambda x: tf.numpy_function(np.abs, [x["aatype"]], tf.int32))
    assert PYTHON & operations_of(called)


@pytest.fixture(scope="module")
def batches(config):
    return _batches(config, 6)


def _examples(batches):
    for batch in batches:
        for place in range(len(batch["chain_id"])):
            yield {name: value[place] for name, value in batch.items()}


def test_every_feature_of_the_table_is_there(batches):
    sizes = {"num_res": 20, "num_msa_seq": 8, "num_extra_seq": 16, "num_templates_used": 4}
    table = batch_features()
    assert set(batches[0]) == set(table) | {"chain_id"}
    for batch in batches:
        for name, feature in table.items():
            assert batch[name].dtype == feature.dtype, name
            assert batch[name].shape == (4, 3, *feature.sizes(sizes)), name


def test_shapes_are_static_at_full_size(shard):
    config = DataConfig(
        train=[str(shard)],
        train_filter=OPEN,
        crop_size=779,
        max_msa_clusters=512,
        max_extra_msa=5120,
    )
    spec = pipeline.training_dataset(config, num_recycle=3, batch_size=1, seed=0).element_spec
    for name, shape in {
        "aatype": (4, 779),
        "msa_feat": (4, 508, 779, 49),
        "extra_msa": (4, 5120, 779),
        "template_all_atom_positions": (4, 4, 779, 37, 3),
        "atom14_atom_exists": (4, 779, 14),
        "seq_length": (4,),
        "template_mask": (4, 4),
    }.items():
        assert spec[name].shape == (1, *shape), name


def test_nothing_but_zeros_on_padding(batches):
    seen = set()
    table = batch_features()
    for example in _examples(batches):
        length = example["seq_length"][0]
        seen.add(int(length))
        outside = {
            "num_res": example["seq_mask"][0] == 0,
            "num_msa_seq": None,
            "num_extra_seq": None,
            "num_templates_used": example["template_mask"][0] == 0,
        }
        assert example["seq_mask"][0].sum() == length
        for name, feature in table.items():
            for cycle in range(3):
                value = example[name][cycle]
                outside["num_msa_seq"] = example["msa_row_mask"][cycle] == 0
                outside["num_extra_seq"] = example["extra_msa_mask"][cycle, :, 0] == 0
                for axis, size in enumerate(feature.shape):
                    if size in outside:
                        padding = np.compress(outside[size], value, axis=axis)
                        assert not padding.any(), (name, size)
    assert seen == {12, 20}


def test_crop_and_templates_are_shared_but_not_the_alignment(batches):
    shared = [name for name in batch_features() if name not in PER_PASS]
    different = 0
    for example in _examples(batches):
        for name in shared:
            for cycle in (1, 2):
                np.testing.assert_array_equal(example[name][cycle], example[name][0])
        for name in PER_PASS:
            different += not np.array_equal(example[name][1], example[name][0])
        if example["chain_id"] == b"long_A":
            assert not np.array_equal(example["msa_feat"][1], example["msa_feat"][0])
            assert not np.array_equal(example["true_msa"][1], example["true_msa"][0])
    assert different > 50


def test_features_belong_to_the_record(batches):
    """Residues, rows, templates and atoms are those of the chain at the crop."""
    by_name = {features["chain_id"].encode(): features for features in chains()}
    for example in _examples(batches):
        features = by_name[example["chain_id"]]
        index = example["residue_index"][0][example["seq_mask"][0] > 0]
        start, size = index[0], len(index)
        np.testing.assert_array_equal(index, np.arange(start, start + size))
        window = slice(start, start + size)
        np.testing.assert_array_equal(example["aatype"][0][:size], features["aatype"][window])
        np.testing.assert_array_equal(
            example["all_atom_positions"][0][:size], features["all_atom_positions"][window]
        )
        # The query is the first centre of every pass.
        np.testing.assert_array_equal(
            example["true_msa"][:, 0, :size], np.tile(features["aatype"][window], (3, 1))
        )
        alignment = chemistry.MAP_HHBLITS_TO_RESTYPE[features["msa"]][:, window]
        rows = {tuple(row) for row in alignment.tolist()}
        for cycle in range(3):
            centres = example["true_msa"][cycle][example["msa_row_mask"][cycle] > 0][:, :size]
            extra = example["extra_msa"][cycle][example["extra_msa_mask"][cycle, :, 0] > 0]
            assert all(tuple(row) in rows for row in centres.tolist())
            assert all(tuple(row) in rows for row in extra[:, :size].tolist())
            assert len(centres) + len(extra) <= len(alignment)
        count = int(example["template_mask"][0].sum())
        assert count <= min(4, len(features["template_sum_probs"]))
        for place in range(count):
            used = example["template_all_atom_positions"][0, place, :size]
            stored = features["template_all_atom_positions"][:, window]
            assert sum(np.array_equal(used, hit) for hit in stored) == 1
        labels = structure_labels(
            tf.constant(features["aatype"][window], tf.int32),
            tf.constant(features["all_atom_positions"][window]),
            tf.constant(features["all_atom_mask"][window], tf.float32),
        )
        for name, value in labels.items():
            # Torsions of the scrambled atoms are ill-conditioned: compare loosely.
            np.testing.assert_allclose(example[name][0][:size], value, atol=2e-3, err_msg=name)


def test_masked_cells_and_features_agree(batches):
    for example in _examples(batches):
        real = (example["msa_mask"] > 0)[..., None]
        one_hot, profile = example["msa_feat"][..., :23], example["msa_feat"][..., 25:48]
        np.testing.assert_array_equal(one_hot.sum(-1, keepdims=True), real)
        np.testing.assert_allclose(profile.sum(-1), example["msa_mask"], atol=1e-5)
        unchanged = (example["bert_mask"] == 0) & (example["msa_mask"] > 0)
        letters = one_hot.argmax(-1)
        np.testing.assert_array_equal(letters[unchanged], example["true_msa"][unchanged])
        assert (letters[example["bert_mask"] == 1] == 22).any() or real.sum() < 60


def test_recycles_are_shared_by_the_batch(batches):
    drawn = draw_recycles(0, tf.range(len(batches), dtype=tf.int64), 2).numpy()
    assert len(set(drawn)) > 1
    for recycles, batch in zip(drawn, batches, strict=True):
        assert (batch["num_iter_recycling"] == recycles).all()


def test_same_batch_whatever_threads_and_restarts(config, batches):
    one = dataclasses.replace(config, num_parallel=1, prefetch=1)
    many = dataclasses.replace(config, num_parallel=8, prefetch=4)
    for again in (_batches(one, 3), _batches(many, 3)):
        for first, second in zip(batches[:3], again, strict=True):
            assert_same(first, second)
    (resumed,) = _batches(config, 1, start_step=5)
    assert_same(batches[5], resumed)
    (other,) = _batches(config, 1, seed=1)
    assert not np.array_equal(other["msa_feat"], batches[0]["msa_feat"])


def test_workers_share_out_the_same_global_batch(config, batches):
    parts = [_batches(config, 2, num_shards=2, shard_index=index) for index in range(2)]
    for step in range(2):
        whole = {
            name: np.concatenate([part[step][name] for part in parts]) for name in batches[step]
        }
        assert_same(whole, batches[step])


def test_batch_must_divide_among_workers(config):
    with pytest.raises(InputError, match="batch of 4 does not divide among 3"):
        _batches(config, 1, num_shards=3)


def test_a_far_step_is_that_of_a_run_that_got_there(config):
    """Over the end of a block of draws, with one epoch in three left out."""
    half = dataclasses.replace(config, train_filter=FilterConfig(sample_by_cluster=False))
    step = 65_536 // 4 - 1
    through = _batches(half, 3, start_step=step)
    for place, batch in enumerate(through):
        (alone,) = _batches(half, 1, start_step=step + place)
        assert_same(batch, alone)


def test_without_templates(config):
    without = dataclasses.replace(config, max_templates=0)
    (batch,) = _batches(without, 1)
    assert not set(TEMPLATE_FEATURES) & set(batch)
    # All N_seq rows are cluster centres then.
    assert batch["msa_feat"].shape == (4, 3, 12, 20, 49)
    kept = dataclasses.replace(config, reduce_msa_clusters_by_max_templates=False)
    assert Recipe.training(kept, 0).num_centres == 12
    assert Recipe.training(config, 0).num_centres == 8


def test_no_rows_left_for_clusters(config):
    with pytest.raises(InputError, match="data.max_msa_clusters"):
        _batches(dataclasses.replace(config, max_msa_clusters=4), 1)


def test_no_shards():
    with pytest.raises(InputError, match="no training shards"):
        _batches(DataConfig(), 1)


def test_damage_stops_training_naming_file_and_record(config, damaged):
    bad = dataclasses.replace(config, train=[str(damaged)])
    with pytest.raises(tf.errors.InvalidArgumentError, match=r"InputError: .*bad\.tfrecord: mid_A"):
        _batches(bad, 8)


def test_damage_is_skipped_and_reported(config, damaged, caplog):
    skipping = dataclasses.replace(config, train=[str(damaged)], on_corrupt="skip")
    reader = pipeline.TrainingReader(skipping, num_recycle=2, global_batch_size=4, seed=0)
    first = _batches(skipping, 8, reader=reader)
    assert {name for batch in first for name in batch["chain_id"]} == {b"long_A"}
    for batch in first:
        reader.report(batch["damaged"])
    assert reader.damage.records == 1 and sum(reader.damage.count.values()) > 1
    assert "bad.tfrecord: mid_A: checksum of the data fails" in caplog.text
    assert len(caplog.records) == 1
    assert {number for batch in first for number in batch["damaged"].ravel()} == {-1, 1}
    # What stands in for a damaged record is fixed by seed and position too.
    for step in (7, 2):
        assert_same(_batches(skipping, 1, start_step=step)[0], first[step])


def test_only_damage_is_an_error(config, damaged):
    skipping = dataclasses.replace(
        config,
        train=[str(damaged)],
        on_corrupt="skip",
        train_filter=dataclasses.replace(OPEN, max_length=35),
    )
    with pytest.raises(Exception, match="InputError: 100 records in a row are damaged"):
        _batches(skipping, 1)


def test_distillation_mix_and_masking(config, tmp_path):
    predicted = chain(
        num_res=40,
        num_msa=60,
        chain_id="af_A",
        is_distillation=1,
        resolution=np.float32(0.0),
        confidence=np.where(np.arange(40) % 2, 90.0, 40.0).astype(np.float32),
    )
    write_shard(tmp_path / "d.tfrecord", [predicted])
    both = dataclasses.replace(
        config,
        distillation=[str(tmp_path)],
        distillation_filter=OPEN,
        distillation_probability=0.5,
        distillation_max_msa=7,
    )
    seen = set()
    for example in _examples(_batches(both, 5)):
        is_predicted = example["chain_id"] == b"af_A"
        seen.add(is_predicted)
        if is_predicted:
            assert (example["resolution"] == 0).all()
            odd = example["residue_index"][0] % 2 == 1
            assert not example["all_atom_mask"][0][~odd].any()
            assert example["all_atom_mask"][0][odd].any()
            rows = example["msa_row_mask"].sum(-1) + example["extra_msa_mask"][..., 0].sum(-1)
            assert (rows <= 7).all()
    assert seen == {True, False}
