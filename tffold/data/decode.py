"""One record of a shard, read and decoded inside the graph.

TensorFlow's record reader starts at the record's byte and verifies both
checksums; its data set is made, read and forgotten within one function call.
All of it happens inside a data set of one element that passes errors over: so
whatever is wrong with the record, from a vanished file to a stream that does not
inflate, is a value (``ok`` is false), upon which the outer graph can act.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from records import example, slabs
from records.schema import (
    LABEL,
    NUM_CHAINS,
    NUM_HITS,
    NUM_MSA,
    NUM_RES,
    READABLE_VERSIONS,
    RECORD,
    RECORD_DIMENSIONS,
    RECORD_FEATURES,
    SCHEMA_VERSION,
    Feature,
)

Tensor = Any

CHAIN_ID = "chain_id"
_FRAME_BYTES = 16
_LENGTH_BYTES = 8  # at a record's beginning
_AT_ONCE = 1 << 20  # bytes of streams: zlib packs at most 1032 bytes into one
_PART = 1 << 20  # of a longer stream


def stored(*, labels: bool) -> dict[str, Feature]:
    """The record features that transforms read."""
    left_out = {RECORD} if labels else {RECORD, LABEL}
    return {name: f for name, f in RECORD_FEATURES.items() if f.group not in left_out}


def specification(feature: Feature) -> Any:
    """How ``records.example`` keeps a feature in the message."""
    if feature.shape:
        return tf.io.FixedLenSequenceFeature([], tf.string, allow_missing=True)
    return tf.io.FixedLenFeature([], tf.float32 if feature.dtype == "float32" else tf.int64)


def _array_bytes(features: Mapping[str, Feature], entry: Mapping[str, Tensor]) -> Tensor:
    """The bytes of each feature's array, or of each of its hits' arrays: [features] int64."""
    each = [f.shape[1:] if f.axes(NUM_HITS) else f.shape for f in features.values()]
    fixed = [
        np.dtype(f.dtype).itemsize * math.prod(s for s in shape if isinstance(s, int))
        for f, shape in zip(features.values(), each, strict=True)
    ]
    rows = tf.where([NUM_MSA in shape for shape in each], entry[NUM_MSA], np.int64(1))
    return np.array(fixed, np.int64) * entry[NUM_RES] * rows


def _decode(serialized: Tensor, entry: Mapping[str, Tensor], *, labels: bool) -> dict[str, Tensor]:
    """The raw features of a record, cropped but for the alignment, with the chosen hits alone.

    All streams are checked and inflated together: operations for each feature
    would take longer than what they do.
    """
    features = stored(labels=labels)
    integer = tf.io.FixedLenFeature([], tf.int64)
    parsed = tf.io.parse_single_example(
        serialized,
        {name: specification(feature) for name, feature in features.items()}
        | dict.fromkeys((*RECORD_DIMENSIONS, example.VERSION_KEY), integer)
        | {CHAIN_ID: tf.io.FixedLenFeature([], tf.string)}
        | {NUM_CHAINS: tf.io.FixedLenFeature([], tf.int64, 1)},  # version 1 has one
    )
    raw = {n: tf.cast(parsed[n], f.dtype) for n, f in features.items() if not f.shape}
    arrays = {n: f for n, f in features.items() if f.shape and not f.axes(NUM_HITS)}
    of_hits = {n: f for n, f in features.items() if f.axes(NUM_HITS)}
    version = parsed[example.VERSION_KEY]
    # Version 1: one stream for each array, of any length.
    slab_bytes = tf.where(version == 1, np.int64(slabs.MAX_BYTES), np.int64(slabs.SLAB_BYTES))
    array_bytes = _array_bytes(arrays | of_hits, entry)
    num_slabs = (array_bytes + slab_bytes - 1) // slab_bytes + tf.cast(array_bytes == 0, tf.int64)
    places = [1] * len(arrays) + [entry[NUM_HITS]] * len(of_hits)
    found = tf.stack([tf.size(parsed[name], tf.int64) for name in arrays | of_hits])
    checks = [
        (version >= READABLE_VERSIONS[0]) & (version <= SCHEMA_VERSION),
        parsed[NUM_CHAINS] == 1,
        # The index may be that of another shard.
        *(parsed[name] == entry[name] for name in (CHAIN_ID, *RECORD_DIMENSIONS)),
        tf.reduce_all(array_bytes <= slabs.MAX_BYTES),
        tf.reduce_all(num_slabs * tf.stack(places) == found),
    ]
    hits = entry["hits"][: entry["num_hits"]]
    with tf.control_dependencies([assert_all(checks)]):
        num_hits = tf.size(hits)
    parts: dict[str, Tensor] = {name: parsed[name] for name in arrays}
    for number, name in enumerate(of_hits, len(arrays)):
        # [H * slabs] -> [H, slabs] -> [hits * slabs]
        table = tf.reshape(parsed[name], [-1, num_slabs[number]])
        parts[name] = tf.reshape(tf.gather(table, hits), [-1])
    # An array, or that of a hit, is a piece.
    pieces = tf.stack([1] * len(arrays) + [num_hits] * len(of_hits))
    dimensions = {name: tf.cast(entry[name], tf.int32) for name in (NUM_RES, NUM_MSA)}
    dimensions[NUM_HITS] = num_hits
    window = slice(entry["crop_start"], entry["crop_start"] + entry["crop_size"])
    # What is large comes alone, so that it need not be cut out of the rest.
    alone = [[name] for name, feature in arrays.items() if feature.axes(NUM_MSA)]
    rest = [name for name in parts if [name] not in alone]
    for group in (*alone, rest):
        numbers = [list(parts).index(name) for name in group]
        of_group = tf.gather(pieces, numbers)
        sizes, slab_counts = (
            tf.repeat(tf.gather(each, numbers), of_group) for each in (array_bytes, num_slabs)
        )
        streams = tf.concat([parts[name] for name in group], 0)
        inflated = inflate(streams, sizes, slab_counts, slab_bytes)
        lengths = tf.cast(tf.gather(array_bytes, numbers), tf.int32) * of_group
        for name, data in zip(group, tf.split(inflated, lengths, num=len(group)), strict=True):
            feature = features[name]
            dtype = tf.as_dtype(feature.dtype)
            # [bytes] -> [values, bytes of one] -> the feature's shape
            data = tf.bitcast(tf.reshape(data, [-1, dtype.size]), dtype) if dtype.size > 1 else data
            value = tf.reshape(data, feature.sizes(dimensions))
            # Rows of the alignment are compared over the whole chain.
            if not feature.axes(NUM_MSA):
                (axis,) = feature.axes(NUM_RES)
                value = value[(*[slice(None)] * axis, window)]
            raw[name] = value
    return raw


def inflate(streams: Tensor, sizes: Tensor, num_slabs: Tensor, slab_bytes: Tensor) -> Tensor:
    """The bytes of all pieces: [bytes] uint8.

    TensorFlow inflates whatever a stream holds.  So a stream is refused when it is
    longer than zlib ever makes one of so many bytes, which bounds what it can inflate
    to (``records.slabs``).  Few bytes are inflated at once, which can be 1 GiB at most,
    as much as an array may have; of many, each stream is checked before the next, and
    one that is long (of version 1) piece by piece.

    Args:
        streams: of all pieces, one piece after another.
        sizes, num_slabs: [pieces] int64, the bytes and the streams of each.
    """
    piece = tf.repeat(tf.range(tf.size(num_slabs)), num_slabs)
    first = tf.gather(tf.cumsum(num_slabs, exclusive=True), piece)
    before = (tf.range(tf.size(piece, tf.int64)) - first) * slab_bytes
    sizes = tf.minimum(tf.gather(sizes, piece) - before, slab_bytes)
    longest = slabs.longest_stream(sizes)
    short = tf.cast(tf.strings.length(streams), tf.int64) <= longest
    with tf.control_dependencies([assert_all([tf.reduce_all(short)])]):
        streams = tf.identity(streams)

    def at_once() -> Tensor:
        data = tf.io.decode_compressed(streams, "ZLIB")
        whole = tf.cast(tf.strings.length(data), tf.int64) == sizes
        with tf.control_dependencies([assert_all([tf.reduce_all(whole)])]):
            return tf.io.decode_raw(tf.strings.reduce_join(data), tf.uint8)

    def inflate_next(number: Tensor, data: tf.TensorArray) -> tuple[Tensor, tf.TensorArray]:
        with tf.control_dependencies([assert_all([_is_bounded(streams[number], sizes[number])])]):
            stream = tf.io.decode_compressed(streams[number], "ZLIB")
        whole = tf.cast(tf.strings.length(stream), tf.int64) == sizes[number]
        with tf.control_dependencies([assert_all([whole])]):
            return number + 1, data.write(number, tf.io.decode_raw(stream, tf.uint8))

    def one_by_one() -> Tensor:
        count = tf.size(streams)
        data = tf.TensorArray(tf.uint8, count, infer_shape=False, element_shape=[None])
        _, data = tf.while_loop(
            lambda number, _: number < count, inflate_next, (0, data), parallel_iterations=1
        )
        return data.concat()

    return tf.cond(tf.reduce_sum(tf.strings.length(streams)) <= _AT_ONCE, at_once, one_by_one)


def _is_bounded(stream: Tensor, size: Tensor) -> Tensor:
    """Whether a stream inflates to no more than ``size`` bytes, as far as its end may hide more.

    Longer and longer parts from its beginning are inflated, so that none takes memory for more
    than 1 GiB beyond ``size``.  TensorFlow inflates a part without complaint, but cannot go on
    from where it stopped.
    """

    def try_more(taken: Tensor, _: Tensor) -> tuple[Tensor, Tensor]:
        part = tf.io.decode_compressed(tf.strings.substr(stream, 0, taken), "ZLIB")
        return taken + _PART, tf.cast(tf.strings.length(part), tf.int64) <= size

    length = tf.strings.length(stream)
    return tf.while_loop(lambda taken, fits: fits & (taken < length), try_more, (_PART, True))[1]


def assert_all(conditions: Sequence[Tensor]) -> Any:
    """Fails unless all hold; the bare operation, without the branches that lead to it."""
    return tf.raw_ops.Assert(condition=tf.reduce_all(tf.stack(conditions)), data=["damaged"])


def read_record(entry: Mapping[str, Tensor], *, labels: bool = True) -> tuple[dict, Tensor]:
    """The raw features of a record and whether it is whole.

    Args:
        entry: ``shard`` (its path), ``offset``, ``length`` and the other numbers
            that the index promises of it (``chain_id``, dimensions), and what was
            chosen: ``crop_start``, ``crop_size``, ``hits`` and ``num_hits``.

    Returns: the features, as stored, cropped but for the alignment, with the
        chosen hits alone; empty where ``ok`` is false.
    """
    nothing = {
        name: tf.zeros([0 if isinstance(s, str) else s for s in feature.shape], feature.dtype)
        for name, feature in stored(labels=labels).items()
    }
    decode = tf.autograph.experimental.do_not_convert(
        lambda serialized: _decode(serialized, entry, labels=labels)
    )
    features, ok = read_whole(entry, decode, nothing)
    for name, feature in stored(labels=labels).items():
        shape = [None if isinstance(size, str) else size for size in feature.shape]
        features[name] = tf.ensure_shape(features[name], shape)
    return features, ok


def read_whole(
    entry: Mapping[str, Tensor], decode: Callable[[Tensor], dict], nothing: dict[str, Tensor]
) -> tuple[dict, Tensor]:
    """What ``decode`` makes of a record and whether it is whole; ``nothing`` where it is not.

    Where ``entry`` has the ``shard_bytes``, what the record itself claims is compared first.
    """
    shard, offset, length = entry["shard"], entry["offset"], entry["length"]

    @tf.autograph.experimental.do_not_convert
    def whole(_: Tensor) -> tuple[dict, Tensor]:
        checks = []
        if "shard_bytes" in entry:
            checks = [tf.debugging.Assert(_claim(entry) == length, ["another length"])]
        with tf.control_dependencies(checks):
            variant = tf.raw_ops.TFRecordDatasetV2(
                filenames=[shard],
                compression_type="",
                buffer_size=length + _FRAME_BYTES,
                byte_offsets=[offset],
            )
        framed = tf.data.experimental.from_variant(variant, tf.TensorSpec([], tf.string))
        serialized = framed.take(1).get_single_element()
        return decode(serialized), tf.constant(True)

    # One element, or an error in its place, which is passed over.
    found = tf.data.Dataset.from_tensors(0).map(whole).ignore_errors()
    missing = tf.data.Dataset.from_tensors((nothing, tf.constant(False)))
    return found.concatenate(missing).take(1).get_single_element()


def _claim(entry: Mapping[str, Tensor]) -> Tensor:
    """The length that a record claims: the eight bytes before its data.

    TensorFlow's reader of records takes so much memory before it knows whether there is so much to
    read.  What it has for a few bytes somewhere in a file is records of a fixed length, here one
    alone, between what is before it and what is behind it.
    """
    behind = entry["shard_bytes"] - entry["offset"] - _LENGTH_BYTES
    found = tf.data.FixedLengthRecordDataset(
        [entry["shard"]], _LENGTH_BYTES, entry["offset"], behind, buffer_size=_LENGTH_BYTES
    ).get_single_element()
    return tf.io.decode_raw(found, tf.int64, little_endian=True)[0]
