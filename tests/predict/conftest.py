"""One tiny model, compiled once, for all tests of prediction."""

from __future__ import annotations

from pathlib import Path

import pytest
from predicting import small_config
from tiny import model_params

from tffold import config_file
from tffold.model.alphafold import AlphaFold
from tffold.predict.models import load_models
from tffold.weights import npz


@pytest.fixture(scope="session")
def saved(tmp_path_factory) -> tuple[Path, Path]:
    """A configuration file and a parameter file like DeepMind's."""
    folder = tmp_path_factory.mktemp("saved")
    config = small_config()
    (folder / "tiny.yaml").write_text(config_file.to_yaml(config))
    npz.write_npz(folder / "params_tiny.npz", model_params(AlphaFold(config.model, 1)))
    return folder / "tiny.yaml", folder / "params_tiny.npz"


@pytest.fixture(scope="session")
def multimer(tmp_path_factory):
    """A loaded model for complexes, likewise."""
    folder = tmp_path_factory.mktemp("multimer")
    config = small_config(complexes=True)
    npz.write_npz(folder / "params_multi.npz", model_params(AlphaFold(config.model, 1)))
    (model,) = load_models({"multi": config}, [str(folder / "params_multi.npz")])
    return model


@pytest.fixture(scope="session")
def model(saved):
    """The loaded model; tests share its compiled program."""
    path, weights = saved
    (model,) = load_models({"tiny": config_file.load_config(path)}, [str(weights)])
    return model
