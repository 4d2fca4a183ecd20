"""The whole pipeline: contents, shapes, reproducibility, damage, inference."""

import dataclasses
import time

import numpy as np
import pytest
import tensorflow as tf
from synthetic import chain, write_shard

from records import chemistry, shards
from records.errors import InputError
from records.schema import TEMPLATE_FEATURES, batch_features
from tffold.config import DataConfig, FilterConfig
from tffold.data import pipeline
from tffold.data.recipe import Recipe
from tffold.data.targets import structure_labels

OPEN = FilterConfig(sample_by_length=False, sample_by_cluster=False)
PER_PASS = {"msa_feat", "bert_mask", "true_msa", "extra_msa", "extra_has_deletion"}
PER_PASS |= {"extra_deletion_value", "msa_mask", "msa_row_mask", "extra_msa_mask"}


def _chains():
    return [
        chain(num_res=40, num_msa=60, num_templates=6, chain_id="long_A"),
        chain(num_res=30, num_msa=60, num_templates=2, chain_id="mid_A"),
        chain(num_res=12, num_msa=9, num_templates=0, chain_id="short_A"),
        chain(num_res=25, num_msa=1, num_templates=1, chain_id="alone_A"),
    ]


@pytest.fixture(scope="module")
def shard(tmp_path_factory):
    return write_shard(tmp_path_factory.mktemp("shards") / "train.tfrecord", _chains())


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


def _batches(config, count, **arguments):
    arguments = {"num_recycle": 2, "batch_size": 4, "seed": 0, **arguments}
    dataset = pipeline.training_dataset(config, **arguments)
    return [{k: v.numpy() for k, v in batch.items()} for batch in dataset.take(count)]


def _reader(config):
    return pipeline.TrainingReader(config, num_recycle=2, global_batch_size=4, seed=0)


def _assert_same(first, second):
    assert set(first) == set(second)
    for name in first:
        np.testing.assert_array_equal(first[name], second[name], err_msg=name)


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
    chains = {features["chain_id"].encode(): features for features in _chains()}
    for example in _examples(batches):
        features = chains[example["chain_id"]]
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


def test_recycles_are_shared_by_the_batch_and_uniform(batches):
    drawn = [pipeline.draw_recycles(0, step, 3) for step in range(4000)]
    share = np.bincount(drawn, minlength=4) / 4000
    np.testing.assert_allclose(share, 0.25, atol=0.035)
    for step, batch in enumerate(batches):
        assert (batch["num_iter_recycling"] == pipeline.draw_recycles(0, step, 2)).all()


def _chosen(config, count, num_res=40):
    return [
        pipeline.training_choices(
            config,
            seed=0,
            position=position,
            num_res=num_res,
            num_hits=6,
            num_iter_recycling=0,
        )
        for position in range(count)
    ]


def test_clamp_flag_is_drawn_per_example_and_rules_the_crop(config):
    chosen = _chosen(config, 20_000)
    clamped = np.array([choices.clamped for choices in chosen])
    assert abs(clamped.mean() - 0.9) < 4.5 * np.sqrt(0.09 / 20_000)
    starts = np.array([choices.crop_start for choices in chosen])
    assert starts.max() == 20
    assert abs(starts[clamped].mean() - 10.0) < 0.2  # uniform over 0..20
    assert abs(starts[~clamped].mean() - 5.0) < 0.5  # half of a half


def test_same_batch_whatever_threads_and_restarts(config, batches):
    one = dataclasses.replace(config, num_parallel=1, prefetch=1)
    many = dataclasses.replace(config, num_parallel=8, prefetch=4)
    for again in (_batches(one, 3), _batches(many, 3)):
        for first, second in zip(batches[:3], again, strict=True):
            _assert_same(first, second)
    (resumed,) = _batches(config, 1, start_step=5)
    _assert_same(batches[5], resumed)
    (other,) = _batches(config, 1, seed=1)
    assert not np.array_equal(other["msa_feat"], batches[0]["msa_feat"])


def test_workers_share_out_the_same_global_batch(config, batches):
    parts = [_batches(config, 2, num_shards=2, shard_index=index) for index in range(2)]
    for step in range(2):
        whole = {
            name: np.concatenate([part[step][name] for part in parts]) for name in batches[step]
        }
        _assert_same(whole, batches[step])


def test_batch_must_divide_among_workers(config):
    with pytest.raises(InputError, match="batch of 4 does not divide among 3"):
        _batches(config, 1, num_shards=3)


def test_seeking_far_is_quick(config):
    reader = _reader(config)
    started = time.perf_counter()
    raw = reader.read(10_000_000)
    assert time.perf_counter() - started < 20
    _assert_same(raw, _reader(config).read(10_000_000))


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


@pytest.fixture
def damaged(tmp_path):
    path = write_shard(tmp_path / "bad.tfrecord", _chains()[:2])
    data = bytearray(path.read_bytes())
    data[shards.read_index(path)[1]["offset"] + 99] ^= 1
    path.write_bytes(data)
    return path


def test_damage_stops_training_naming_file_and_record(config, damaged):
    with pytest.raises(Exception, match=r"bad\.tfrecord: mid_A: checksum of the data fails"):
        _batches(dataclasses.replace(config, train=[str(damaged)]), 8)


def test_damage_is_skipped_and_counted(config, damaged):
    skipping = dataclasses.replace(config, train=[str(damaged)], on_corrupt="skip")
    reader = _reader(skipping)
    first = [reader.read(position) for position in range(30)]
    assert {raw["chain_id"].item() for raw in first} == {"long_A"}
    assert reader.damage.records == 1
    assert 5 < sum(reader.damage.count.values()) < 60
    # What stands in for a damaged record is fixed by seed and position too.
    for position in (29, 3):
        _assert_same(first[position], _reader(skipping).read(position))


def test_only_damage_is_an_error(config, damaged):
    skipping = dataclasses.replace(
        config,
        train=[str(damaged)],
        on_corrupt="skip",
        train_filter=dataclasses.replace(OPEN, max_length=35),
    )
    with pytest.raises(InputError, match="100 records in a row are damaged"):
        _reader(skipping).read(0)


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


def test_validation_takes_every_record_whole(config):
    elements = list(pipeline.validation_dataset(config, num_recycle=1))
    assert [e["chain_id"].numpy()[0] for e in elements] == [
        b"long_A",
        b"mid_A",
        b"short_A",
        b"alone_A",
    ]
    assert [e["aatype"].shape for e in elements] == [(1, 2, 48), (1, 2, 32), (1, 2, 16), (1, 2, 32)]
    assert [int(e["seq_length"][0, 0]) for e in elements] == [40, 30, 12, 25]
    assert [int(tf.reduce_sum(e["template_mask"][0, 0])) for e in elements] == [4, 2, 0, 1]
    # No row is deleted: 8 centres and 16 of the 52 others.
    assert tf.reduce_sum(elements[0]["extra_msa_mask"][0, 0, :, 0]) == 16
    assert (elements[0]["num_iter_recycling"] == 1).numpy().all()
    assert (elements[0]["use_clamped_fape"] == 1).numpy().all()
    again = list(pipeline.validation_dataset(config, num_recycle=1))
    for first, second in zip(elements, again, strict=True):
        _assert_same({k: v.numpy() for k, v in first.items()}, second)


def test_validation_takes_chosen_records_in_the_order_asked_for(config):
    whole = list(pipeline.validation_dataset(config, num_recycle=1))
    chosen = list(pipeline.validation_dataset(config, num_recycle=1, chosen=[3, 1]))
    assert len(chosen) == 2
    for place, element in zip((3, 1), chosen, strict=True):
        _assert_same({k: v.numpy() for k, v in whole[place].items()}, element)


def test_validation_in_batches_of_crops(config):
    dataset = pipeline.validation_dataset(config, num_recycle=0, batch_size=3, crop_size=20)
    shapes = [tuple(e["aatype"].shape) for e in dataset]
    assert shapes == [(3, 1, 20), (1, 1, 20)]
    with pytest.raises(InputError, match="one by one"):
        pipeline.validation_dataset(config, num_recycle=0, batch_size=3)


def test_validation_skips_damage(config, damaged):
    skipping = dataclasses.replace(config, validation=[str(damaged)], on_corrupt="skip")
    elements = list(pipeline.validation_dataset(skipping, num_recycle=0))
    assert [e["chain_id"].numpy()[0] for e in elements] == [b"long_A"]


@pytest.mark.parametrize(
    ("num_res", "size"), [(1, 16), (16, 16), (17, 32), (48, 48), (49, 96), (100, 144)]
)
def test_size_buckets(num_res, size):
    assert pipeline.padded_size(num_res, [32, 16, 48]) == size


def test_inference_example_needs_no_structure_and_no_templates(config):
    features = chain(num_res=30, num_msa=20, num_templates=6)
    full = pipeline.inference_example(features, config, num_recycle=1, labels=True)
    assert set(full) == set(batch_features())
    assert full["aatype"].shape == (2, 32) and full["template_mask"].sum() == 8
    # The best four, in order.
    np.testing.assert_array_equal(
        full["template_all_atom_positions"][0, :, :30],
        features["template_all_atom_positions"][:4],
    )
    bare = {
        name: value
        for name, value in features.items()
        if not name.startswith(("template", "all_atom", "confidence", "resolution", "is_dist"))
    }
    made = pipeline.inference_example(bare, config, num_recycle=1, pad_to=40)
    assert set(made) == set(batch_features(labels=False))
    assert made["aatype"].shape == (2, 40) and not made["template_mask"].any()
    np.testing.assert_array_equal(made["msa_feat"][:, :, :30], full["msa_feat"][:, :, :30])


def test_clusters_are_those_of_the_masked_centres_over_the_whole_chain(config):
    """Recomputed from what the batch shows: every extra row, masked centres, deletions."""
    everything = dataclasses.replace(config, max_extra_msa=64)
    features = chain(num_res=24, num_msa=50, seed=4)
    made = pipeline.inference_example(features, everything, num_recycle=1, pad_to=24)
    alignment = chemistry.MAP_HHBLITS_TO_RESTYPE[features["msa"]]
    for cycle in range(2):
        letters = made["msa_feat"][cycle, ..., :23].argmax(-1)
        assert (letters == 22).any()
        extra = made["extra_msa"][cycle][made["extra_msa_mask"][cycle, :, 0] > 0]
        true = made["true_msa"][cycle]
        assert len(extra) == 42 and len(true) == 8
        assert sorted(map(tuple, [*true, *extra])) == sorted(map(tuple, alignment))
        rows = {
            tuple(row): counts
            for row, counts in zip(alignment, features["deletion_matrix"], strict=True)
        }
        assert len(rows) == 50
        deletions = np.array([rows[tuple(row)] for row in extra], float)
        centre_deletions = np.array([rows[tuple(row)] for row in true], float)
        np.testing.assert_allclose(
            made["extra_deletion_value"][cycle, :42], np.arctan(deletions / 3) * 2 / np.pi, 1e-6
        )
        np.testing.assert_array_equal(made["extra_has_deletion"][cycle, :42], deletions > 0)
        agreement = ((extra[:, None] == letters) & (letters < 21)).sum(-1)
        np.testing.assert_array_equal(made["msa_feat"][cycle, ..., 23], centre_deletions > 0)
        one_hot = np.eye(23)
        profile, mean = one_hot[letters], centre_deletions.copy()
        for row, counts, centre in zip(extra, deletions, agreement.argmax(1), strict=True):
            profile[centre] += one_hot[row]
            mean[centre] += counts
        size = profile.sum(-1)
        np.testing.assert_allclose(
            made["msa_feat"][cycle, ..., 25:48], profile / size[..., None], atol=1e-5
        )
        np.testing.assert_allclose(
            made["msa_feat"][cycle, ..., 48], np.arctan(mean / size / 3) * 2 / np.pi, atol=1e-5
        )


def test_inference_without_masking(config):
    plain = dataclasses.replace(config, mask_msa_in_inference=False)
    made = pipeline.inference_example(chain(num_res=20), plain, num_recycle=0)
    assert not made["bert_mask"].any()
    np.testing.assert_array_equal(
        made["msa_feat"][0, :8, :20, :23].argmax(-1), made["true_msa"][0, :8, :20]
    )
    masked = pipeline.inference_example(chain(num_res=20), config, num_recycle=0)
    assert masked["bert_mask"].any()
