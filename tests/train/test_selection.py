"""Patterns of parameter names: what they take, and what is said of those that take nothing."""

from __future__ import annotations

import pytest
from tiny import tiny_config

from records.errors import InputError
from tffold.config import TrainConfig
from tffold.model.alphafold import AlphaFold
from tffold.model.module import parameter_key
from tffold.train.selection import frozen_weights, rate_scales
from tffold.weights.npz import ROOT


@pytest.fixture(scope="module")
def variables():
    return AlphaFold(tiny_config()).trainable_variables


def frozen(variables, *patterns):
    flags = frozen_weights(variables, TrainConfig(freeze=list(patterns)))
    keys = [parameter_key(variable.path) for variable in variables]
    return {key.removeprefix(ROOT) for key, flag in zip(keys, flags, strict=True) if flag}


def modules(names):
    return {name.partition("/")[0] for name in names}


def test_a_module_is_all_below_it_and_nothing_else(variables):
    everything = {parameter_key(v.path).removeprefix(ROOT) for v in variables}
    trunk = frozen(variables, "evoformer")
    assert trunk == {name for name in everything if name.startswith("evoformer/")}
    heads = frozen(variables, "*_head")
    assert modules(heads) == modules(everything) - {"evoformer", "structure_module"}
    # Structure module only, heads only, all but the trunk.
    assert modules(everything - trunk - heads) == {"structure_module"}
    assert modules(everything - frozen(variables, "evoformer", "structure_module")) == modules(
        heads
    )
    assert frozen(variables, "evoformer", "*_head") == trunk | heads
    templates = frozen(variables, "evoformer/template_*")
    assert templates == {name for name in trunk if "/template" in name}
    assert frozen(variables) == set()


def test_full_keys_parts_and_single_parameters(variables):
    name = "evoformer/preprocess_1d//bias"
    assert frozen(variables, name) == frozen(variables, ROOT + name) == {name}
    assert frozen(variables, "evoformer/preprocess_1d/") == {name, name.replace("bias", "weights")}
    biases = frozen(variables, "*//bias")
    assert biases and all(name.endswith("//bias") for name in biases)


@pytest.mark.parametrize(
    ("pattern", "near"),
    [
        ("structure_modul", "near it are 'structure_module'"),
        ("evoformer/preproces_1d", "'evoformer/preprocess_1d'"),
        ("trunk", "there are distogram_head, evoformer, exper"),
        ("evo", "no parameter fits 'evo'"),  # a part of a name is none
    ],
)
def test_a_pattern_that_fits_nothing_is_told_with_near_names(variables, pattern, near):
    with pytest.raises(InputError, match="'train.freeze': no parameter fits") as error:
        frozen(variables, "evoformer", pattern)
    assert near in str(error.value)
    with pytest.raises(InputError, match="'train.learning_rate_scale': no parameter fits"):
        rate_scales(variables, TrainConfig(learning_rate_scale=[f"{pattern}=0.1"]))


def test_something_must_be_left_to_train(variables):
    with pytest.raises(InputError, match="leaves nothing to train"):
        frozen(variables, "*")


def test_the_last_pattern_that_fits_decides_the_rate(variables):
    config = TrainConfig(learning_rate_scale=["*=0.5", "evoformer=0.1", "*//bias=2"])
    for variable, scale in zip(variables, rate_scales(variables, config), strict=True):
        key = parameter_key(variable.path)
        expected = 0.1 if key.startswith(ROOT + "evoformer/") else 0.5
        assert scale == (2.0 if key.endswith("//bias") else expected)
    assert set(rate_scales(variables, TrainConfig())) == {1.0}


@pytest.mark.parametrize(
    "entry", ["evoformer", "=0.1", "evoformer=", "evoformer=0", "evoformer=-1"]
)
def test_bad_factors(variables, entry):
    with pytest.raises(InputError, match="pattern=factor"):
        rate_scales(variables, TrainConfig(learning_rate_scale=[entry]))
