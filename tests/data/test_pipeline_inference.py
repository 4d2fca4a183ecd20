"""The pipeline for whole chains: validation and prediction."""

import dataclasses

import numpy as np
import pytest
import tensorflow as tf
from pipelines import assert_same
from synthetic import chain

from records import chemistry
from records.errors import InputError
from records.schema import batch_features
from tffold.data import pipeline


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
        assert_same({k: v.numpy() for k, v in first.items()}, second)


def test_validation_takes_chosen_records_in_the_order_asked_for(config):
    whole = list(pipeline.validation_dataset(config, num_recycle=1))
    chosen = list(pipeline.validation_dataset(config, num_recycle=1, chosen=[3, 1]))
    assert len(chosen) == 2
    for place, element in zip((3, 1), chosen, strict=True):
        assert_same({k: v.numpy() for k, v in whole[place].items()}, element)


def test_validation_in_batches_of_crops(config):
    dataset = pipeline.validation_dataset(config, num_recycle=0, batch_size=3, crop_size=20)
    shapes = [tuple(e["aatype"].shape) for e in dataset]
    assert shapes == [(3, 1, 20), (1, 1, 20)]
    with pytest.raises(InputError, match="one by one"):
        pipeline.validation_dataset(config, num_recycle=0, batch_size=3)


def test_validation_skips_damage_or_stops(config, damaged):
    skipping = dataclasses.replace(config, validation=[str(damaged)], on_corrupt="skip")
    elements = list(pipeline.validation_dataset(skipping, num_recycle=0))
    assert [e["chain_id"].numpy()[0] for e in elements] == [b"long_A"]
    stopping = dataclasses.replace(skipping, on_corrupt="raise")
    with pytest.raises(Exception, match=r"InputError: .*bad\.tfrecord: mid_A"):
        list(pipeline.validation_dataset(stopping, num_recycle=0))


@pytest.mark.parametrize(
    ("num_res", "size"), [(1, 16), (16, 16), (17, 32), (48, 48), (49, 96), (100, 144)]
)
def test_size_buckets(num_res, size):
    assert pipeline.padded_size(tf.constant(num_res), [32, 16, 48]) == size


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
