"""An assembly's raw features as a serialized ``tf.train.Example``, and back.

Every array is stored as little-endian bytes in C order, cut into zlib streams
(``records.slabs``), so that the TFRecord file itself stays uncompressed and a
record can be read at its offset.  The arrays of an entity follow those of the
entity before.  A feature with one entry per template hit is cut at each hit, so
that a reader inflates only the hits it wants.  Texts are UTF-8.

Beside them stand integers: ``schema_version``; ``num_res`` of all chains,
``num_msa`` and ``num_templates`` of all entities; ``num_chains``; for each entity
``entity_num_res``, ``entity_num_msa``, ``entity_num_templates`` and
``entity_num_uniprot``; for each chain ``entity_id``, from 1.  Numbers that do not
depend on another dimension, like ``resolution``, are stored as they are.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from google.protobuf.message import DecodeError

from records import slabs
from records.chains import MAX_CHAINS, Assembly, are_entity_ids
from records.errors import CorruptRecordError, InputError
from records.message import Example
from records.schema import (
    ASSEMBLY,
    ENTITY,
    ENTITY_DIMENSIONS,
    NUM_CHAINS,
    NUM_HITS,
    NUM_MSA,
    NUM_RES,
    NUM_UNIPROT,
    READABLE_VERSIONS,
    RECORD_DIMENSIONS,
    RECORD_FEATURES,
    SCHEMA_VERSION,
    STRING,
    Feature,
)
from records.slabs import MAX_BYTES

VERSION_KEY = "schema_version"
ENTITY_ID = "entity_id"
PER_ENTITY = "entity_"  # before the name of a dimension: its list over entities
# The number of letters of a residue type, a template residue, an MSA cell.
_BOUNDS = {"aatype": 21, "template_aatype": 22, "msa": 22, "uniprot_msa": 22}


def _entity_sizes(entity: Mapping[str, Any]) -> dict[str, int]:
    """The dimensions of one entity's raw features."""
    return {
        NUM_RES: int(np.shape(entity["aatype"])[0]),
        NUM_MSA: int(np.shape(entity["msa"])[0]),
        NUM_HITS: int(np.shape(entity["template_aatype"])[0]),
        NUM_UNIPROT: len(entity.get("uniprot_msa", ())),
    }


def dimensions_of(assembly: Assembly) -> dict[str, Any]:
    """The integers that stand beside an assembly's arrays, but for the version."""
    sizes = [_entity_sizes(entity) for entity in assembly.entities]
    return {
        NUM_RES: sum(sizes[entity - 1][NUM_RES] for entity in assembly.entity_id),
        NUM_MSA: sum(size[NUM_MSA] for size in sizes),
        NUM_HITS: sum(size[NUM_HITS] for size in sizes),
        NUM_CHAINS: len(assembly.entity_id),
        **{f"{PER_ENTITY}{name}": [size[name] for size in sizes] for name in ENTITY_DIMENSIONS},
        ENTITY_ID: list(assembly.entity_id),
    }


def _as_assembly(features: Assembly | Mapping[str, Any]) -> Assembly:
    return features if isinstance(features, Assembly) else Assembly.of_chain(features)


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


def _check_names(given: Mapping[str, Any], per: str, item: str) -> None:
    table = {name: f for name, f in RECORD_FEATURES.items() if f.per == per}
    missing = sorted(n for n, f in table.items() if n not in given and not f.optional)
    unknown = sorted(set(given) - set(table) - {VERSION_KEY})
    if missing or unknown:
        raise InputError(
            f"missing features {missing}, unknown features {unknown}",
            item=item,
            mend="give the features of records.schema",
        )


def _store(stored: Any, feature: Feature, value: Any, sizes: tuple[int, ...], item: str) -> None:
    """Append one value, of the assembly or of its next entity, to its feature's list."""
    if feature.dtype == STRING:
        texts = [value] if sizes == () else list(value)
        if sizes and len(texts) != sizes[0]:
            raise InputError(
                f"feature {feature.name} has {len(texts)} entries, expected {sizes[0]}", item=item
            )
        stored.bytes_list.value.extend(str(text).encode() for text in texts)
        return
    array = _checked(feature, value, sizes, item)
    if sizes == ():
        if array.dtype.kind == "f":
            stored.float_list.value.append(float(array))
        else:
            stored.int64_list.value.append(int(array))
        return
    for part in array if feature.axes(NUM_HITS) else [array]:
        stored.bytes_list.value.extend(slabs.pack(part.tobytes()))


def encode(features: Assembly | Mapping[str, Any]) -> bytes:
    """Serialize an assembly.

    Args:
        features: the features of ``records.schema.RECORD_FEATURES``, the optional
            ones where there are any; arrays (or lists) of the table's shapes, texts
            as ``str``.  A mapping is a monomer.

    Returns:
        The bytes of a ``tf.train.Example``; the same features always give the
        same bytes.

    Raises:
        InputError: a feature is missing, unknown, or of a wrong shape or range, or
            the chains are not in the order of their entities.
    """
    assembly = _as_assembly(features)
    item = str(assembly.features.get("chain_id", "chain without chain_id"))
    _check_names(assembly.features, ASSEMBLY, item)
    for entity in assembly.entities:
        _check_names(entity, ENTITY, item)
    if not are_entity_ids(assembly.entity_id, len(assembly.entities)):
        raise InputError(
            f"{len(assembly.entities)} entities, of which the chains are {assembly.entity_id}",
            item=item,
            mend=f"number entities 1, …, 1, 2, …; at most {MAX_CHAINS} chains",
        )
    dimensions = dimensions_of(assembly)
    example = Example()
    out = example.features.feature
    out[VERSION_KEY].int64_list.value.append(SCHEMA_VERSION)
    for name, size in dimensions.items():
        out[name].int64_list.value.extend(size if isinstance(size, list) else [size])
    units = _units(dimensions)
    for name, feature in RECORD_FEATURES.items():
        values = assembly.entities if feature.per == ENTITY else (assembly.features,)
        # Where there are rows to pair they have all their features.
        has_rows = NUM_UNIPROT in feature.shape and any(dimensions[f"{PER_ENTITY}{NUM_UNIPROT}"])
        if feature.optional and not has_rows and not any(len(v.get(name, ())) for v in values):
            continue
        for value, unit in zip(values, units[feature.per], strict=True):
            sizes = feature.sizes(unit)
            given = value[name] if name in value else _absent(feature, sizes)
            _store(out[name], feature, given, sizes, item)
    return example.SerializeToString(deterministic=True)


def _units(dimensions: Mapping[str, Any]) -> dict[str, list[dict[str, int]]]:
    """The dimensions by which features are shaped: the assembly's, and each entity's."""
    lists = [dimensions[f"{PER_ENTITY}{name}"] for name in ENTITY_DIMENSIONS]
    whole = {NUM_RES: dimensions[NUM_RES], NUM_CHAINS: dimensions[NUM_CHAINS]}
    entities = [
        dict(zip(ENTITY_DIMENSIONS, sizes, strict=True)) for sizes in zip(*lists, strict=True)
    ]
    return {ASSEMBLY: [whole], ENTITY: entities}


def _absent(feature: Feature, sizes: tuple[int, ...]) -> Any:
    """What stands for an optional feature that a record does not hold."""
    return [""] * sizes[0] if feature.dtype == STRING else np.zeros(sizes, feature.dtype)


def _array_bytes(feature: Feature, shape: tuple[int, ...]) -> int:
    """The bytes of an array; refuses more than one may hold before they are taken."""
    size = math.prod(shape) * np.dtype(feature.dtype).itemsize
    if not 0 <= size <= MAX_BYTES:
        raise CorruptRecordError(f"feature {feature.name} claims {size} bytes")
    return size


class _Values:
    """A feature's stored values, taken one after another."""

    def __init__(self, feature: Feature, stored: Any, version: int) -> None:
        self.feature = feature
        if feature.dtype == STRING or feature.shape:
            self._left = stored.bytes_list.value
        else:
            is_float = np.dtype(feature.dtype).kind == "f"
            self._left = stored.float_list.value if is_float else stored.int64_list.value
        self._slab_bytes = MAX_BYTES if version == 1 else slabs.SLAB_BYTES
        self._at = 0

    def _next(self, count: int) -> Sequence[Any]:
        values = self._left[self._at : self._at + count]
        if len(values) != count:
            raise CorruptRecordError(f"incomplete record: {len(self._left)} of {self.feature.name}")
        self._at += count
        return values

    def _array(self, streams: Sequence[bytes], shape: tuple[int, ...]) -> np.ndarray:
        feature = self.feature
        dtype = np.dtype(feature.dtype).newbyteorder("<")
        try:
            data = slabs.unpack(streams, _array_bytes(feature, shape), self._slab_bytes)
        except CorruptRecordError as error:
            if error.what.startswith("feature"):
                raise
            raise CorruptRecordError(f"feature {feature.name} {error.what}") from None
        return data.view(dtype).reshape(shape).astype(feature.dtype, copy=False)

    def take(self, unit: Mapping[str, int], hits: Sequence[int] | None) -> Any:
        """The value of the assembly, or of the next entity, with these template hits."""
        feature, sizes = self.feature, self.feature.sizes(unit)
        chosen = range(unit.get(NUM_HITS, 0)) if hits is None else hits
        if feature.dtype == STRING:
            texts = [text.decode() for text in self._next(sizes[0] if sizes else 1)]
            if not sizes:
                return texts[0]
            return [texts[hit] for hit in chosen] if feature.axes(NUM_HITS) else texts
        if not sizes:
            return np.dtype(feature.dtype).type(self._next(1)[0])
        if not feature.axes(NUM_HITS):
            count = slabs.num_slabs(_array_bytes(feature, sizes), self._slab_bytes)
            return self._array(self._next(count), sizes)
        _array_bytes(feature, sizes)
        each = slabs.num_slabs(_array_bytes(feature, sizes[1:]), self._slab_bytes)
        streams = self._next(each * sizes[0])
        array = np.empty((len(chosen), *sizes[1:]), feature.dtype)
        for position, hit in enumerate(chosen):
            array[position] = self._array(streams[hit * each : (hit + 1) * each], sizes[1:])
        return array

    def check_end(self) -> None:
        """Raise CorruptRecordError when values are left."""
        if self._at != len(self._left):
            raise CorruptRecordError(
                f"incomplete record: {len(self._left)} of {self.feature.name}, not {self._at}"
            )


def _stored_dimensions(stored: Any, version: int) -> dict[str, Any]:
    """``dimensions_of`` what is stored, checked against each other."""

    def integers(name: str) -> list[int]:
        return list(stored[name].int64_list.value)

    found: dict[str, Any] = {name: integers(name)[0] for name in RECORD_DIMENSIONS}
    if version == 1:  # one chain
        found |= {NUM_CHAINS: 1, ENTITY_ID: [1], f"{PER_ENTITY}{NUM_UNIPROT}": [0]}
        found |= {f"{PER_ENTITY}{name}": [found[name]] for name in RECORD_DIMENSIONS}
    else:
        found |= {NUM_CHAINS: integers(NUM_CHAINS)[0], ENTITY_ID: integers(ENTITY_ID)}
        found |= {f"{PER_ENTITY}{n}": integers(f"{PER_ENTITY}{n}") for n in ENTITY_DIMENSIONS}
    lists = [found[f"{PER_ENTITY}{name}"] for name in ENTITY_DIMENSIONS]
    residues, rows, hits, _ = lists
    if (
        len({len(sizes) for sizes in lists}) != 1
        or not are_entity_ids(found[ENTITY_ID], len(residues))
        or min(map(min, lists)) < 0
        or found[NUM_CHAINS] != len(found[ENTITY_ID])
        or found[NUM_RES] != sum(residues[entity - 1] for entity in found[ENTITY_ID])
        or (found[NUM_MSA], found[NUM_HITS]) != (sum(rows), sum(hits))
    ):
        raise CorruptRecordError(f"incomplete record: {found}")
    if any(found[f"{PER_ENTITY}{NUM_UNIPROT}"]) and "uniprot_msa" not in stored:
        raise CorruptRecordError("feature uniprot_msa is missing")
    return found


def decode_assembly(
    serialized: bytes,
    *,
    hits: Sequence[Sequence[int]] | None = None,
    omit: Sequence[str] = (),
) -> Assembly:
    """The raw features of one serialized assembly.

    Args:
        serialized: what ``encode`` returned, in this version of the schema or one before.
        hits: the template hits wanted of each entity, as positions in the record;
            None = all.
        omit: names of features not wanted.

    Returns:
        Every feature of ``records.schema.RECORD_FEATURES``: read-only arrays
        of the table's dtypes and shapes, ``str`` and lists of ``str``, NumPy
        scalars.

    Raises:
        InputError: the record was written by a version of the schema that cannot be read.
        CorruptRecordError: the bytes are no such record.
    """
    try:
        message = Example.FromString(bytes(serialized))
    except DecodeError:
        raise CorruptRecordError("not a tf.train.Example") from None
    stored = message.features.feature
    try:
        version = stored[VERSION_KEY].int64_list.value[0] if VERSION_KEY in stored else None
        if version is None:
            raise CorruptRecordError("not a record of this program: it has no schema_version")
        check_version(version)
        dimensions = _stored_dimensions(stored, version)
        units = _units(dimensions)
        found: dict[str, list[dict[str, Any]]] = {p: [{} for _ in u] for p, u in units.items()}
        for name, feature in RECORD_FEATURES.items():
            if name in omit:
                continue
            if name not in stored and not feature.optional:
                raise CorruptRecordError(f"feature {name} is missing")
            values = _Values(feature, stored[name], version) if name in stored else None
            for number, unit in enumerate(units[feature.per]):
                wanted = None if hits is None or feature.per == ASSEMBLY else hits[number]
                found[feature.per][number][name] = (
                    values.take(unit, wanted) if values else _absent(feature, feature.sizes(unit))
                )
            if values:
                values.check_end()
    except (IndexError, UnicodeDecodeError) as error:
        raise CorruptRecordError(f"incomplete record: {error}") from None
    return Assembly(found[ASSEMBLY][0], tuple(found[ENTITY]), tuple(dimensions[ENTITY_ID]), version)


def check_version(version: Any) -> None:
    """Raises InputError for a version of the schema that this program does not read."""
    if version not in READABLE_VERSIONS:
        newer = isinstance(version, int) and version > SCHEMA_VERSION
        raise InputError(
            f"schema version {version}, this program reads versions "
            f"{READABLE_VERSIONS[0]} to {SCHEMA_VERSION}",
            mend="use the program that wrote it, or a newer one"
            if newer
            else "convert the chain again with tffold-convert",
        )


def decode(
    serialized: bytes, *, hits: Sequence[int] | None = None, omit: Sequence[str] = ()
) -> dict[str, Any]:
    """The raw features of one serialized monomer in one mapping: see ``decode_assembly``.

    Raises:
        InputError: it is an assembly of several chains, too.
    """
    wanted = None if hits is None else [[int(hit) for hit in hits]]
    return decode_assembly(serialized, hits=wanted, omit=omit).chain()


def index_entry(features: Assembly | Mapping[str, Any]) -> dict[str, Any]:
    """What the sampler needs to know of an assembly without reading its record.

    Returns:
        ``chain_id, num_res, num_msa, num_templates, num_chains``, the lists
        ``entity_num_…``, ``entity_id`` and ``entity_cluster_size``, ``chain_names,
        resolution (Å), release_date, is_distillation, cluster_size`` (the
        smallest that is known), ``max_residue_fraction`` (share of the most frequent
        residue), ``mean_confidence`` and ``schema_version``.
    """
    assembly = _as_assembly(features)
    features = assembly.features
    sequences = [str(entity["sequence"]) for entity in assembly.entities]
    letters = Counter("".join(sequences[entity - 1] for entity in assembly.entity_id))
    clusters = [int(entity["cluster_size"]) for entity in assembly.entities]
    known = [size for size in clusters if size > 0]
    names = features.get("chain_names", [""] * len(assembly.entity_id))
    return {
        "chain_id": str(features["chain_id"]),
        "chain_names": [str(name) for name in names],
        **dimensions_of(assembly),
        "resolution": round(float(features["resolution"]), 4),
        "release_date": str(features["release_date"]),
        "is_distillation": int(features["is_distillation"]),
        "cluster_size": min(known) if known else clusters[0],
        "entity_cluster_size": clusters,
        "max_residue_fraction": round(
            max(letters.values(), default=0) / max(letters.total(), 1), 6
        ),
        "mean_confidence": round(float(np.mean(features["confidence"])), 3) if letters else 0.0,
        VERSION_KEY: assembly.version,
    }
