"""What a conversion reads from stores, kept on this host's disk while it runs.

The converting processes share one folder of bounded size: what was fetched ahead for them, the
structures that serve several chains as templates, and the listings of folders.  Without such a
folder everything is fetched when it is read.  A file in a zip archive has the archive's place,
a slash, and its name there; it is read by itself, the rest of the archive is not fetched.
"""

from __future__ import annotations

import hashlib
import json
import os
import struct
import threading
import zipfile
import zlib
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from pathlib import Path
from typing import TypeVar

import google_crc32c

from records import listing, paths
from records.durable import partial_path
from records.errors import InputError

Item = TypeVar("Item")

AT_ONCE = 32  # requests in flight
ARCHIVE = ".zip"
_LOCAL_HEADER = 30  # bytes before the name of a file in an archive
_MAX_MEMBER = 1 << 30  # bytes of a file in an archive
_AGAIN = "get the archive again"


class Spool:
    """A folder with what was fetched, of at most ``limit`` bytes (a little more at times)."""

    def __init__(self, folder: Path, limit: int) -> None:
        self.folder, self.limit = folder, limit
        self._added = 0
        self._lock = threading.Lock()
        folder.mkdir(parents=True, exist_ok=True)

    def _path(self, key: str) -> Path:
        name = hashlib.sha256(key.encode()).hexdigest()[:32]
        return self.folder / name[:2] / name

    def get(self, key: str) -> bytes | None:
        """What was put under a key; None if it is not there (any more) or is damaged."""
        path = self._path(key)
        try:
            framed = path.read_bytes()
            os.utime(path)
        except OSError:
            return None
        data = framed[4:]
        return data if framed[:4] == struct.pack("<I", google_crc32c.value(data)) else None

    def put(self, key: str, data: bytes) -> None:
        path = self._path(key)
        path.parent.mkdir(exist_ok=True)
        partial = partial_path(path.with_name(f"{path.name}-{threading.get_ident()}"))
        partial.write_bytes(struct.pack("<I", google_crc32c.value(data)) + data)
        os.replace(partial, path)
        with self._lock:
            self._added += len(data)
            if self._added * 16 > self.limit:
                self._added = 0
                self._make_room()

    def _make_room(self) -> None:
        found = []
        for path in self.folder.glob("??/*"):
            try:
                status = path.stat()
                found.append((status.st_mtime, status.st_size, path))
            except OSError:
                continue
        total = sum(size for _, size, _ in found)
        for _, size, path in sorted(found):
            if total <= self.limit * 3 // 4:
                break
            path.unlink(missing_ok=True)
            total -= size


_spool: Spool | None = None
_sizes: dict[str, int] = {}  # of files that were listed


def use(folder: str | os.PathLike | None, limit: int = 0) -> None:
    """Keeps from now on what this process fetches in a folder; None ends that."""
    global _spool
    _spool = None if folder is None else Spool(Path(folder), limit)


def in_use() -> tuple[str, int] | None:
    """Folder and limit, for other processes."""
    return None if _spool is None else (str(_spool.folder), _spool.limit)


def _keep(key: str, make: Callable[[], bytes]) -> bytes:
    if _spool is None:
        return make()
    data = _spool.get(key)
    if data is None:
        data = make()
        _spool.put(key, data)
    return data


def _archive(place: str) -> tuple[str, str] | None:
    """The archive and the name in it of a place that lies in one."""
    archive, middle, member = place.partition(f"{ARCHIVE}/")
    if not middle or (not paths.is_url(place) and os.path.exists(place)):
        return None
    return archive + ARCHIVE, member


def read(place: paths.Place) -> bytes:
    """The bytes of a file on this host, on a store, or in an archive on either.

    Raises InputError.
    """
    text = paths.tidy(place)
    inside = _archive(text)
    if not paths.is_url(text) and inside is None:
        return paths.read_bytes(text)
    if inside is not None:
        return _keep(text, lambda: _read_member(*inside))
    return _keep(text, lambda: paths.read_bytes(text))


def read_part(place: paths.Place, offset: int, length: int) -> bytes:
    """A stretch of a file.  Raises InputError."""
    text = paths.tidy(place)
    if not paths.is_url(text):
        return paths.read_bytes(text, offset, length)
    return _keep(f"{text}|{offset}|{length}", lambda: paths.read_bytes(text, offset, length))


def find(place: paths.Place) -> list[paths.Info]:
    """All files below a folder, or in an archive.  Raises InputError."""
    text = paths.tidy(place)
    if text.lower().endswith(ARCHIVE):
        found = [
            paths.Info(f"{text}/{name}", size, False)
            for name, (_, _, _, size) in _directory(text).items()
        ]
    elif not paths.is_url(text):
        return listing.find(text)
    else:

        def listed() -> bytes:
            return json.dumps([[f.place, f.size] for f in listing.find(text)]).encode()

        found = [
            paths.Info(path, size, False) for path, size in json.loads(_keep(f"{text}/**", listed))
        ]
    _sizes.update((file.place, file.size) for file in found)
    return found


def size(place: paths.Place) -> int:
    """The bytes of a file, as it was listed; -1 where it cannot be said.

    A store is not asked for each of what may be a hundred thousand files.
    """
    text = paths.tidy(place)
    if text in _sizes or paths.is_url(text):
        return _sizes.get(text, -1)
    try:
        return paths.info(text).size
    except InputError:
        return -1  # told per chain, later


@lru_cache(maxsize=4)
def _directory(archive: str) -> dict[str, tuple[int, int, int, int]]:
    """Name -> offset, stored size, method, size of each file in an archive."""

    def read_directory() -> bytes:
        try:
            with paths.open_reading(archive) as file, zipfile.ZipFile(file) as opened:
                table = {
                    one.filename: (one.header_offset, one.compress_size, one.compress_type,
                                   one.file_size)
                    for one in opened.infolist()
                    if not one.is_dir()
                }  # fmt: skip
        except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError) as error:
            if isinstance(error, InputError):
                raise
            raise InputError(f"no zip archive ({error})", file=archive, mend=_AGAIN) from error
        return json.dumps(table).encode()

    data = read_directory() if not paths.is_url(archive) else _keep(f"{archive}!", read_directory)
    return {name: tuple(entry) for name, entry in json.loads(data).items()}


def _read_member(archive: str, member: str) -> bytes:
    """One file of an archive, by its stretch of bytes alone."""
    entry = _directory(archive).get(member)
    if entry is None:
        raise paths.MissingError("no such file in the archive", file=archive, item=member)
    offset, stored, method, full = entry
    where = {"file": archive, "item": member, "mend": _AGAIN}
    if full > _MAX_MEMBER:
        raise InputError(f"claims {full:,} bytes", **where)
    header = paths.read_bytes(archive, offset, _LOCAL_HEADER + len(member.encode()) + 512 + stored)
    if len(header) < _LOCAL_HEADER or header[:4] != b"PK\x03\x04":
        raise InputError("not where the archive's directory says", **where)
    name_length, extra_length = struct.unpack_from("<HH", header, 26)
    start = _LOCAL_HEADER + name_length + extra_length
    data = header[start : start + stored]
    if len(data) < stored:
        data += paths.read_bytes(archive, offset + start + len(data), stored - len(data))
    if method == zipfile.ZIP_STORED:
        return data
    if method != zipfile.ZIP_DEFLATED:
        raise InputError("compressed in a way that is not known", **where)
    try:
        inflated = zlib.decompressobj(-15).decompress(data, full + 1)
    except zlib.error as error:
        raise InputError(f"damaged ({error})", **where) from error
    if len(inflated) != full:
        raise InputError(f"inflates to another size than {full:,} bytes", **where)
    return inflated


def each(function: Callable[[Item], object], items: Iterable[Item]) -> list:
    """``function`` of every item, with many requests in flight."""
    listed = list(items)
    if len(listed) < 2:
        return [function(item) for item in listed]
    with ThreadPoolExecutor(min(AT_ONCE, len(listed))) as pool:
        return list(pool.map(function, listed))


def ahead(
    items: Iterable[Item], fetch: Callable[[Item], object], depth: int = AT_ONCE
) -> Iterator[Item]:
    """The items, each when ``fetch`` has seen it; ``depth`` of them are fetched at a time.

    What ``fetch`` raises is left to who reads: it is met again there and told.
    """
    if _spool is None:
        yield from items
        return
    pool = ThreadPoolExecutor(depth)
    source = iter(items)
    waiting: list[tuple[Item, object]] = []
    try:
        while True:
            while len(waiting) < depth:
                item = next(source, None)
                if item is None:
                    break
                waiting.append((item, pool.submit(fetch, item)))
            if not waiting:
                return
            item, fetched = waiting.pop(0)
            fetched.exception()
            yield item
    finally:
        pool.shutdown(cancel_futures=True)
