"""The feature table against itself and against DeepMind's batches."""

from pathlib import Path

import numpy as np
import pytest

from records import schema

GOLDEN = Path(__file__).parents[1] / "golden"


@pytest.mark.parametrize("case", ["a", "b"])
def test_golden_batches_have_the_tables_names_dtypes_and_shapes(case):
    golden = np.load(GOLDEN / f"case_{case}.batch.npz")
    sizes = {
        schema.NUM_RES: golden["aatype"].shape[1],
        schema.NUM_MSA_SEQ: golden["true_msa"].shape[1],
        schema.NUM_EXTRA_SEQ: golden["extra_msa"].shape[1],
        schema.NUM_TEMPLATES: golden["template_mask"].shape[1],
    }
    # What no model, loss or metric of ours reads is in DeepMind's batches only.
    assert set(golden) - set(schema.BATCH_FEATURES) == {
        "extra_msa_row_mask",
        "is_distillation",
        "rigidgroups_group_exists",
        "rigidgroups_group_is_ambiguous",
        "template_sum_probs",
    }
    assert set(schema.BATCH_FEATURES) <= set(golden)
    for name in schema.BATCH_FEATURES:
        feature = schema.BATCH_FEATURES[name]
        assert golden[name].dtype == feature.dtype, name
        assert golden[name].shape[1:] == feature.sizes(sizes), name


def test_axes_and_symbols():
    feature = schema.BATCH_FEATURES["template_all_atom_positions"]
    assert feature.axes(schema.NUM_RES) == (1,)
    assert feature.axes(schema.NUM_TEMPLATES) == (0,)
    assert feature.axes(schema.NUM_MSA_SEQ) == ()
    assert feature.symbols() == "[T, R, 37, 3]"
    assert schema.RECORD_FEATURES["msa"].axes(schema.NUM_RES) == (1,)


def test_selection_leaves_out_templates_and_labels():
    everything = schema.batch_features()
    assert everything == schema.BATCH_FEATURES
    without = schema.batch_features(templates=False, labels=False)
    assert not any("template" in name for name in without)
    assert "all_atom_positions" not in without and "msa_feat" in without
    labels_only = set(everything) - set(schema.batch_features(labels=False))
    assert {"chi_angles", "resolution", "use_clamped_fape"} <= labels_only


def test_complexes_have_chains_beside_the_rest():
    """A monomer's batch knows nothing of them; the truth of all chains is a label."""
    everything = schema.batch_features(complexes=True)
    further = everything.keys() - schema.batch_features().keys()
    assert further == schema.COMPLEX_FEATURES.keys()
    inputs = schema.batch_features(labels=False, complexes=True)
    assert further & inputs.keys() == {"asym_id", "entity_id", "sym_id"}
    symbols = everything["assembly_atom_positions"].symbols()
    assert symbols == "[A, 37, 3]"


def test_markdown_has_one_row_per_feature():
    text = schema.markdown()
    rows = [line for line in text.splitlines() if line.startswith("| `")]
    batches = schema.batch_features(complexes=True)
    assert len(rows) == len(schema.RECORD_FEATURES) + len(batches)
    assert "| `msa_feat` | float32 | [S, R, 49] |" in text
