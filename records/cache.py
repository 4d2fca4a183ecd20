"""Files of stores kept on this host: of bounded size, checked, shared by processes.

A cache is a folder.  Each file in it lies under a name made from its URL and version, so that a
replaced file is fetched anew; beside it stands its checksum, written last, so that a file that
a killed process left is not taken for whole.  When the files are more than the bound, those that
were used longest ago go first; those that a living process has said to use stay.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import logging
import os
import shutil
import socket
import threading
import uuid
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import IO

import google_crc32c

from records import paths, shards
from records.durable import partial_path
from records.errors import InputError

_LOG = logging.getLogger(__name__)
_CHUNK = 8 << 20
_CHECK = ".check.json"
_AT_ONCE = 8  # shards that are fetched at the same time


def checksum(path: str | os.PathLike) -> int:
    """CRC-32C of a file."""
    crc = 0
    with open(path, "rb") as file:
        while data := file.read(_CHUNK):
            crc = google_crc32c.extend(crc, data)
    return crc


class Cache:
    """A folder of this host with copies of files from stores.

    Args:
        folder: made if it is not there; processes of one host may share it.
        limit: bytes that the copies may take.
    """

    def __init__(self, folder: str | os.PathLike, limit: int) -> None:
        self.folder = Path(folder).expanduser()
        self.limit = limit
        self.folder.mkdir(parents=True, exist_ok=True)
        (self.folder / "users").mkdir(exist_ok=True)
        self._user: IO | None = None
        self._holding = threading.Lock()

    def place(self, url: str, version: str) -> Path:
        """Where the copy of a file lies or would lie."""
        key = hashlib.sha256(f"{url}|{version}".encode()).hexdigest()[:32]
        return self.folder / "files" / key[:2] / key / paths.name(url)

    def fetch(self, url: str, *, hold: bool = False) -> Path:
        """The copy of a file on this host, fetched if it is not here whole.

        With ``hold`` nobody removes it while this process lives.

        Raises:
            InputError: the store does not give it, or it does not fit.
        """
        found = paths.info(url)
        path = self.place(url, found.version)
        if hold:
            self._hold(path.parent.name)
        with self._locked(path.parent.name):
            if not self._whole(path, found.size):
                self.make_room(found.size, url)
                path.parent.mkdir(parents=True, exist_ok=True)
                paths.download(url, path)
                check = {"url": url, "size": found.size, "crc": checksum(path)}
                if paths.info(url).version != found.version:
                    raise InputError(
                        "was replaced while it was copied", file=url,
                        mend="run again when nothing writes there",
                    )  # fmt: skip
                if path.stat().st_size != found.size:
                    raise InputError(
                        f"has {path.stat().st_size} bytes, the store says {found.size}", file=url,
                        mend="run again when nothing writes there",
                    )  # fmt: skip
                _replace(path.parent / (path.name + _CHECK), json.dumps(check))
            os.utime(path.parent / (path.name + _CHECK))
        return path

    def _whole(self, path: Path, size: int) -> bool:
        try:
            check = json.loads((path.parent / (path.name + _CHECK)).read_bytes())
            if path.stat().st_size == size == check["size"] and checksum(path) == check["crc"]:
                return True
            _LOG.warning("%s: damaged on this host's disk, fetched again: %s", path, check["url"])
        except (OSError, ValueError, KeyError, TypeError):
            pass
        return False

    @contextmanager
    def _locked(self, name: str) -> Iterator[None]:
        """Holds off the other processes that want the same, or that make room."""
        folder = self.folder / "locks"
        folder.mkdir(exist_ok=True)
        with open(folder / name[:2], "a+b") as file:  # 256 locks are enough
            fcntl.flock(file, fcntl.LOCK_EX)
            yield

    def _hold(self, key: str) -> None:
        """Says in a file, locked while this process lives, that it uses a copy."""
        with self._holding:
            if self._user is None:
                name = f"{socket.gethostname()}-{os.getpid()}-{uuid.uuid4().hex[:8]}"
                self._user = open(self.folder / "users" / name, "a+b")
                fcntl.flock(self._user, fcntl.LOCK_EX)
            self._user.write(key.encode() + b"\n")
            self._user.flush()

    def _held(self) -> set[str]:
        held: set[str] = set()
        for path in (self.folder / "users").iterdir():
            with open(path, "rb") as file:
                own = self._user is not None and os.path.samefile(path, self._user.name)
                if not own:
                    try:
                        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    except OSError:  # its process lives
                        own = True
                    else:
                        path.unlink(missing_ok=True)
                if own:
                    held.update(file.read().decode().split())
        return held

    def make_room(self, size: int, url: str) -> None:
        """Removes what was used longest ago until ``size`` bytes fit.  Raises InputError."""
        with open(self.folder / "room.lock", "a+b") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            entries = []
            for folder in (self.folder / "files").glob("??/*"):
                try:
                    took = sum(path.stat().st_size for path in folder.iterdir())
                    entries.append((folder.stat().st_mtime, took, folder))
                    checks = list(folder.glob(f"*{_CHECK}"))
                    if checks:
                        entries[-1] = (checks[0].stat().st_mtime, took, folder)
                except OSError:
                    continue
            total, held = sum(took for _, took, _ in entries), self._held()
            for _, took, folder in sorted(entries, key=lambda entry: entry[:2]):
                if total + size <= self.limit:
                    break
                if folder.name not in held:
                    shutil.rmtree(folder, ignore_errors=True)
                    total -= took
        if total + size > self.limit:
            raise InputError(
                f"{size:,} bytes more do not fit into {self.limit:,}, of which {total:,} are used",
                file=url, item=str(self.folder), mend="raise data.cache_gb",
            )  # fmt: skip
        if shutil.disk_usage(self.folder).free < size:
            raise InputError(
                f"no space for {size:,} bytes", file=self.folder,
                mend="free space there or set data.cache_dir",
            )  # fmt: skip


def _replace(path: Path, content: str) -> None:
    partial = partial_path(path)
    partial.write_text(content)
    os.replace(partial, path)


def _tensorflow_reads(url: str) -> bool:
    """Whether TensorFlow reads a URL by itself: Cloud Storage, but for an emulator of it."""
    return url.startswith("gs://") and not os.environ.get("STORAGE_EMULATOR_HOST")


def local_shards(
    sources: Sequence[str | os.PathLike],
    folder: str | os.PathLike,
    limit: int,
) -> list[str]:
    """The shards that sources name, where TensorFlow can read them: paths or its own URLs.

    Args:
        sources: files, folders and patterns, here or on stores.
        folder: of the cache for those that TensorFlow cannot read; its copies stay while this
            process lives, with their indexes beside them.
        limit: bytes of that cache.

    Raises:
        InputError: a source names nothing, cannot be read, or does not fit into the cache.
    """
    places = [str(place) for place in shards.find_shards(sources)]
    far = [p for p in places if paths.is_url(p) and not _tensorflow_reads(p)]
    if not far:
        return places
    total = sum(paths.info(place).size for place in far)
    if total > limit:
        raise InputError(
            f"{len(far)} shards of {total:,} bytes do not fit into {limit:,}", file=far[0],
            mend="raise data.cache_gb, name fewer shards, or keep them on gs://",
        )  # fmt: skip
    cache = Cache(folder, limit)

    def fetch(url: str) -> str:
        path = cache.fetch(url, hold=True)
        index = str(shards.index_path(url))
        try:
            beside = path.parent / paths.name(index)
            if not beside.exists():
                paths.download(index, beside)
        except paths.MissingError:
            pass  # rebuilt from the records
        return str(path)

    with ThreadPoolExecutor(_AT_ONCE) as pool:
        found = dict(zip(far, pool.map(fetch, far), strict=True))
    return [found.get(place, place) for place in places]
