"""The input pipeline: positions -> choices -> records -> features -> batches.

Every step of it is a function of (seed, position) alone: the batch of step n
is the same bits whatever the number of workers, threads or restarts.  NumPy
chooses and reads an example (its record, crop, templates, clamp flag); one
TensorFlow graph makes its features (``features.make_features``).
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from records.errors import InputError
from records.schema import LABEL, NUM_HITS, NUM_MSA, NUM_RES, RECORD, RECORD_FEATURES
from tffold.config import DataConfig
from tffold.data import inputs
from tffold.data.choices import (
    Choices,
    draw_recycles,
    inference_choices,
    training_choices,
)
from tffold.data.features import make_features
from tffold.data.python_op import python_op
from tffold.data.reader import Damage, RecordSet
from tffold.data.recipe import Recipe
from tffold.data.sampling import Schedule

Tensor = Any

CHAIN_ID = "chain_id"
_MAX_SUBSTITUTES = 100
_MAX_POSITION = 1 << 46  # keys.fold leaves room for passes and purposes

# What a record gives to the transforms, as stored; the labels where they are wanted.
STORED = {name: f for name, f in RECORD_FEATURES.items() if f.group != RECORD}
# What is chosen for an example before it is read: dtype and rank.
_CHOSEN = {
    "position": (tf.int64, 0),
    "crop_start": (tf.int32, 0),
    "use_clamped_fape": (tf.float32, 0),
    "num_iter_recycling": (tf.int32, 0),
}
# A read example as the graph takes it: dtype and rank.
RAW: dict[str, tuple[tf.DType, int]] = {
    **_CHOSEN,
    CHAIN_ID: (tf.string, 0),
    **{name: (tf.as_dtype(f.dtype), len(f.shape)) for name, f in STORED.items()},
}


def raw_example(features: Mapping[str, Any], choices: Choices) -> dict[str, np.ndarray]:
    """A decoded record as the graph takes it: chosen, and cropped but for the alignment.

    Args:
        features: of ``records.schema``, with the chosen template hits alone.
            Without a known structure the label features may be missing.
    """
    window = slice(choices.crop_start, choices.crop_start + choices.crop_size)
    chosen = {
        "position": choices.position,
        "crop_start": choices.crop_start,
        "use_clamped_fape": choices.clamped,
        "num_iter_recycling": choices.num_iter_recycling,
        "msa": inputs.hhblits_to_restype(np.asarray(features["msa"], np.uint8)),
    }
    raw = {}
    for name, (dtype, _) in RAW.items():
        if name not in chosen and name not in features:
            continue
        value = np.asarray(chosen.get(name, features.get(name)))
        feature = STORED.get(name)
        # Rows of the alignment are compared over the whole chain.
        if feature is not None and not feature.axes(NUM_MSA):
            axes = feature.axes(NUM_RES)
            value = value[tuple(window if i in axes else slice(None) for i in range(value.ndim))]
        raw[name] = value if dtype == tf.string else value.astype(dtype.as_numpy_dtype, copy=False)
    return raw


def padded_size(num_res: int, buckets: list[int]) -> int:
    """The size to which inference pads: the next bucket, or a multiple of the last one."""
    for size in sorted(buckets):
        if num_res <= size:
            return size
    last = max(buckets)
    return -(-num_res // last) * last


def _padded_size_op(num_res: Tensor, buckets: list[int]) -> Tensor:
    """``padded_size`` inside a graph."""

    def call(num_res: np.ndarray) -> np.ndarray:
        return np.int32(padded_size(int(num_res), buckets))

    size = python_op(call, [num_res], tf.int32, stateful=False)
    return tf.ensure_shape(size, [])


def _read_op(read: Callable[[int], dict[str, np.ndarray]], position: Tensor) -> dict[str, Tensor]:
    """``read`` inside a graph."""

    def call(position: np.ndarray) -> list[np.ndarray]:
        raw = read(int(position))
        return [raw[name] for name in RAW]

    values = python_op(call, [position], [dtype for dtype, _ in RAW.values()], stateful=True)
    for value, (_, rank) in zip(values, RAW.values(), strict=True):
        value.set_shape([None] * rank)
    return dict(zip(RAW, values, strict=True))


def _num_parallel(config: DataConfig, batch_size: int) -> int:
    """As many examples at once as there are cores, but no more than prefetching can hold."""
    if config.num_parallel:
        return config.num_parallel
    return max(1, min(len(os.sched_getaffinity(0)), batch_size * (config.prefetch + 1)))


def _batched(
    dataset: tf.data.Dataset, size: int, *, drop_remainder: bool = True
) -> tf.data.Dataset:
    if size == 1:  # spares a copy of the whole example
        return dataset.map(lambda example: tf.nest.map_structure(lambda x: x[None], example))
    return dataset.batch(size, drop_remainder=drop_remainder)


def _finish(dataset: tf.data.Dataset, config: DataConfig) -> tf.data.Dataset:
    options = tf.data.Options()
    options.deterministic = True
    # Examples are prepared beside each other; threads inside one would only get in the way.
    options.threading.max_intra_op_parallelism = 1
    return dataset.prefetch(config.prefetch).with_options(options)


class TrainingReader:
    """Reads the raw example at any position of the training sequence.

    Attributes:
        damage: what was skipped so far.
    """

    def __init__(
        self, config: DataConfig, *, num_recycle: int, global_batch_size: int, seed: int
    ) -> None:
        self.damage = Damage(config.on_corrupt)
        self._config, self._seed = config, seed
        self._num_recycle, self._global_batch_size = num_recycle, global_batch_size
        sets = [
            RecordSet(sources, self.damage, config) if sources else None
            for sources in (config.train, config.distillation)
        ]
        self.schedule = Schedule(
            sets,
            [config.train_filter, config.distillation_filter],
            distillation_probability=config.distillation_probability,
            seed=seed,
        )

    def choose(self, position: int, source: int, record: int) -> Choices:
        """What is chosen for a record at a position."""
        records = self.schedule.sets[source]
        step = position // self._global_batch_size
        return training_choices(
            self._config,
            seed=self._seed,
            position=position,
            num_res=int(records.num_res[record]),
            num_hits=int(records.num_templates[record]),
            num_iter_recycling=draw_recycles(self._seed, step, self._num_recycle),
        )

    def read(self, position: int) -> dict[str, np.ndarray]:
        """The raw example at a position; with ``on_corrupt=skip`` another one if it is damaged."""
        for attempt in range(_MAX_SUBSTITUTES):
            source, record = self.schedule.record(position, attempt)
            choices = self.choose(position, source, record)
            try:
                features = self.schedule.sets[source].read(record, hits=choices.hits)
            except InputError as error:
                self.damage.report(error)
                continue
            return raw_example(features, choices)
        raise InputError(
            f"{_MAX_SUBSTITUTES} records in a row are damaged", mend="convert the chains again"
        )


def training_dataset(
    config: DataConfig,
    *,
    num_recycle: int,
    batch_size: int,
    seed: int,
    start_step: int = 0,
    num_shards: int = 1,
    shard_index: int = 0,
    reader: TrainingReader | None = None,
) -> tf.data.Dataset:
    """Endless training batches from step ``start_step`` on.

    Args:
        num_recycle: extra passes at most; every example has ``num_recycle`` + 1.
        batch_size: of the global batch, over all shards.
        num_shards, shard_index: this worker yields the ``shard_index``-th of
            ``num_shards`` equal parts of every global batch.
        reader: to share one (and its count of damaged records); made if None.

    Returns:
        Dictionaries of ``records.schema.batch_features``, [B / num_shards, C, ...],
        and ``chain_id`` [B / num_shards], bytes.

    Raises:
        InputError: shards or settings that cannot be used.
    """
    if batch_size % num_shards:
        raise InputError(
            f"the batch of {batch_size} does not divide among {num_shards} workers",
            mend="set train.batch_size to a multiple",
        )
    local = batch_size // num_shards
    recipe = Recipe.training(config, num_recycle)
    reader = reader or TrainingReader(
        config, num_recycle=num_recycle, global_batch_size=batch_size, seed=seed
    )

    @tf.autograph.experimental.do_not_convert  # plain graph code: spares tracing time
    def example(number: Tensor) -> dict[str, Tensor]:
        step, place = number // local, number % local
        position = step * batch_size + shard_index * local + place
        raw = _read_op(reader.read, position)
        features = make_features(raw, seed=seed, recipe=recipe, padded_size=config.crop_size)
        return {**features, CHAIN_ID: raw[CHAIN_ID]}

    dataset = tf.data.Dataset.range(start_step * local, _MAX_POSITION // num_shards)
    parallel = _num_parallel(config, local)
    dataset = dataset.map(example, num_parallel_calls=parallel, deterministic=True)
    return _finish(_batched(dataset, local), config)


def validation_dataset(
    config: DataConfig,
    *,
    num_recycle: int,
    batch_size: int = 1,
    seed: int = 0,
    crop_size: int = 0,
    chosen: Sequence[int] | None = None,
) -> tf.data.Dataset:
    """Every record of ``data.validation`` once, in order, in inference mode with labels.

    Args:
        chosen: the records' places, in the order in which they are wanted; default: all.
        crop_size: 0 takes whole chains, padded to ``data.size_buckets`` (the
            batch size must be 1); otherwise the first ``crop_size`` residues,
            in batches of which the last may be smaller.
    """
    if not config.validation:
        raise InputError("no validation shards", mend="set data.validation")
    if batch_size > 1 and not crop_size:
        raise InputError("whole chains have different sizes", mend="validate them one by one")
    damage = Damage(config.on_corrupt)
    records = RecordSet(config.validation, damage, config)
    recipe = Recipe.inference(config, num_recycle, labels=True)
    order = range(len(records)) if chosen is None else chosen

    def read(record: int) -> dict[str, np.ndarray]:
        choices = inference_choices(
            config,
            position=record,
            num_res=min(int(records.num_res[record]), crop_size or _MAX_POSITION),
            num_hits=int(records.num_templates[record]),
            num_recycle=num_recycle,
        )
        return raw_example(records.read(record, hits=choices.hits), choices)

    def readable() -> Any:
        for record in order:
            try:
                read(record)
            except InputError as error:
                damage.report(error)
                continue
            yield record

    @tf.autograph.experimental.do_not_convert
    def example(record: Tensor) -> dict[str, Tensor]:
        raw = _read_op(read, record)
        size: Tensor | int = crop_size
        if not crop_size:
            size = _padded_size_op(tf.size(raw["aatype"]), config.size_buckets)
        features = make_features(raw, seed=seed, recipe=recipe, padded_size=size)
        return {**features, CHAIN_ID: raw[CHAIN_ID]}

    if damage.skip:
        spec = tf.TensorSpec([], tf.int64)
        dataset = tf.data.Dataset.from_generator(readable, output_signature=spec)
    else:
        dataset = tf.data.Dataset.from_tensor_slices(np.array(order, np.int64))
    parallel = _num_parallel(config, batch_size)
    dataset = dataset.map(example, num_parallel_calls=parallel, deterministic=True)
    return _finish(_batched(dataset, batch_size, drop_remainder=False), config)


def inference_example(
    features: Mapping[str, Any],
    config: DataConfig,
    *,
    num_recycle: int,
    seed: int = 0,
    labels: bool = False,
    pad_to: int = 0,
) -> dict[str, np.ndarray]:
    """The batch features of one chain from its raw features, [C, ...], without the batch axis.

    Args:
        features: of ``records.schema.RECORD_FEATURES``; without ``labels`` the
            structure may be missing, without templates their features.
        pad_to: residues to pad to; 0 = the chain's size bucket.
    """
    num_res = len(features["aatype"])
    num_hits = len(features.get("template_aatype", ()))
    choices = inference_choices(
        config, position=0, num_res=num_res, num_hits=num_hits, num_recycle=num_recycle
    )
    chosen = dict(features)
    for name, feature in STORED.items():
        if feature.axes(NUM_HITS):
            none = np.zeros(feature.sizes({NUM_RES: num_res, NUM_HITS: 0}), feature.dtype)
            chosen[name] = np.asarray(features.get(name, none))[list(choices.hits)]
    recipe = Recipe.inference(config, num_recycle, labels=labels)
    raw = {
        name: tf.constant(value)
        for name, value in raw_example(chosen, choices).items()
        if labels or name not in STORED or STORED[name].group != LABEL
    }
    size = pad_to or padded_size(num_res, config.size_buckets)
    made = make_features(raw, seed=seed, recipe=recipe, padded_size=size)
    return {name: value.numpy() for name, value in made.items()}
