"""One chain's raw features as a serialized ``tf.train.Example``, and back.

Every array is stored as zlib-compressed little-endian bytes in C order, so
that the TFRecord file itself stays uncompressed and a record can be read at
its offset.  A feature with one entry per template hit is a list of such
blobs, one per hit, so that a reader inflates only the hits it wants.  Texts
are UTF-8.  The dimensions ``num_res``, ``num_msa``, ``num_templates`` and
``schema_version`` are integers beside them.  The message classes are built
here from a descriptor: TensorFlow is not needed.
"""

from __future__ import annotations

import math
import zlib
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from google.protobuf.message import DecodeError

from records.errors import CorruptRecordError, InputError
from records.schema import (
    NUM_HITS,
    NUM_MSA,
    NUM_RES,
    RECORD_DIMENSIONS,
    RECORD_FEATURES,
    SCHEMA_VERSION,
    STRING,
    Feature,
)

_ZLIB_LEVEL = 6
MAX_BYTES = 1 << 30  # of one array, or of a record; one that claims more is refused
VERSION_KEY = "schema_version"
# The number of letters of a residue type, a template residue, an MSA cell.
_BOUNDS = {"aatype": 21, "template_aatype": 22, "msa": 22}


def _example_class() -> type:
    """The message ``tf.train.Example``, in a descriptor pool of its own."""
    field = descriptor_pb2.FieldDescriptorProto
    file = descriptor_pb2.FileDescriptorProto(
        name="records/example.proto", package="tensorflow", syntax="proto3"
    )

    def message(name: str, *fields: tuple) -> Any:
        new = file.message_type.add(name=name)
        for number, (field_name, kind, repeated, type_name) in enumerate(fields, start=1):
            new.field.add(
                name=field_name,
                number=number,
                type=kind,
                label=field.LABEL_REPEATED if repeated else field.LABEL_OPTIONAL,
                type_name=type_name,
            )
        return new

    message("BytesList", ("value", field.TYPE_BYTES, True, None))
    message("FloatList", ("value", field.TYPE_FLOAT, True, None))
    message("Int64List", ("value", field.TYPE_INT64, True, None))
    feature = message(
        "Feature",
        ("bytes_list", field.TYPE_MESSAGE, False, ".tensorflow.BytesList"),
        ("float_list", field.TYPE_MESSAGE, False, ".tensorflow.FloatList"),
        ("int64_list", field.TYPE_MESSAGE, False, ".tensorflow.Int64List"),
    )
    feature.oneof_decl.add(name="kind")
    for member in feature.field:
        member.oneof_index = 0
    features = message(
        "Features", ("feature", field.TYPE_MESSAGE, True, ".tensorflow.Features.FeatureEntry")
    )
    entry = features.nested_type.add(name="FeatureEntry")
    entry.options.map_entry = True
    entry.field.add(name="key", number=1, type=field.TYPE_STRING, label=field.LABEL_OPTIONAL)
    entry.field.add(
        name="value",
        number=2,
        type=field.TYPE_MESSAGE,
        label=field.LABEL_OPTIONAL,
        type_name=".tensorflow.Feature",
    )
    message("Example", ("features", field.TYPE_MESSAGE, False, ".tensorflow.Features"))
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName("tensorflow.Example"))


Example = _example_class()


def dimensions_of(features: Mapping[str, Any]) -> dict[str, int]:
    """``num_res``, ``num_msa`` and ``num_templates`` of a chain's raw features."""
    return {
        NUM_RES: int(np.shape(features["aatype"])[0]),
        NUM_MSA: int(np.shape(features["msa"])[0]),
        NUM_HITS: int(np.shape(features["template_aatype"])[0]),
    }


def _checked(feature: Feature, value: Any, sizes: tuple[int, ...], item: str) -> np.ndarray:
    array = np.asarray(value)
    if array.shape != sizes:
        raise InputError(
            f"feature {feature.name} has shape {array.shape}, expected {sizes}",
            item=item,
            mend=f"see {feature.symbols()} in records.schema",
        )
    dtype = np.dtype(feature.dtype)
    if dtype.kind in "iu":
        if array.dtype.kind not in "iub":
            raise InputError(f"feature {feature.name} must hold integers", item=item)
        limits = np.iinfo(dtype)
        top = _BOUNDS.get(feature.name, limits.max + 1) - 1
        if array.size and (array.min() < limits.min or array.max() > top):
            raise InputError(
                f"feature {feature.name} has values outside {limits.min}..{top}", item=item
            )
    elif array.size and not np.isfinite(array).all():
        raise InputError(f"feature {feature.name} has values that are not finite", item=item)
    return np.asarray(array, dtype=dtype.newbyteorder("<"), order="C")


def encode(features: Mapping[str, Any]) -> bytes:
    """Serialize one chain.

    Args:
        features: exactly the features of ``records.schema.RECORD_FEATURES``;
            arrays (or lists) of the table's shapes, texts as ``str``.

    Returns:
        The bytes of a ``tf.train.Example``; the same features always give the
        same bytes.

    Raises:
        InputError: a feature is missing, unknown, or of a wrong shape or range.
    """
    item = str(features.get("chain_id", "chain without chain_id"))
    missing = sorted(set(RECORD_FEATURES) - set(features))
    unknown = sorted(set(features) - set(RECORD_FEATURES) - {VERSION_KEY})
    if missing or unknown:
        raise InputError(
            f"missing features {missing}, unknown features {unknown}",
            item=item,
            mend="give the features of records.schema",
        )
    dimensions = dimensions_of(features)
    example = Example()
    out = example.features.feature
    out[VERSION_KEY].int64_list.value.append(SCHEMA_VERSION)
    for name, size in dimensions.items():
        out[name].int64_list.value.append(size)
    for name, feature in RECORD_FEATURES.items():
        sizes = feature.sizes(dimensions)
        if feature.dtype == STRING:
            texts = [features[name]] if sizes == () else list(features[name])
            if sizes and len(texts) != sizes[0]:
                raise InputError(
                    f"feature {name} has {len(texts)} entries, expected {sizes[0]}", item=item
                )
            out[name].bytes_list.value.extend(str(text).encode() for text in texts)
            continue
        array = _checked(feature, features[name], sizes, item)
        if sizes == ():
            if array.dtype.kind == "f":
                out[name].float_list.value.append(float(array))
            else:
                out[name].int64_list.value.append(int(array))
            continue
        parts = array if feature.axes(NUM_HITS) else [array]
        out[name].bytes_list.value.extend(zlib.compress(p.tobytes(), _ZLIB_LEVEL) for p in parts)
    return example.SerializeToString(deterministic=True)


def longest_stream(size: Any) -> Any:
    """The longest that zlib makes a stream of ``size`` bytes (zlib's ``compressBound``)."""
    return size + size // 4096 + size // 16384 + size // 33554432 + 13


def _array_bytes(feature: Feature, shape: tuple[int, ...]) -> int:
    """The bytes of an array; refuses more than one may hold before they are taken."""
    size = math.prod(shape) * np.dtype(feature.dtype).itemsize
    if not 0 <= size <= MAX_BYTES:
        raise CorruptRecordError(f"feature {feature.name} claims {size} bytes")
    return size


def _inflate(blob: bytes, feature: Feature, shape: tuple[int, ...]) -> np.ndarray:
    """An array of its stream; never takes more memory than the array's shape needs."""
    dtype = np.dtype(feature.dtype).newbyteorder("<")
    size = _array_bytes(feature, shape)
    if len(blob) > longest_stream(size):
        raise CorruptRecordError(f"feature {feature.name} is {len(blob)} bytes of {size}, packed")
    stream = zlib.decompressobj()
    try:
        # One byte more than wanted shows that there are too many.
        data = stream.decompress(blob, size + 1)
    except zlib.error as error:
        raise CorruptRecordError(f"feature {feature.name} does not inflate: {error}") from None
    if len(data) != size or not stream.eof:
        held = f"more than {size}" if len(data) > size else len(data)
        raise CorruptRecordError(f"feature {feature.name} holds {held} bytes, not {size}")
    return np.frombuffer(data, dtype=dtype).reshape(shape).astype(feature.dtype, copy=False)


def decode(
    serialized: bytes,
    *,
    hits: Sequence[int] | None = None,
    omit: Sequence[str] = (),
) -> dict[str, Any]:
    """The raw features of one serialized chain.

    Args:
        serialized: what ``encode`` returned.
        hits: the template hits wanted, as positions in the record; None = all.
        omit: names of features not wanted.

    Returns:
        Every feature of ``records.schema.RECORD_FEATURES``: read-only arrays
        of the table's dtypes and shapes, ``str`` and lists of ``str``, NumPy
        scalars.

    Raises:
        InputError: the record was written by another version of the schema.
        CorruptRecordError: the bytes are no such record.
    """
    try:
        message = Example.FromString(bytes(serialized))
    except DecodeError:
        raise CorruptRecordError("not a tf.train.Example") from None
    stored = message.features.feature
    version = stored[VERSION_KEY].int64_list.value[0] if VERSION_KEY in stored else None
    if version is None:
        raise CorruptRecordError("not a record of this program: it has no schema_version")
    if version != SCHEMA_VERSION:
        raise InputError(
            f"schema version {version}, this program reads version {SCHEMA_VERSION}",
            mend="convert the chain again with tffold-convert",
        )
    try:
        dimensions = {name: stored[name].int64_list.value[0] for name in RECORD_DIMENSIONS}
        if min(dimensions.values()) < 0:
            raise CorruptRecordError(f"incomplete record: {dimensions}")
        chosen = range(dimensions[NUM_HITS]) if hits is None else [int(h) for h in hits]
        wanted = {**dimensions, NUM_HITS: len(chosen)}
        features: dict[str, Any] = {}
        for name, feature in RECORD_FEATURES.items():
            if name in omit:
                continue
            if name not in stored:
                raise CorruptRecordError(f"feature {name} is missing")
            value = stored[name]
            if feature.dtype == STRING:
                texts = [text.decode() for text in value.bytes_list.value]
                features[name] = [texts[h] for h in chosen] if feature.shape else texts[0]
            elif feature.shape == ():
                kind = value.float_list if feature.dtype == "float32" else value.int64_list
                features[name] = np.dtype(feature.dtype).type(kind.value[0])
            elif feature.axes(NUM_HITS):
                sizes = feature.sizes(wanted)
                blobs = value.bytes_list.value
                if hits is None and len(blobs) != len(chosen):
                    raise CorruptRecordError(f"incomplete record: {len(blobs)} of {name}")
                _array_bytes(feature, sizes)
                array = np.empty(sizes, feature.dtype)
                for position, hit in enumerate(chosen):
                    array[position] = _inflate(blobs[hit], feature, sizes[1:])
                features[name] = array
            else:
                blob = value.bytes_list.value[0]
                features[name] = _inflate(blob, feature, feature.sizes(dimensions))
    except (IndexError, UnicodeDecodeError) as error:
        raise CorruptRecordError(f"incomplete record: {error}") from None
    return features


def index_entry(features: Mapping[str, Any]) -> dict[str, Any]:
    """What the sampler needs to know of a chain without reading its record.

    Returns:
        ``chain_id, num_res, num_msa, num_templates, resolution (Å),
        release_date, is_distillation, cluster_size, max_residue_fraction``
        (share of the most frequent residue), ``mean_confidence`` and
        ``schema_version``.
    """
    sequence = str(features["sequence"])
    return {
        "chain_id": str(features["chain_id"]),
        **dimensions_of(features),
        "resolution": round(float(features["resolution"]), 4),
        "release_date": str(features["release_date"]),
        "is_distillation": int(features["is_distillation"]),
        "cluster_size": int(features["cluster_size"]),
        "max_residue_fraction": round(
            max(Counter(sequence).values(), default=0) / max(len(sequence), 1), 6
        ),
        "mean_confidence": round(float(np.mean(features["confidence"])), 3)
        if len(sequence)
        else 0.0,
        VERSION_KEY: SCHEMA_VERSION,
    }
