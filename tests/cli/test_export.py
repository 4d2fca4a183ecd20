"""From a checkpoint to DeepMind's parameter file and back into a model."""

from __future__ import annotations

import numpy as np
import pytest
from tiny import model_params, tiny_config

from tffold.cli.export import main
from tffold.model.alphafold import AlphaFold
from tffold.weights import checkpoint
from tffold.weights.npz import load_params


@pytest.fixture
def run(tmp_path):
    """A run folder with one checkpoint: weights, and an average twice as large."""
    model = AlphaFold(tiny_config(), seed=5)
    weights = {v.path: np.asarray(v) for v in model.trainable_variables}
    arrays = {f"parameters/{path}": value for path, value in weights.items()}
    arrays |= {f"average/{path}": 2.0 * value for path, value in weights.items()}
    checkpoint.save(tmp_path / "checkpoints", 7, arrays, {}, keep=1)
    return tmp_path, model_params(model)


@pytest.mark.parametrize(("flags", "factor"), [([], 2.0), (["--raw"], 1.0)])
def test_export_loads_into_a_model(run, flags, factor):
    folder, weights = run
    output = folder / "params.npz"
    assert main([str(folder), str(output), *flags]) == 0
    other = AlphaFold(tiny_config(), seed=6)
    load_params(output, other)
    for key, value in model_params(other).items():
        np.testing.assert_array_equal(value, factor * weights[key])


def test_half_precision(run):
    folder, weights = run
    output = folder / "params.npz"
    assert main([str(folder), str(output), "--raw", "--dtype", "float16"]) == 0
    for key, value in np.load(output).items():
        np.testing.assert_array_equal(value, weights[key].astype("float16"))
        assert value.dtype == np.float16


def test_no_checkpoint_is_one_clear_line(tmp_path, capsys):
    assert main([str(tmp_path), str(tmp_path / "out.npz")]) == 2
    assert "no checkpoint here" in capsys.readouterr().err
    assert not (tmp_path / "out.npz").exists()
