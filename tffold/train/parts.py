"""The real parts of a training run: AlphaFold, its data, losses and metrics."""

from __future__ import annotations

from tffold.config import Config
from tffold.model.alphafold import AlphaFold


def network(config: Config) -> AlphaFold:
    """AlphaFold with weights drawn from the run's seed."""
    return AlphaFold(config.model, seed=config.train.seed)
