"""Shards: TFRecord files written atomically, with an index for random access.

A shard ``x.tfrecord`` has beside it ``x.tfrecord.index.jsonl``: one line per
record with its place in the file and the numbers that sampling needs
(``records.example.index_entry``).  The index is a convenience: when it is
missing or does not fit the shard, ``read_index`` rebuilds it from the records.
Shards may lie on a store (``records.paths``); paths come back as ``Path``, URLs as text.

TFRecord framing: length (uint64, little-endian), masked CRC-32C of those
eight bytes, the data, masked CRC-32C of the data.
"""

from __future__ import annotations

import json
import os
import struct
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, BinaryIO

import google_crc32c

from records import example, listing, paths, slabs
from records.durable import partial_path, settle, sync_file
from records.errors import CorruptRecordError, InputError

SUFFIX = ".tfrecord"
INDEX_SUFFIX = ".index.jsonl"
_HEADER = 12  # length and its checksum
_FOOTER = 4  # the data's checksum
_MAX_LINE = 1 << 12  # bytes of an index for each record
_MEND = "convert the chains of this shard again, or set data.on_corrupt=skip"


def masked_crc(data: bytes) -> int:
    """CRC-32C, rotated and offset as the TFRecord format wants it."""
    crc = google_crc32c.value(data)
    return (((crc >> 15) | (crc << 17)) + 0xA282EAD8) & 0xFFFFFFFF


def frame(data: bytes) -> bytes:
    """``data`` as one TFRecord."""
    length = struct.pack("<Q", len(data))
    return b"".join(
        (length, struct.pack("<I", masked_crc(length)), data, struct.pack("<I", masked_crc(data)))
    )


def unframe(framed: bytes, shard: object, item: object) -> bytes:
    """The data of one framed record, its checksums verified.

    Raises:
        CorruptRecordError: the bytes are cut short or a checksum does not hold.
    """
    where = {"file": shard, "item": item, "mend": _MEND}
    if len(framed) < _HEADER:
        raise CorruptRecordError("the file ends inside this record", **where)
    length, length_crc = struct.unpack_from("<QI", framed)
    if masked_crc(framed[:8]) != length_crc:
        raise CorruptRecordError("checksum of the length fails", **where)
    if len(framed) < _HEADER + length + _FOOTER:
        raise CorruptRecordError("the file ends inside this record", **where)
    data = framed[_HEADER : _HEADER + length]
    if masked_crc(data) != struct.unpack_from("<I", framed, _HEADER + length)[0]:
        raise CorruptRecordError("checksum of the data fails", **where)
    return data


def index_path(shard: str | os.PathLike) -> Path | str:
    """Where the index of ``shard`` lies."""
    return _place(f"{os.fspath(shard)}{INDEX_SUFFIX}")


def _place(path: str | os.PathLike) -> Path | str:
    return paths.tidy(path) if paths.is_url(path) else Path(path)


class ShardWriter:
    """Writes one shard and its index; nothing appears under its name before ``close``.

    As a context manager it closes on success and discards the shard when an
    exception passes.

    Args:
        path: of the shard; for one on a store, its URL.
        spool: the path on this host under which a shard for a store is written first; without
            it, one in a temporary folder.
    """

    def __init__(self, path: str | os.PathLike, spool: str | os.PathLike | None = None) -> None:
        self.path = _place(path)
        here = self.path
        if isinstance(here, str):
            here = Path(spool or os.path.join(tempfile.mkdtemp(), paths.name(here)))
        here.parent.mkdir(parents=True, exist_ok=True)
        self._partial = partial_path(here)
        self._file: BinaryIO | None = open(self._partial, "wb")
        self._lines: list[str] = []
        self._offset = 0

    def __len__(self) -> int:
        return len(self._lines)

    @property
    def size(self) -> int:
        """Bytes written so far."""
        return self._offset

    def write(self, chain_id: str, serialized: bytes, entry: Mapping[str, Any]) -> None:
        """Append one record; ``entry`` is its ``records.example.index_entry``."""
        if self._file is None:
            raise ValueError(f"{self.path} is closed")
        framed = frame(serialized)
        self._file.write(framed)
        place = {"chain_id": chain_id, "offset": self._offset, "length": len(serialized)}
        self._lines.append(json.dumps({**entry, **place}, sort_keys=True))
        self._offset += len(framed)

    def close(self) -> Path | str:
        """Make shard and index durable under their names."""
        if self._file is None:
            return self.path
        sync_file(self._file)
        self._file.close()
        self._file = None
        index, lines = index_path(self.path), "".join(line + "\n" for line in self._lines)
        # A crash in between leaves a shard without index, which reading rebuilds.
        paths.remove(index)
        if isinstance(self.path, str):
            paths.upload(self._partial, self.path)
            self._partial.unlink()
        else:
            settle(self._partial, self.path)
        paths.write_whole(index, lines)
        return self.path

    def abandon(self) -> None:
        """Stop unfinished; what was written stays in the partial file, to be salvaged."""
        if self._file is not None:
            self._file.close()
            self._file = None

    def discard(self) -> None:
        """Forget what was written."""
        if self._file is not None:
            self._file.close()
            self._file = None
            self._partial.unlink(missing_ok=True)

    def __enter__(self) -> ShardWriter:
        return self

    def __exit__(self, kind: type | None, *_: object) -> None:
        if kind is None:
            self.close()
        else:
            self.discard()


def find_shards(sources: Sequence[str | os.PathLike]) -> list[Path | str]:
    """The shard files that a list of files, folders and patterns names, here or on a store.

    In the order of the list, those of a folder or pattern by name.

    Raises:
        InputError: an entry names nothing.
    """
    found: dict[Path | str, None] = {}
    for source in sources:
        text = paths.tidy(source)
        if paths.is_file(text):
            places = [text]
        elif paths.is_folder(text):
            places = [file.place for file in listing.find(text) if file.place.endswith(SUFFIX)]
        else:
            places = [p for p in listing.glob(text) if not p.endswith(INDEX_SUFFIX)]
            if not paths.is_url(text):
                places = [p for p in places if os.path.isfile(p)]
        places = [_place(p) for p in places if not paths.name(p).startswith(".")]
        if not places:
            raise InputError(
                "no shards here", file=source, mend="name *.tfrecord files or a folder of them"
            )
        found.update(dict.fromkeys(sorted(places)))
    return list(found)


def scan(shard: str | os.PathLike) -> Iterator[tuple[int, int, bytes | CorruptRecordError]]:
    """Walk a shard from front to back without its index.

    Yields:
        offset, length, and the record's data or, where its checksum fails, the
        error.  After a damaged length nothing more can be found.
    """
    size = paths.info(shard).size
    offset = 0
    number = 0
    with paths.open_reading(shard) as file:
        while offset < size:
            item = f"record {number} at byte {offset}"
            header = file.read(_HEADER)
            try:
                if len(header) < _HEADER:
                    unframe(header, shard, item)
                length, crc = struct.unpack("<QI", header)
                if masked_crc(header[:8]) != crc:
                    raise CorruptRecordError(
                        "checksum of the length fails", file=shard, item=item, mend=_MEND
                    )
                _check_claim(length, size - offset, shard, item)
            except CorruptRecordError as error:
                yield offset, 0, error
                return
            body = file.read(length + _FOOTER)
            try:
                data: bytes | CorruptRecordError = unframe(header + body, shard, item)
            except CorruptRecordError as error:
                data = error
            yield offset, length, data
            offset += _HEADER + length + _FOOTER
            number += 1


def _check_claim(length: int, left: int, shard: object, item: object) -> None:
    """Refuses a record that claims more than the file has or than a record may hold.

    Raises:
        CorruptRecordError: before memory is taken for it.
    """
    if length > slabs.MAX_BYTES:
        raise CorruptRecordError(f"claims {length} bytes", file=shard, item=item, mend=_MEND)
    if length + _HEADER + _FOOTER > left:
        what = "the file ends inside this record"
        raise CorruptRecordError(what, file=shard, item=item, mend=_MEND)


def read_record(shard: str | os.PathLike, offset: int, length: int) -> bytes:
    """The data of one record, its checksums verified."""
    left = paths.info(shard).size - offset
    _check_claim(length, left, shard, f"record at byte {offset}")
    framed = paths.read_bytes(shard, offset, _HEADER + length + _FOOTER)
    data = unframe(framed, shard, f"record at byte {offset}")
    if len(data) != length:
        raise CorruptRecordError(
            f"{len(data)} bytes long, the index says {length}",
            file=shard,
            item=f"record at byte {offset}",
            mend=f"delete {index_path(shard)}",
        )
    return data


def false_claims(
    shard: str | os.PathLike, entries: Sequence[Mapping[str, Any]]
) -> dict[int, CorruptRecordError]:
    """The records that claim, with a checksum that holds, another length than the index says.

    A reader that does not know the index takes the memory that a record claims before it finds
    that there is not so much to read.  Twelve bytes of each record are read here; on a store,
    where each would be a request, they are not: see ``tffold.data.decode``.
    """
    found: dict[int, CorruptRecordError] = {}
    if paths.is_url(shard):
        return found
    with open(shard, "rb") as file:
        for number, entry in enumerate(entries):
            header = os.pread(file.fileno(), _HEADER, entry["offset"])
            if len(header) < _HEADER:
                continue
            length, crc = struct.unpack("<QI", header)
            if length != entry["length"] and masked_crc(header[:8]) == crc:
                found[number] = CorruptRecordError(
                    f"claims {length} bytes, the index says {entry['length']}",
                    file=shard,
                    item=entry["chain_id"],
                    mend=f"delete {index_path(shard)}; if that does not help, {_MEND}",
                )
    return found


def read_index(shard: str | os.PathLike) -> list[dict[str, Any]]:
    """One entry per record: its index line, read from the index or, where that
    is missing or does not fit the shard, from the records themselves.

    Damaged records keep an entry with ``"error"`` (their message) when the
    index had to be rebuilt, so that the reader can report or skip them.

    Raises:
        InputError: the shard does not exist or is not a TFRecord file.
    """
    path = _place(shard)
    if not paths.is_file(path):
        raise InputError("no such shard", file=shard, mend="check the path")
    entries = _stored_index(path)
    return _rebuilt_index(path) if entries is None else entries


def _stored_index(path: Path | str) -> list[dict[str, Any]] | None:
    index = index_path(path)
    size = paths.info(path).size
    try:
        records = size // (_HEADER + _FOOTER) + 1
        if paths.info(index).size > records * _MAX_LINE:
            return None
        entries = [json.loads(line) for line in paths.read_bytes(index).decode().splitlines()]
        offset = 0
        for entry in entries:
            if entry["offset"] != offset or not 0 <= entry["length"] <= slabs.MAX_BYTES:
                return None
            offset += _HEADER + entry["length"] + _FOOTER
    except InputError as error:
        # A store that fails must not have the whole shard read for want of its index.
        if paths.is_url(path) and not isinstance(error, paths.MissingError):
            raise
        return None
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return None
    # A shard cut short keeps its index: the missing records then name themselves.
    return entries if entries and offset >= size else None


def _rebuilt_index(path: Path | str) -> list[dict[str, Any]]:
    entries: list[dict[str, Any]] = []
    for offset, length, data in scan(path):
        place = {"offset": offset, "length": length}
        try:
            if isinstance(data, CorruptRecordError):
                raise data
            entries.append({**example.index_entry(example.decode_assembly(data)), **place})
        except InputError as error:
            named = (
                error
                if error.file
                else type(error)(
                    error.what, file=path, item=f"record {len(entries)}", mend=error.mend
                )
            )
            entries.append({"chain_id": f"record {len(entries)}", "error": str(named), **place})
    return entries
