"""Records by their place in the shards: what sets of shards hold, and reading one of them."""

from __future__ import annotations

import logging
import os
import threading
from collections import Counter
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

from records import example, paths, shards
from records.cache import local_shards
from records.chains import Assembly, are_entity_ids
from records.errors import CorruptRecordError, InputError
from records.example import ENTITY_ID, PER_ENTITY, VERSION_KEY
from records.schema import (
    ENTITY_DIMENSIONS,
    NUM_CHAINS,
    NUM_HITS,
    NUM_MSA,
    NUM_RES,
    PAIRING_FEATURES,
)
from records.stores import SIGN_IN
from tffold.config import DataConfig
from tffold.data import decode

Tensor = Any

_LOG = logging.getLogger(__name__)
CLUSTER_SIZE = "entity_cluster_size"
_OPENED_AT_ONCE = 16  # shards: what is waited for is the disk, or a store


class ReplacedError(InputError):
    """A shard that is not the one that was opened: what else is in it is not known."""


class Damage:
    """Counts and reports the records that could not be read.

    Args:
        on_corrupt: ``raise`` stops at the first; ``skip`` logs each one once.
    """

    def __init__(self, on_corrupt: str) -> None:
        self.skip = on_corrupt == "skip"
        self.count: Counter[str] = Counter()
        self._lock = threading.Lock()

    @property
    def records(self) -> int:
        """How many different records were skipped."""
        return len(self.count)

    def report(self, error: InputError) -> None:
        """Raise ``error``, or count it and go on."""
        if not self.skip:
            raise error
        with self._lock:
            self.count[str(error)] += 1
            first = self.count[str(error)] == 1
        if first:
            _LOG.warning("skipped: %s", error)


def _opened(
    shard: Path | str,
) -> tuple[paths.Info, list[dict[str, Any]], dict[int, CorruptRecordError]]:
    """What a shard is, its index, and the records whose claims are not those of the index.

    TensorFlow's reader takes the memory that a record claims, and the process ends when there
    is not so much.  So claims are compared here, once for each process, when shards are opened.
    That is enough against shards of strangers.  In a shard that is replaced or damaged later,
    what lies at a record's place has no checksum that holds, and the reader stops there.  On a
    store, where each would be a request, they are compared when the record is read, in the graph.
    """
    info = paths.info(shard)  # first, so that it is not that of a later file
    index = shards.read_index(shard)
    return info, index, shards.false_claims(shard, index)


def _check_access(shard: str) -> None:
    """Raises InputError where TensorFlow may not read what Python may: it signs in by itself.

    In the graph every record would look damaged.
    """
    try:
        with tf.io.gfile.GFile(shard, "rb") as file:
            file.read(1)
    except tf.errors.OpError as error:
        what = error.message.splitlines()[0][:200]
        raise InputError(
            f"TensorFlow cannot read it ({type(error).__name__}: {what})",
            file=shard,
            mend=SIGN_IN["gs"],
        ) from None


class RecordSet:
    """The records of a set of shards, as columns over all of them.

    Complexes of up to ``data.max_chains`` chains among them; the others are left out.

    Attributes (each [n]): ``chain_id``, ``num_res``, ``num_msa``,
    ``num_templates``, ``num_chains``, ``resolution`` (Å), ``release_date``, ``cluster_size``,
    ``max_residue_fraction``; ``places`` [n, 3]: shard, offset and length.
    ``shards``: the files' paths; ``shard_bytes``: their sizes.  ``layouts``: the chains and
    entities of each record where complexes are read, else None; see ``layout``.

    Raises:
        InputError: no shards, no records, or (``on_corrupt=raise``) one that is
            known to be unreadable.
    """

    def __init__(
        self,
        sources: Sequence[str | os.PathLike],
        damage: Damage,
        config: DataConfig | None = None,
    ) -> None:
        self.name = ", ".join(map(str, sources))
        self._damage = damage
        config = config or DataConfig()
        self.shards = local_shards(sources, config.cache_dir, config.cache_gb << 30)
        for shard in self.shards:
            if shard.startswith("gs://"):
                _check_access(shard)
                break  # whoever may read one may read the others
        entries: list[dict[str, Any]] = []
        complexes, most = 0, max(config.max_chains, 1)
        places: list[tuple[int, int, int]] = []
        with ThreadPoolExecutor(_OPENED_AT_ONCE) as pool:
            found = list(pool.map(_opened, self.shards))
        self._infos = [info for info, _, _ in found]
        self.shard_bytes = [info.size for info in self._infos]
        for number, (shard, (_, index, false)) in enumerate(zip(self.shards, found, strict=True)):
            for record, entry in enumerate(index):
                error = false.get(record) or self._unusable(shard, entry)
                if error is not None:
                    damage.report(error)
                    continue
                if entry.get(NUM_CHAINS, 1) > most:  # in an index of schema 1 they are not counted
                    complexes += 1
                    continue
                entries.append(entry)
                places.append((number, entry["offset"], entry["length"]))
        if not entries:
            if not config.max_chains:
                what = "no single chains, complexes alone" if complexes else "no records"
            else:
                why = "complexes of more alone" if complexes else "no records"
                what = f"no assembly of up to {most} chains, {why}"
            raise InputError(f"the shards hold {what}", file=self.name, mend="convert chains")
        if complexes:
            why = f"more than data.max_chains={most} chains" if most > 1 else "not single chains"
            _LOG.info("%s: left out %d complexes, %s", self.name, complexes, why)
        self.places = np.array(places, np.int64)
        self.chain_id = [str(entry["chain_id"]) for entry in entries]

        def column(name: str, dtype: type) -> np.ndarray:
            try:
                return np.array([entry[name] for entry in entries], dtype)
            except (KeyError, TypeError, ValueError, OverflowError):
                raise InputError(
                    f"an index beside these shards has no {name}, or none that can be",
                    file=self.name,
                    mend=f"delete *{shards.INDEX_SUFFIX}; it is rebuilt",
                ) from None

        self.num_res = column("num_res", np.int32)
        self.num_msa = column("num_msa", np.int32)
        self.num_templates = column("num_templates", np.int32)
        self.resolution = column("resolution", np.float64)
        self.release_date = column("release_date", np.str_)
        self.cluster_size = column("cluster_size", np.int64)
        self.max_residue_fraction = column("max_residue_fraction", np.float64)
        counts = [entry.get(NUM_CHAINS, 1) for entry in entries]
        self.num_chains = np.array(counts, np.int32)
        self.layouts = None
        if config.max_chains:
            self.layouts = [layout(entry, self.name) for entry in entries]

    @staticmethod
    def _unusable(shard: object, entry: dict[str, Any]) -> InputError | None:
        if "error" in entry:
            return InputError(entry["error"])
        try:
            example.check_version(entry.get(example.VERSION_KEY))
        except InputError as error:
            return InputError(error.what, file=shard, item=entry["chain_id"], mend=error.mend)
        return None

    def __len__(self) -> int:
        return len(self.chain_id)

    def read(self, record: int, *, hits: Sequence[int] | None = None) -> dict[str, Any]:
        """The raw features of one monomer, with only these template hits.

        Raises:
            InputError: it cannot be read; the message names shard and chain.
        """
        wanted = None if hits is None else [hits]
        assembly = self.read_assembly(record, hits=wanted, omit=PAIRING_FEATURES)
        try:
            return assembly.chain()
        except InputError as error:
            shard = self.shards[self.places[record, 0]]
            raise InputError(error.what, file=shard, item=error.item, mend=error.mend) from None

    def read_assembly(
        self,
        record: int,
        *,
        hits: Sequence[Sequence[int]] | None = None,
        omit: Sequence[str] = (),
    ) -> Assembly:
        """One record, with only these template hits of each entity.

        Raises:
            InputError: it cannot be read; the message names shard and chain.
        """
        number, offset, length = (int(v) for v in self.places[record])
        shard, chain = self.shards[number], self.chain_id[record]
        try:
            data = shards.read_record(shard, offset, length)
            assembly = example.decode_assembly(data, hits=hits, omit=omit)
        except OSError as error:
            raise InputError(f"cannot be read: {error.strerror}", file=shard, item=chain) from None
        except InputError as error:
            raise type(error)(error.what, file=shard, item=chain, mend=error.mend) from None
        found = assembly.features["chain_id"]
        if found != chain:
            raise InputError(
                f"the index promises {chain} here, the record is {found}",
                file=shard,
                mend=f"delete {shards.index_path(shard)}; it is rebuilt",
            )
        return assembly

    def report(self, record: int) -> None:
        """Tell what is wrong with a record that was found damaged.

        Raises:
            InputError: with ``on_corrupt=raise``; in any case where its shard was replaced.
        """
        try:
            self._check_shard(int(self.places[record, 0]), self.chain_id[record])
        except ReplacedError:
            raise
        except InputError:
            pass  # met again below, and told with the record
        try:
            (self.read_assembly if self.layouts else self.read)(record)
        except InputError as error:
            self._damage.report(error)
        else:
            self._damage.report(
                InputError(
                    "could not be read, but can be now",
                    file=self.shards[self.places[record, 0]],
                    item=self.chain_id[record],
                    mend="check the file system",
                )
            )

    def check_shards(self) -> None:
        """Hold all shards to what they were when they were opened.

        Raises:
            InputError: one was replaced or removed since.
        """
        with ThreadPoolExecutor(_OPENED_AT_ONCE) as pool:
            for _ in pool.map(self._check_shard, range(len(self.shards))):
                pass

    def _check_shard(self, number: int, chain: str | None = None) -> None:
        shard = self.shards[number]
        if paths.info(shard).version != self._infos[number].version:
            raise ReplacedError(
                "the shard was replaced while it was being read",
                file=shard,
                item=chain,
                mend="start again, and write new shards under other names while a run reads these",
            )


def layout(entry: Mapping[str, Any], file: object) -> dict[str, list[int]]:
    """The chains and entities of a record, from its index: each a list.

    ``entity_id`` (each chain's), and of each entity ``entity_cluster_size`` and
    ``entity_num_…`` for each of its dimensions.

    Raises:
        InputError: the index does not say it, or contradicts itself.
    """
    names = [f"{PER_ENTITY}{name}" for name in ENTITY_DIMENSIONS]
    if entry.get(VERSION_KEY) == 1:  # one chain
        sizes = [[entry.get(name, 0)] for name in ENTITY_DIMENSIONS]
        found = dict(zip(names, sizes, strict=True))
        return found | {ENTITY_ID: [1], CLUSTER_SIZE: [entry["cluster_size"]]}
    found = {name: entry.get(name) for name in (*names, ENTITY_ID, CLUSTER_SIZE)}
    whole = all(
        isinstance(values, list) and all(type(value) is int for value in values)
        for values in found.values()
    )
    if not whole or not _consistent(found, entry):
        raise InputError(
            "the index beside these shards does not say which chains a record has",
            file=file,
            item=entry["chain_id"],
            mend=f"delete *{shards.INDEX_SUFFIX}; it is rebuilt",
        )
    return found


def _consistent(found: Mapping[str, list[int]], entry: Mapping[str, Any]) -> bool:
    residues = found[f"{PER_ENTITY}{NUM_RES}"]
    lengths = {len(values) for name, values in found.items() if name != ENTITY_ID}
    return (
        lengths == {len(residues)}
        and are_entity_ids(found[ENTITY_ID], len(residues))
        and entry.get(NUM_CHAINS) == len(found[ENTITY_ID])
        and entry.get(NUM_RES) == sum(residues[entity - 1] for entity in found[ENTITY_ID])
    )


class RecordTable:
    """The records of several sets under one numbering, for reading inside a graph.

    Args:
        labels: whether the true structure is read too.
    """

    def __init__(self, sets: Sequence[RecordSet], *, labels: bool = True) -> None:
        self._sets, self._labels = list(sets), labels
        self._first = np.cumsum([0, *map(len, sets)])
        files = np.cumsum([0, *(len(records.shards) for records in sets)])
        places = np.concatenate([r.places + [f, 0, 0] for r, f in zip(sets, files, strict=False)])
        shards = [str(shard) for records in sets for shard in records.shards]
        self._shards = tf.constant(shards)
        self._file, offset, length = (tf.constant(column) for column in places.T)
        self._columns = {
            "offset": offset,
            "length": length,
            decode.CHAIN_ID: tf.constant([name for records in sets for name in records.chain_id]),
            NUM_MSA: tf.constant(np.concatenate([r.num_msa for r in sets]), tf.int64),
        }
        if any(map(paths.is_url, shards)):
            sizes = np.concatenate([r.shard_bytes for r in sets])
            self._columns["shard_bytes"] = tf.constant(sizes[places[:, 0]], tf.int64)
        self._num_res = tf.constant(np.concatenate([r.num_res for r in sets]), tf.int32)
        self._num_hits = tf.constant(np.concatenate([r.num_templates for r in sets]), tf.int32)

    def sizes(self, number: Tensor) -> dict[str, Tensor]:
        """The residues and the template hits of records: ``num_res``, ``num_hits``."""
        return {
            "num_res": tf.gather(self._num_res, number),
            "num_hits": tf.gather(self._num_hits, number),
        }

    def read(self, number: Tensor, choices: Mapping[str, Tensor]) -> tuple[dict, Tensor]:
        """The raw features of a record and whether it is whole; see ``decode.read_record``."""
        entry = self._entry(number)
        raw, ok = decode.read_record({**entry, **choices}, labels=self._labels)
        return raw | {decode.CHAIN_ID: entry[decode.CHAIN_ID]}, ok

    def _entry(self, number: Tensor) -> dict[str, Tensor]:
        """What the index promises of a record."""
        entry = {name: tf.gather(column, number) for name, column in self._columns.items()}
        entry[NUM_RES] = tf.cast(tf.gather(self._num_res, number), tf.int64)
        entry[NUM_HITS] = tf.cast(tf.gather(self._num_hits, number), tf.int64)
        entry["shard"] = tf.gather(self._shards, tf.gather(self._file, number))
        return entry

    def name(self, number: Tensor) -> Tensor:
        """Shard and chain of a record, for messages."""
        shard, chain = self._shards[self._file[number]], self._columns[decode.CHAIN_ID][number]
        return tf.strings.join([shard, ": ", chain])

    def report(self, number: int) -> None:
        """Tell what is wrong with a record that was found damaged; see ``RecordSet.report``."""
        source = int(np.searchsorted(self._first, number, side="right")) - 1
        self._sets[source].report(int(number - self._first[source]))

    def check_shards(self) -> None:
        """Raises InputError where a shard was replaced; see ``RecordSet.check_shards``."""
        for records in self._sets:
            records.check_shards()
