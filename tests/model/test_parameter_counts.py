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


def test_split_by_module():
    found = counts("model_1_ptm")
    root = "alphafold/alphafold_iteration/"
    for module, count in SPLIT.items():
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
