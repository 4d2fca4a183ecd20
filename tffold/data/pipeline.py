"""The input pipeline: positions -> records' numbers -> choices -> records -> features -> batches.

Every step of it is a function of (seed, position) alone: the batch of step n
is the same bits whatever the number of workers, threads or restarts.  All of it
is TensorFlow operations, so that a host needs no Python to make its batches.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import tensorflow as tf

from records.chains import Assembly
from records.errors import InputError
from records.schema import NUM_HITS, NUM_MSA, NUM_RES
from tffold.config import DataConfig, FilterConfig
from tffold.data import decode
from tffold.data.assemblies import (
    ENTITY_HITS,
    AssemblyTable,
    best_templates,
    raw_of,
    training_templates,
)
from tffold.data.choices import draw_recycles, inference_choices, training_choices
from tffold.data.decode import CHAIN_ID
from tffold.data.features import make_features
from tffold.data.reader import Damage, RecordSet, RecordTable
from tffold.data.recipe import Recipe
from tffold.data.sampling import Schedule
from tffold.data.service import served

Tensor = Any

DAMAGED = "damaged"  # the numbers of the records that were passed over, then -1
_MAX_SUBSTITUTES = 100
_MAX_POSITION = 1 << 46  # an operation's seed leaves room for passes and purposes
_CHOSEN_AT_ONCE = 64


def padded_size(num_res: Tensor, buckets: list[int]) -> Tensor:
    """The size to which inference pads: the next bucket, or a multiple of the last one."""
    buckets = sorted(buckets)
    next_bucket = tf.searchsorted(buckets, num_res[None])[0]
    multiple = -(-num_res // buckets[-1]) * buckets[-1]
    fits = next_bucket < len(buckets)
    return tf.where(fits, tf.gather(buckets, tf.minimum(next_bucket, len(buckets) - 1)), multiple)


def _num_parallel(config: DataConfig, batch_size: int) -> int:
    """As many examples at once as there are cores, but no more than prefetching can hold."""
    if config.num_parallel:
        return config.num_parallel
    return max(1, min(len(os.sched_getaffinity(0)), batch_size * (config.prefetch + 1)))


def _batched(
    dataset: tf.data.Dataset, size: int, *, drop_remainder: bool = True
) -> tf.data.Dataset:
    if size == 1:  # spares a copy of the whole example
        return dataset.map(_batch_of_one)
    return dataset.batch(size, drop_remainder=drop_remainder)


@tf.autograph.experimental.do_not_convert
def _batch_of_one(example: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name: value[None] for name, value in example.items()}


def _finish(dataset: tf.data.Dataset, config: DataConfig) -> tf.data.Dataset:
    options = tf.data.Options()
    options.deterministic = True
    # Examples are prepared beside each other; threads inside one would only get in the way.
    options.threading.max_intra_op_parallelism = 1
    return dataset.prefetch(config.prefetch).with_options(options)


def _table(config: DataConfig, sets: Sequence[RecordSet]) -> RecordTable:
    return AssemblyTable(sets) if config.max_chains else RecordTable(sets)


def _of_length(rule: FilterConfig, most: int) -> FilterConfig:
    """The filter, without assemblies of more residues than a batch has room for."""
    return replace(rule, max_length=min(rule.max_length or most, most))


class TrainingReader:
    """Reads the raw example at any position of the training sequence.

    Attributes:
        damage: what was skipped so far, as far as ``report`` was told.
    """

    def __init__(
        self, config: DataConfig, *, num_recycle: int, global_batch_size: int, seed: int
    ) -> None:
        self.damage = Damage(config.on_corrupt)
        self._config, self._seed = config, seed
        self._num_recycle, self._global_batch_size = num_recycle, global_batch_size
        sets = [
            RecordSet(sources, self.damage, config) if sources else None
            for sources in (config.train, config.distillation, config.complexes)
        ]
        rules = [config.train_filter, config.distillation_filter, config.complex_filter]
        if config.max_chains:
            rules = [_of_length(rule, config.max_assembly_length) for rule in rules]
        self.schedule = Schedule(
            sets,
            rules,
            distillation_probability=config.distillation_probability,
            complex_probability=config.complex_probability,
            seed=seed,
        )
        self.table = _table(config, [records for records in sets if records])

    def choose(self, position: Tensor, number: Tensor) -> dict[str, Tensor]:
        """What is chosen for records [...] at positions [...]."""
        step = position // self._global_batch_size
        sizes = self.table.sizes(number)
        chosen = training_choices(self._config, seed=self._seed, position=position, **sizes)
        if self._config.max_chains:  # crop and templates follow once the chains are known
            chosen = {"use_clamped_fape": chosen["use_clamped_fape"]}
        return {
            "position": position,
            "number": number,
            "num_iter_recycling": draw_recycles(self._seed, step, self._num_recycle),
            **chosen,
        }

    def _read(self, choices: dict[str, Tensor]) -> tuple[dict[str, Tensor], Tensor]:
        """The record that was chosen, and whether it is whole."""
        number, position = choices["number"], choices["position"]
        if not isinstance(self.table, AssemblyTable):
            return self.table.read(number, choices)
        hits = self.table.layout(number)[ENTITY_HITS]
        templates = training_templates(self._config, hits, seed=self._seed, position=position)
        raw, ok = self.table.read(number, choices | templates)
        return raw | templates, ok

    def sequence(self, position: int, batch: tuple[int, int, int]) -> tf.data.Dataset:
        """Positions and records' numbers, from a position on.

        Args:
            batch: the size of the global batch, and the first and the last
                (exclusive) place in it that are wanted.
        """
        size, first, last = batch
        positions = tf.data.Dataset.range(position, _MAX_POSITION)
        dataset = tf.data.Dataset.zip(positions, self.schedule.numbers(position))
        if last - first < size:
            part = tf.autograph.experimental.do_not_convert(
                lambda *both: tuple(one[first:last] for one in both)
            )
            dataset = dataset.batch(size).map(part).unbatch()
        return dataset

    def chosen(self, position: int, batch: tuple[int, int, int]) -> tf.data.Dataset:
        """What is chosen for the examples of a ``sequence``."""
        choose = tf.autograph.experimental.do_not_convert(self.choose)
        return self.sequence(position, batch).batch(_CHOSEN_AT_ONCE).map(choose).unbatch()

    def read(self, choices: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The raw example; with ``on_corrupt=skip`` another one if its record is damaged."""
        first = dict(choices)
        raw, ok = self._read(first)
        if not self.damage.skip:
            checks = [_whole(ok, self.table.name(first["number"]), self._config.service)]
            with tf.control_dependencies(checks):
                return tf.nest.map_structure(tf.identity, raw | first)
        damaged = tf.fill([_MAX_SUBSTITUTES], tf.constant(-1, tf.int64))
        position = first["position"]

        def substitute(attempt: Tensor, ok: Tensor, damaged: Tensor, now: dict, raw: dict) -> tuple:
            damaged = tf.tensor_scatter_nd_update(damaged, [[attempt]], [now["number"]])
            number = self.schedule.substitute(first["number"], position, attempt + 1)
            now = self.choose(position, number)
            raw, ok = self._read(now)
            return attempt + 1, ok, damaged, now, raw

        def damaged_still(attempt: Tensor, ok: Tensor, *_: Any) -> Tensor:
            return ~ok & (attempt < _MAX_SUBSTITUTES - 1)

        state = (tf.constant(0), ok, damaged, first, raw)
        invariants = tf.nest.map_structure(lambda x: x.shape, state)
        _, ok, damaged, last, raw = tf.while_loop(
            damaged_still, substitute, state, shape_invariants=invariants
        )
        none = f"InputError: {_MAX_SUBSTITUTES} records in a row are damaged"
        none += " (convert the chains again)"
        with tf.control_dependencies([tf.debugging.Assert(ok, [none])]):
            return tf.nest.map_structure(tf.identity, raw | last | {DAMAGED: damaged})

    def report(self, damaged: np.ndarray) -> None:
        """Tell of the records that a batch's ``DAMAGED`` names."""
        for number in np.unique(damaged[damaged >= 0]).tolist():
            self.table.report(number)


def _whole(ok: Tensor, name: Tensor, service: str = "") -> Any:
    """Stops the data set where a record is damaged."""
    mend = "python -m records.inspect says what it is; convert the chain again, or set "
    mend += "data.on_corrupt=skip"
    if service:
        mend = f"does every worker of {service} see this file? If so: {mend}"
    message = tf.strings.join(["InputError: ", name, f": the record is damaged ({mend})"])
    return tf.debugging.Assert(ok, [message])


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
        and ``chain_id`` [B / num_shards], bytes; with ``on_corrupt=skip`` also
        ``damaged`` [B / num_shards, 100], for ``TrainingReader.report``.

    Raises:
        InputError: shards or settings that cannot be used, or ``data.service`` does not answer.
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
    def example(choices: dict[str, Tensor]) -> dict[str, Tensor]:
        raw = reader.read(choices)
        features = make_features(raw, seed=seed, recipe=recipe, padded_size=config.crop_size)
        return features | {name: raw[name] for name in (CHAIN_ID, DAMAGED) if name in raw}

    part = (batch_size, shard_index * local, (shard_index + 1) * local)
    if config.service:
        dataset = served(
            reader.sequence(start_step * batch_size, part),
            lambda position, number: example(reader.choose(position, number)),
            address=config.service,
            num_parallel=config.num_parallel,
        )
    else:
        dataset = reader.chosen(start_step * batch_size, part)
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
    table = _table(config, [records])
    recipe = Recipe.inference(config, num_recycle, labels=True)
    order = range(len(records)) if chosen is None else chosen

    @tf.autograph.experimental.do_not_convert
    def read(number: Tensor) -> tuple[dict[str, Tensor], Tensor]:
        choices = inference_choices(config, crop_size=crop_size, **table.sizes(number))
        if isinstance(table, AssemblyTable):
            choices |= best_templates(config, table.layout(number)[ENTITY_HITS])
        raw, ok = table.read(number, choices)
        return {"position": number, "num_iter_recycling": num_recycle, **choices, **raw}, ok

    @tf.autograph.experimental.do_not_convert
    def whole(raw: dict[str, Tensor], ok: Tensor) -> Tensor:
        if damage.skip:
            return ok
        with tf.control_dependencies([_whole(ok, table.name(raw["position"]))]):
            return tf.constant(True)

    @tf.autograph.experimental.do_not_convert
    def example(raw: dict[str, Tensor], _: Tensor) -> dict[str, Tensor]:
        size: Tensor | int = crop_size or padded_size(raw["crop_size"], config.size_buckets)
        features = make_features(raw, seed=seed, recipe=recipe, padded_size=size)
        return {**features, CHAIN_ID: raw[CHAIN_ID]}

    parallel = _num_parallel(config, batch_size)
    dataset = tf.data.Dataset.from_tensor_slices(np.array(order, np.int64))
    dataset = dataset.map(read, num_parallel_calls=parallel, deterministic=True).filter(whole)
    dataset = dataset.map(example, num_parallel_calls=parallel, deterministic=True)
    return _finish(_batched(dataset, batch_size, drop_remainder=False), config)


def inference_example(
    features: Mapping[str, Any] | Assembly,
    config: DataConfig,
    *,
    num_recycle: int,
    seed: int = 0,
    labels: bool = False,
    pad_to: int = 0,
) -> dict[str, np.ndarray]:
    """The batch features of one chain or assembly, [C, ...], without the batch axis.

    Args:
        features: of ``records.schema.RECORD_FEATURES``; without ``labels`` the
            structure may be missing, without templates their features.  An ``Assembly``
            where the model knows chains; features are a monomer there, too.
        pad_to: residues to pad to; 0 = the size bucket.

    Raises:
        InputError: an assembly where the model knows single chains, or of too many chains.
    """
    recipe = Recipe.inference(config, num_recycle, labels=labels)
    raw: dict[str, Any]
    if recipe.complexes:
        assembly = features if isinstance(features, Assembly) else Assembly.of_chain(features)
        num_res, num_chains = sum(assembly.chain_sizes), len(assembly.entity_id)
        if labels and num_chains > config.max_chains:
            raise InputError(
                f"an assembly of {num_chains} chains",
                item=str(assembly.features.get(CHAIN_ID, "")),
                mend=f"raise data.max_chains={config.max_chains}",
            )
        raw = raw_of(assembly, recipe.num_templates, labels=labels)
    else:
        chain = features.chain() if isinstance(features, Assembly) else features
        num_res = len(chain["aatype"])
        raw = _raw_of_chain(chain, recipe, labels=labels)
    raw |= {"position": 0, "num_iter_recycling": num_recycle, "use_clamped_fape": 1.0}
    raw = {name: tf.constant(value) for name, value in raw.items()}
    size = pad_to or int(padded_size(tf.constant(num_res), config.size_buckets))
    made = make_features(raw, seed=seed, recipe=recipe, padded_size=size)
    return {name: value.numpy() for name, value in made.items()}


def _raw_of_chain(features: Mapping[str, Any], recipe: Recipe, *, labels: bool) -> dict[str, Any]:
    num_res = len(features["aatype"])
    count = min(len(features.get("template_aatype", ())), recipe.num_templates)
    sizes = {NUM_RES: num_res, NUM_HITS: 0, NUM_MSA: 0}
    raw: dict[str, Any] = {"crop_start": 0}
    for name, feature in decode.stored(labels=labels).items():
        if feature.axes(NUM_HITS):
            value = features.get(name, np.zeros(feature.sizes(sizes), feature.dtype))[:count]
        else:
            value = features[name]
        raw[name] = np.asarray(value, feature.dtype)
    return raw
