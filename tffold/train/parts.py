"""The real parts of a training run: AlphaFold, its data, losses and metrics."""

from __future__ import annotations

import functools
from typing import Any

from tffold import params
from tffold.config import Config
from tffold.data import pipeline
from tffold.geometry.lddt import lddt
from tffold.losses.table import compute_losses
from tffold.model.alphafold import AlphaFold
from tffold.train.feed import DatasetFactory
from tffold.train.run import Parts
from tffold.train.step import Batch, LossFunction, MetricFunction

CA = 1  # atom37


def alphafold_parts() -> Parts:
    """What ``tffold-fit`` trains."""
    return Parts(
        network=lambda config: AlphaFold(config.model, seed=config.train.seed),
        dataset=_dataset,
        loss_fn=_loss_fn,
        metric_fn=_metric_fn,
        load_npz=lambda network, path: params.load_params(path, network),
    )


def _dataset(config: Config) -> DatasetFactory:
    train, num_recycle = config.train, config.model.num_recycle
    reader = pipeline.TrainingReader(
        config.data,
        num_recycle=num_recycle,
        global_batch_size=train.batch_size,
        seed=train.seed,
    )
    return functools.partial(
        pipeline.training_dataset,
        config.data,
        num_recycle=num_recycle,
        batch_size=train.batch_size,
        seed=train.seed,
        reader=reader,
    )


def _loss_fn(config: Config) -> LossFunction:
    def loss_fn(outputs: Any, batch: Batch) -> tuple[Any, dict[str, Any]]:
        total, parts = compute_losses(outputs, batch, config.loss, config.model.heads)
        return total, {name: value for name, value in parts.items() if name != "total_loss"}

    return loss_fn


def _metric_fn(config: Config) -> MetricFunction:
    def metric_fn(outputs: Any, batch: Batch) -> dict[str, Any]:
        predicted = outputs["structure_module"]["final_atom_positions"][:, CA]
        mask = batch["all_atom_mask"][:, CA]
        return {"lddt_ca": lddt(predicted, batch["all_atom_positions"][:, CA], mask)}

    return metric_fn
