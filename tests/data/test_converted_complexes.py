"""From the files of a heterodimer by the converter's record to the rows of its batches."""

import numpy as np
import pytest
from conversions import convert_4zhl, uniprot_search
from pairing_cases import merged_by_definition
from pipelines import OPEN, PYTHON, operations_of
from synthetic import data_of

from records import chemistry, example, shards
from tffold.config import DataConfig
from tffold.data import pipeline

# 4zhl: a protease and a peptide that is bound to it; two species have rows of both.
SPECIES = ("HUMAN", "PAPCY")


@pytest.fixture(scope="module")
def converted(tmp_path_factory):
    folder = tmp_path_factory.mktemp("converted")
    (shard,) = shards.find_shards([convert_4zhl(folder, uniprot_search)])
    return shard


@pytest.fixture(scope="module")
def truth(converted):
    """The record's assembly, and its merged alignment by the plain definition."""
    (found,) = map(example.decode_assembly, data_of(converted))
    names = {
        "msa": "msa",
        "deletions": "deletion_matrix",
        "hits": "uniprot_msa",
        "hit_deletions": "uniprot_deletion_matrix",
        "species": "uniprot_species",
    }
    entities = [{ours: one[name] for ours, name in names.items()} for one in found.entities]
    rows, deletions, cells, num_paired = merged_by_definition(entities, (1, 1))
    letters = np.append(chemistry.MAP_HHBLITS_TO_RESTYPE, chemistry.MSA_MASK_INDEX)
    assert num_paired == 1 + len(SPECIES) and len(rows) > 50
    return found, np.asarray(letters)[rows], deletions, cells


def config(shard, **changes):
    settings = {
        "complexes": [str(shard)],
        "validation": [str(shard)],
        "complex_filter": OPEN,
        "max_chains": 2,
        "max_assembly_length": 300,
        "crop_size": 64,
        "max_msa_clusters": 20,
        "max_extra_msa": 30,
        "block_deletion_num_blocks": 0,
        "size_buckets": [512],
        **changes,
    }
    return DataConfig(**settings)


def test_whole_complex(converted, truth):
    """All rows, unmasked: the queries first, the rest in any order, all of them once."""
    assembly, merged, deletions, _ = truth
    size = sum(assembly.chain_sizes)
    settings = config(
        converted, mask_msa_in_inference=False, max_msa_clusters=24, max_extra_msa=len(merged)
    )
    (batch,) = pipeline.validation_dataset(settings, num_recycle=0)
    made = {name: value.numpy()[0, 0] for name, value in batch.items() if name != "chain_id"}
    assert made["seq_length"] == size
    centres = int(made["msa_row_mask"].sum())
    extra = int(made["extra_msa_mask"][:, 0].sum())
    assert centres + extra == len(merged)
    rows = np.concatenate([made["true_msa"][:centres], made["extra_msa"][:extra]])[:, :size]
    np.testing.assert_array_equal(rows[0], merged[0])
    order = np.lexsort(merged.T)
    np.testing.assert_array_equal(rows[np.lexsort(rows.T)], merged[order])
    has = np.concatenate([made["msa_feat"][:centres, :, 23], made["extra_has_deletion"][:extra]])
    np.testing.assert_array_equal(has[:, :size].sum(), (deletions > 0).sum())
    assert not made["bert_mask"].any()
    for name, value in assembly.residue_chains().items():
        np.testing.assert_array_equal(made[name][:size], value)


def test_crops_in_training(converted, truth):
    """Rows of the merged alignment in the crop's columns; masked cells count inside blocks."""
    assembly, merged, _, cells = truth
    start = np.cumsum([0, *assembly.chain_sizes])
    dataset = pipeline.training_dataset(config(converted), num_recycle=1, batch_size=1, seed=0)
    sizes = set()
    assert not PYTHON & operations_of(dataset)
    for batch in dataset.take(6):
        made = {name: x.numpy()[0] for name, x in batch.items() if name != "chain_id"}
        count = int(made["seq_length"][0])
        chain, residue = (made[name][0, :count] for name in ("asym_id", "residue_index"))
        columns = start[chain - 1] + residue
        # With no residue of a chain in the crop its block is left out.
        here = np.isin(np.arange(2) + 1, chain)
        inside = np.stack([cells[:, start[c]] > 0 for c in range(2)], 1)
        kept = (inside & here).any(1)
        sizes.add((int(here.sum()), count))
        for cycle in range(2):
            true = made["true_msa"][cycle, :, :count]
            shown = made["msa_feat"][cycle, :, :count, :23].argmax(-1)
            np.testing.assert_array_equal(true[0], merged[0, columns])
            for number, row in enumerate(true):
                same = (merged[:, columns] == row).all(1) & kept
                assert same.any()
                # Of equal rows one may be of a pair, another of a block.
                own = cells[same][:, columns] > 0
                counted = made["bert_mask"][cycle, number, :count] > 0
                assert not (counted & ~own.any(0)).any()
                assert not ((shown[number] != row) & own.all(0) & ~counted).any()
            for row in made["extra_msa"][cycle, :, :count]:
                assert ((merged[:, columns] == row).all(1) & kept).any()
        assert (made["true_msa"][0] != made["true_msa"][1]).any()
    assert {count for _, count in sizes} == {64}
