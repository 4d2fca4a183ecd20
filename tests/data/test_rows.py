"""The sampled rows of complexes: what is drawn, of what, and from which numbers."""

from dataclasses import replace

import numpy as np
import pytest
import tensorflow as tf
from pairing_cases import flat_assembly
from synthetic import assembly

from records.schema import PAIRING_FEATURES
from tffold.config import DataConfig
from tffold.data import keys, pairing, rows
from tffold.data.inputs import hhblits_to_restype
from tffold.data.recipe import Recipe

PASSES, CENTRES, EXTRA, SIZE = 3, 6, 4, 40


@pytest.fixture(scope="module")
def merged():
    """Two copies of an entity of 10 residues, one of 13, both with rows to pair."""
    one = assembly((1, 1, 2))
    rng = np.random.default_rng(0)
    for entity, size in zip(one.entities, (10, 13), strict=True):
        entity |= {
            "uniprot_msa": rng.integers(0, 22, (9, size)).astype(np.uint8),
            "uniprot_deletion_matrix": rng.integers(0, 9, (9, size)).astype(np.uint8),
            "uniprot_species": np.array([0, 0, 1, 2, 3, 4, 5, 6, 7]),
        }
    raw = flat_assembly(one)
    return {**raw, **pairing.merge_assembly(raw)}


@pytest.fixture(scope="module")
def sample(merged):
    config = DataConfig(max_templates=0, block_deletion_num_blocks=0, distillation_max_msa=0)
    recipe = replace(
        Recipe.training(config, PASSES - 1), num_centres=CENTRES, num_extra=EXTRA, num_chains=3
    )

    @tf.function(autograph=False)
    def graph(seed, position):
        return rows.msa_part(merged, keys.key(seed, position), recipe, SIZE)

    def draw(seed=0, position=0):
        made = graph(tf.constant(seed, tf.int64), tf.constant(position, tf.int64))
        return {name: value.numpy() for name, value in made.items()}

    return draw


def test_merged_of_an_assembly(merged):
    """Seven species make pairs, the copies of the first entity have the same row."""
    assert merged["num_paired"].numpy() == 8
    msa = merged["msa"].numpy()
    np.testing.assert_array_equal(msa[:, :10], msa[:, 10:20])
    queries = np.concatenate([merged["aatype"]])
    np.testing.assert_array_equal(hhblits_to_restype(msa[0]), queries)


def test_the_queries_are_the_first_centre(merged, sample):
    true = sample()["true_msa"]
    assert true.shape == (PASSES, CENTRES, SIZE)
    for cycle in range(PASSES):
        np.testing.assert_array_equal(true[cycle, 0, :33], merged["aatype"])


def test_centres_and_extra_rows_are_different_rows(merged, sample):
    msa = hhblits_to_restype(merged["msa"]).numpy()
    assert len(msa) > CENTRES + EXTRA
    made = sample()
    for cycle in range(PASSES):
        drawn = np.concatenate([made["true_msa"][cycle], made["extra_msa"][cycle]])[:, :33]
        numbers = {int(np.flatnonzero((msa == row).all(1))[0]) for row in drawn}
        assert len(numbers) == CENTRES + EXTRA


def test_a_function_of_seed_position_and_pass(sample):
    first = sample(seed=1, position=5)
    for name, value in sample(seed=1, position=5).items():
        np.testing.assert_array_equal(value, first[name], err_msg=name)
    for other in (sample(seed=2, position=5), sample(seed=1, position=6)):
        assert (other["true_msa"] != first["true_msa"]).any()
        assert (other["bert_mask"] != first["bert_mask"]).any()
    for name in ("true_msa", "bert_mask", "msa_feat", "extra_msa"):
        assert (first[name][0] != first[name][1]).any(), name


def test_cells_beside_a_block_are_masked_but_do_not_count(merged, sample):
    msa, cells = (merged[name].numpy() for name in ("msa", "bert_cells"))
    msa = hhblits_to_restype(msa).numpy()
    beside = 0
    for position in range(10):
        made = sample(position=position)
        for cycle in range(PASSES):
            for centre in range(CENTRES):
                true = made["true_msa"][cycle, centre, :33]
                own = cells[int(np.flatnonzero((msa == true).all(1))[0])] > 0
                counted = made["bert_mask"][cycle, centre, :33] > 0
                shown = made["msa_feat"][cycle, centre, :33, :23].argmax(-1)
                assert not (counted & ~own).any()
                assert not ((shown != true) & own & ~counted).any()
                beside += (shown != true)[~own].sum()
    assert beside > 20


def test_padding_is_empty(sample):
    made = sample()
    assert made["msa_mask"][..., :33].all() and not made["msa_mask"][..., 33:].any()
    for name, value in made.items():
        if name not in ("msa_row_mask", "msa_feat"):
            assert not value[:, :, 33:].any(), name
    assert not made["msa_feat"][:, :, 33:].any()


def test_a_monomer_is_an_assembly_of_one_chain():
    """All rows of its own alignment, none paired."""
    one = assembly((1,))
    raw = flat_assembly(one)
    merged = pairing.merge_assembly(raw)
    np.testing.assert_array_equal(merged["msa"], one.entities[0]["msa"])
    assert merged["num_paired"].numpy() == 0
    assert set(PAIRING_FEATURES) <= set(raw)
