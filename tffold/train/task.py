"""What is trained: a network with its data, losses and metrics; AlphaFold is the real one."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from tffold.config import Config
from tffold.data import pipeline
from tffold.geometry.lddt import lddt
from tffold.losses.table import compute_losses
from tffold.model.alphafold import AlphaFold
from tffold.train import describe
from tffold.train.evaluation import ChainEvaluation, Evaluation
from tffold.train.feed import DatasetFactory
from tffold.train.permutation import matched
from tffold.train.step import Batch, LossFunction, MetricFunction
from tffold.train.trainer import AlphaFoldTrainer
from tffold.weights import npz

CA = 1  # atom37


@dataclass(frozen=True)
class Task:
    """What a run trains; tests bring a toy."""

    network: Callable[[Config], keras.layers.Layer]
    dataset: Callable[[Config], DatasetFactory]
    loss_fn: Callable[[Config], LossFunction]
    metric_fn: Callable[[Config], MetricFunction]
    load_npz: Callable[[keras.layers.Layer, str], None]
    # None: there is nothing to validate.
    evaluation: Callable[[Config, AlphaFoldTrainer], Evaluation | None]
    describe_data: Callable[[DatasetFactory, Evaluation | None], str]  # Markdown


def alphafold_task() -> Task:
    """What ``tffold-fit`` trains."""
    return Task(
        network=lambda config: AlphaFold(config.model, seed=config.train.seed),
        dataset=TrainingData,
        loss_fn=_loss_fn,
        metric_fn=_metric_fn,
        load_npz=lambda network, path: npz.load_params(path, network),
        evaluation=_evaluation,
        describe_data=_describe_data,
    )


class TrainingData(DatasetFactory):
    """``tffold.data``'s training set under a configuration, however often it is started."""

    def __init__(self, config: Config) -> None:
        train = config.train
        self.data, self.num_recycle = config.data_for_model, config.model.num_recycle
        self.batch_size, self.seed = train.batch_size, train.seed
        self.reader = pipeline.TrainingReader(
            self.data,
            num_recycle=self.num_recycle,
            global_batch_size=self.batch_size,
            seed=self.seed,
        )

    @property
    def skipped(self) -> int:
        return self.reader.damage.records

    def report(self, damaged: np.ndarray) -> None:
        self.reader.report(damaged)

    def check_shards(self) -> None:
        self.reader.table.check_shards()

    def __call__(
        self, *, start_step: int, num_shards: int = 1, shard_index: int = 0
    ) -> tf.data.Dataset:
        return pipeline.training_dataset(
            self.data,
            num_recycle=self.num_recycle,
            batch_size=self.batch_size,
            seed=self.seed,
            start_step=start_step,
            num_shards=num_shards,
            shard_index=shard_index,
            reader=self.reader,
        )


def _evaluation(config: Config, trainer: AlphaFoldTrainer) -> ChainEvaluation | None:
    return ChainEvaluation(config, trainer) if config.data.validation else None


def _describe_data(factory: TrainingData, evaluation: ChainEvaluation | None) -> str:
    names = ("training", "distillation", "complexes")
    sets = dict(zip(names, factory.reader.schedule.sets, strict=True))
    sets["validation"] = evaluation.records if evaluation is not None else None
    return describe.data_table(sets)


def _loss_fn(config: Config) -> LossFunction:
    def loss_fn(outputs: Any, batch: Batch) -> tuple[Any, dict[str, Any]]:
        batch = matched(config, outputs, batch)
        total, parts = compute_losses(outputs, batch, config.loss, config.model.heads)
        return total, {name: value for name, value in parts.items() if name != "total_loss"}

    return loss_fn


def _metric_fn(config: Config) -> MetricFunction:
    def metric_fn(outputs: Any, batch: Batch) -> dict[str, Any]:
        batch = matched(config, outputs, batch)
        predicted = outputs["structure_module"]["final_atom_positions"][:, CA]
        mask = batch["all_atom_mask"][:, CA]
        return {"lddt_ca": lddt(predicted, batch["all_atom_positions"][:, CA], mask)}

    return metric_fn
