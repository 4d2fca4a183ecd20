"""Every preset's parameters, counted as published."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tffold.config_file import load_config
from tffold.model.alphafold import AlphaFold
from tffold.weights.npz import parameter_shapes

CONFIGS = Path(__file__).parents[2] / "configs"
WITH_TEMPLATES, WITHOUT_TEMPLATES, ERROR_HEAD = 93_229_082, 92_899_674, 8_256

# By module, of model_1_ptm.
SPLIT = {
    "evoformer/evoformer_iteration/": 87_837_696,
    "evoformer/extra_msa_stack/": 2_805_248,
    "structure_module/": 2_019_116,
    "structure_module/fold_iteration/invariant_point_attention/": 1_256_472,
    "evoformer/template": 329_408,
    "evoformer/template_embedding/single_template_embedding/template_pair_stack/": 218_240,
    "predicted_lddt_head/": 73_010,
    "experimentally_resolved_head/": 14_245,
    "distogram_head/": 8_256,
    "masked_msa_head/": 5_911,
    "predicted_aligned_error_head/": ERROR_HEAD,
}


MULTIMER = 93_223_705
# By module, of any AlphaFold-Multimer.
MULTIMER_SPLIT = {
    "evoformer/evoformer_iteration/": 87_837_696,
    "evoformer/extra_msa_stack/": 2_805_248,
    "structure_module/": 2_018_540,
    "evoformer/template_embedding/": 241_344,
    "evoformer/template_single_embedding": 8_960,
    "evoformer/~_relative_encoding/": 9_472,
    "evoformer/preprocess_1d": 5_632,
    "evoformer/left_single": 2_816,
    "masked_msa_head/": 5_654,
    "distogram_head/": 8_256,
    "predicted_lddt_head/": 73_010,
    "predicted_aligned_error_head/": 8_256,
    "experimentally_resolved_head/": 14_245,
}


def counts(preset: str) -> dict[str, int]:
    model = AlphaFold(load_config(CONFIGS / f"{preset}.yaml").model)
    return {key: int(np.prod(shape)) for key, shape in parameter_shapes(model).items()}


@pytest.mark.parametrize(
    ("preset", "total"),
    [
        ("model_1", WITH_TEMPLATES),
        ("model_2_ptm", WITH_TEMPLATES + ERROR_HEAD),
        ("model_3", WITHOUT_TEMPLATES),
        ("model_5_ptm", WITHOUT_TEMPLATES + ERROR_HEAD),
    ],
)
def test_totals(preset, total):
    assert sum(counts(preset).values()) == total


@pytest.mark.parametrize(
    ("preset", "arrays"), [("model_1_multimer", 354), ("model_5_multimer_v3", 330)]
)
def test_multimer(preset, arrays):
    found = counts(preset)
    assert len(found) == arrays
    assert sum(found.values()) == MULTIMER
    check_split(found, MULTIMER_SPLIT)


def test_split_by_module():
    check_split(counts("model_1_ptm"), SPLIT)


def check_split(found, split):
    root = "alphafold/alphafold_iteration/"
    for module, count in split.items():
        assert sum(n for key, n in found.items() if key.startswith(root + module)) == count, module


# What distinguishes the presets: templates, extra MSA rows, predicted-aligned-error head.
@pytest.mark.parametrize("number", range(1, 6))
@pytest.mark.parametrize("suffix", ["", "_ptm"])
def test_published_differences(number, suffix):
    config = load_config(CONFIGS / f"model_{number}{suffix}.yaml")
    has_templates = number in (1, 2)
    assert config.model.template.enabled is has_templates
    assert bool(config.data_for_model.max_templates) is has_templates
    assert config.data.max_extra_msa == (5120 if number in (1, 3, 4) else 1024)
    assert config.data.max_msa_clusters == 512
    assert config.model.heads.predicted_aligned_error is bool(suffix)
    assert config.loss.predicted_aligned_error_weight == (0.1 if suffix else 0.0)
    assert config.loss.violation_weight == 1.0
    assert config.model.num_recycle == 3
    assert config.model.evoformer.num_block == 48


# What distinguishes the versions: crops, rows, passes, fused projections. Four rows of each
# alignment are the templates'.
@pytest.mark.parametrize("number", range(1, 6))
@pytest.mark.parametrize(
    ("version", "crop", "clusters", "extra", "passes"),
    [
        ("", 384, 252, 1152, 3),
        ("_v2", 384, 252, 1152, 3),
        ("_v3", 640, 508, 2048, 20),
    ],
)
def test_published_differences_of_multimers(number, version, crop, clusters, extra, passes):
    config = load_config(CONFIGS / f"model_{number}_multimer{version}.yaml")
    data, model = config.data, config.model
    assert data.crop_size == crop
    assert data.reduce_msa_clusters_by_max_templates
    assert data.max_msa_clusters - data.max_templates == clusters
    assert data.max_extra_msa == (1152 if number > 3 else extra)
    assert model.num_recycle == passes
    assert model.fuse_projections is model.bfloat16 is (version == "_v3")
    assert config.predict.recycle_tolerance == (0.5 if version == "_v3" else 0.0)
    assert model.heads.predicted_aligned_error
    assert config.loss.by_chain and config.loss.interface_fape_clamp_distance == 30.0
    assert config.loss.predicted_aligned_error_weight == 0.1
