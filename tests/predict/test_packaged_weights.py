"""The weights that come with a configuration fit its network."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from tffold.config_file import load_config, weights_beside
from tffold.predict.models import load_models


def test_the_learning_networks_weights():
    weights = weights_beside("learning")
    assert Path(weights).stat().st_size <= 10_000_000
    load_models({"learning": load_config("learning")}, [weights])
    arrays = np.load(weights)
    assert sum(arrays[name].size for name in arrays.files) > 800_000
    for name in arrays.files:
        assert arrays[name].dtype == np.float16 and np.isfinite(arrays[name]).all(), name
