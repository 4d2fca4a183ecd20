"""One record of several chains, read and decoded inside the graph; a monomer is one of one chain.

As ``decode`` reads it, with two differences: nothing is cropped, as what a crop over chains takes
depends on coordinates; and what is stored for each entity comes as one flat array, the entities'
tables one after another, as these have different sizes.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import tensorflow as tf

from records import example, slabs
from records.example import ENTITY_ID, PER_ENTITY
from records.schema import (
    ENTITY,
    ENTITY_DIMENSIONS,
    NUM_CHAINS,
    NUM_HITS,
    NUM_MSA,
    NUM_RES,
    NUM_UNIPROT,
    PAIRING_FEATURES,
    READABLE_VERSIONS,
    RECORD_DIMENSIONS,
    RECORD_FEATURES,
    SCHEMA_VERSION,
    Feature,
)
from tffold.data import decode
from tffold.data.decode import CHAIN_ID

Tensor = Any

# Which entity each chain is of, from 1; in the order of the record.
CHAIN_ENTITY = "chain_entity"
ENTITY_LISTS = tuple(f"{PER_ENTITY}{name}" for name in ENTITY_DIMENSIONS)
_ENTITY_RES, _ENTITY_MSA, _ENTITY_HITS, _ENTITY_UNIPROT = ENTITY_LISTS


def stored(*, labels: bool) -> dict[str, Feature]:
    """The record features that transforms of assemblies read."""
    pairing = {name: RECORD_FEATURES[name] for name in PAIRING_FEATURES}
    return decode.stored(labels=labels) | pairing


def flat_shape(feature: Feature) -> tuple[int | None, ...]:
    """The shape in which a feature is handed over: what is of an entity has one long axis."""
    if not feature.shape:
        return ()
    return (None, *(size for size in feature.shape if not isinstance(size, str)))


def _piece_bytes(feature: Feature, entry: Mapping[str, Tensor]) -> Tensor:
    """The bytes of each array of a feature, or of each entity's hits' arrays: [pieces] int64."""
    fixed = np.int64(np.dtype(feature.dtype).itemsize * math.prod(flat_shape(feature)[1:]))
    if feature.per != ENTITY:
        return fixed * entry[NUM_RES][None]
    of_each = fixed * tf.ones_like(entry[_ENTITY_RES])
    for dimension, name in ((NUM_RES, _ENTITY_RES), (NUM_MSA, _ENTITY_MSA)):
        of_each *= entry[name] if dimension in feature.shape else 1
    if NUM_UNIPROT in feature.shape:
        # Where no entity has any, the record does not hold the feature.
        rows = entry[_ENTITY_UNIPROT]
        of_each = (of_each * rows)[: tf.where(tf.reduce_any(rows > 0), tf.size(rows), 0)]
    return of_each


def _chosen_streams(entry: Mapping[str, Tensor], num_slabs: Tensor) -> tuple[Tensor, Tensor]:
    """The entity of each chosen hit [hits], and where its streams are among all hits' [streams]."""
    chosen = tf.sequence_mask(entry["num_hits"], tf.shape(entry["hits"])[1])
    entity = tf.cast(tf.where(chosen)[:, 0], tf.int32)
    hit = tf.cast(tf.boolean_mask(entry["hits"], chosen), tf.int64)
    start = tf.cumsum(entry[_ENTITY_HITS] * num_slabs, exclusive=True)
    count = tf.gather(num_slabs, entity)
    first = tf.gather(start, entity) + hit * count
    within = tf.range(tf.reduce_sum(count)) - tf.repeat(tf.cumsum(count, exclusive=True), count)
    return entity, tf.repeat(first, count) + within


def _decode(serialized: Tensor, entry: Mapping[str, Tensor], *, labels: bool) -> dict[str, Tensor]:
    """The raw features of a record, with the chosen hits alone; see ``decode``."""
    features = stored(labels=labels)
    integer = tf.io.FixedLenFeature([], tf.int64)
    integers = tf.io.FixedLenSequenceFeature([], tf.int64, allow_missing=True)
    parsed = tf.io.parse_single_example(
        serialized,
        {name: decode.specification(feature) for name, feature in features.items()}
        | dict.fromkeys((*RECORD_DIMENSIONS, example.VERSION_KEY), integer)
        | dict.fromkeys((*ENTITY_LISTS, ENTITY_ID), integers)
        | {CHAIN_ID: tf.io.FixedLenFeature([], tf.string)}
        | {NUM_CHAINS: tf.io.FixedLenFeature([], tf.int64, 1)},  # version 1 has one
    )
    version = parsed[example.VERSION_KEY]
    slab_bytes = tf.where(version == 1, np.int64(slabs.MAX_BYTES), np.int64(slabs.SLAB_BYTES))
    arrays = {name: feature for name, feature in features.items() if feature.shape}
    piece_bytes = {name: _piece_bytes(feature, entry) for name, feature in arrays.items()}
    num_slabs = {
        name: (size + slab_bytes - 1) // slab_bytes + tf.cast(size == 0, tf.int64)
        for name, size in piece_bytes.items()
    }
    places = {
        name: entry[_ENTITY_HITS] if NUM_HITS in feature.shape else np.int64(1)
        for name, feature in arrays.items()
    }

    def listed(name: str, value: Tensor) -> Tensor:
        """Version 1 knows no lists: it has one entity and one chain."""
        return (version == 1) | tf.reduce_all(tf.equal(parsed[name], value))

    checks = [
        (version >= READABLE_VERSIONS[0]) & (version <= SCHEMA_VERSION),
        # The index may be that of another shard.
        *(parsed[name] == entry[name] for name in (CHAIN_ID, *RECORD_DIMENSIONS)),
        parsed[NUM_CHAINS] == tf.size(entry[CHAIN_ENTITY], tf.int64),
        *(listed(name, entry[name]) for name in ENTITY_LISTS),
        listed(ENTITY_ID, tf.cast(entry[CHAIN_ENTITY], tf.int64)),
        *(tf.reduce_all(size <= slabs.MAX_BYTES) for size in piece_bytes.values()),
        *(
            tf.reduce_sum(num_slabs[name] * places[name]) == tf.size(parsed[name], tf.int64)
            for name in arrays
        ),
    ]
    with tf.control_dependencies([decode.assert_all(checks)]):
        parts = {name: tf.identity(parsed[name]) for name in arrays}
    for name, feature in arrays.items():
        if NUM_HITS in feature.shape:
            entity, streams = _chosen_streams(entry, num_slabs[name])
            parts[name] = tf.gather(parts[name], streams)
            piece_bytes[name] = tf.gather(piece_bytes[name], entity)
            num_slabs[name] = tf.gather(num_slabs[name], entity)
    raw = {n: tf.cast(parsed[n], f.dtype) for n, f in features.items() if not f.shape}
    # What is large comes alone, so that it need not be cut out of the rest.
    alone = [[name] for name, f in arrays.items() if f.axes(NUM_MSA) or f.axes(NUM_UNIPROT)]
    rest = [name for name in arrays if [name] not in alone]
    for group in (*alone, rest):
        streams, sizes, counts = (
            tf.concat([table[name] for name in group], 0)
            for table in (parts, piece_bytes, num_slabs)
        )
        inflated = decode.inflate(streams, sizes, counts, slab_bytes)
        lengths = [tf.cast(tf.reduce_sum(piece_bytes[name]), tf.int32) for name in group]
        for name, data in zip(group, tf.split(inflated, lengths, num=len(group)), strict=True):
            dtype = tf.as_dtype(arrays[name].dtype)
            # [bytes] -> [values, bytes of one] -> the flat shape
            data = tf.bitcast(tf.reshape(data, [-1, dtype.size]), dtype) if dtype.size > 1 else data
            raw[name] = tf.reshape(data, [-1, *flat_shape(arrays[name])[1:]])
    return raw


def read_assembly(entry: Mapping[str, Tensor], *, labels: bool = True) -> tuple[dict, Tensor]:
    """The raw features of a record of any number of chains, and whether it is whole.

    Args:
        entry: as for ``decode.read_record``, and ``chain_entity`` [C] int32 and
            ``entity_num_…`` [E] int64 of each dimension, as the index has them; what was
            chosen: ``hits`` [E, T], of which the first ``num_hits`` [E] count.

    Returns: the features, as stored, in the shapes of ``flat_shape``; empty where ``ok`` is
        false.
    """
    shapes = {name: flat_shape(feature) for name, feature in stored(labels=labels).items()}
    nothing = {
        name: tf.zeros([size or 0 for size in shape], stored(labels=labels)[name].dtype)
        for name, shape in shapes.items()
    }
    read = tf.autograph.experimental.do_not_convert(
        lambda serialized: _decode(serialized, entry, labels=labels)
    )
    features, ok = decode.read_whole(entry, read, nothing)
    return {name: tf.ensure_shape(features[name], shape) for name, shape in shapes.items()}, ok
