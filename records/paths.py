"""Files by path or by URL: what is read and written may lie on this host or on any store.

A place is a path or a URL (``s3://bucket/key``, ``gs://bucket/key``, ``https://…``,
``memory://…``) that fsspec knows.  All functions here take either.  They differ as little as
stores allow:

* A file is whole under its name or absent.  On this host ``records.durable`` sees to it; on a
  store an upload is atomic by itself, and is begun only when all bytes are there.
* Stores have no folders, only names with slashes: ``make_folder`` does nothing there, and a
  folder without files does not exist.
* Time-outs, resets and answers of the kind 5xx and 429 are tried again, with waits that double.
* What cannot be mended by waiting raises ``InputError`` with the URL and the mend.

Keys, regions and endpoints come from where the tools of each cloud look for them; fsspec's own
variables (``FSSPEC_S3_ANON=true``) and files go before.  Without credentials a store is read
anonymously.
"""

from __future__ import annotations

import io
import os
import re
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from records import durable
from records.errors import InputError
from records.stores import MissingError, beyond_the_end, reach, refused, retried

Place = str | os.PathLike
_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+:/?/")
_IN_MEMORY = 64 << 20  # bytes of an upload that are kept in memory; more go to a temporary file
_CHUNK = 8 << 20  # bytes read at a time


@dataclass(frozen=True)
class Info:
    """A file or folder as its store lists it.

    ``version`` differs when the content was replaced: the store's generation or entity tag,
    on this host the time of the last change.
    """

    place: str
    size: int
    is_folder: bool
    version: str = ""

    @property
    def name(self) -> str:
        return name(self.place)

    @classmethod
    def of_store(cls, place: str, found: dict) -> Info:
        """What fsspec tells of a file or folder."""
        marks = (found.get(key) for key in ("generation", "ETag", "etag", "created"))
        version = next((str(mark) for mark in marks if mark), "")
        return cls(place, int(found.get("size") or 0), found.get("type") == "directory", version)


def is_url(place: Place) -> bool:
    """Whether a place is a URL; ``file://`` counts as a path of this host."""
    text = os.fspath(place)
    return bool(_URL.match(text)) and not text.startswith("file:")


def tidy(place: Place) -> str:
    """A place as text: without a slash at its end, '~' filled in, URLs with both slashes.

    A URL that went through ``pathlib.Path`` has lost one of its slashes.
    """
    text = os.fspath(place)
    if not is_url(text):
        return os.path.expanduser(text.removeprefix("file://"))
    scheme, rest = re.split(r":/+", text, maxsplit=1)
    if scheme == "memory":
        return f"memory://{rest.strip('/')}"
    return f"{scheme}://{rest.rstrip('/')}"


def join(place: Place, *parts: str) -> str:
    """The place of a file below a folder."""
    text = tidy(place)
    if not is_url(text):
        return os.path.join(text, *parts)
    return "/".join((text, *(part.strip("/") for part in parts)))


def name(place: Place) -> str:
    """The last part of a place."""
    return tidy(place).rstrip("/").rsplit("/", 1)[-1]


def parent(place: Place) -> str:
    """The folder in which a file lies."""
    text = tidy(place)
    return text.rsplit("/", 1)[0] if is_url(text) else (os.path.dirname(text) or ".")


def info(place: Place) -> Info:
    """What is known of a file or folder.

    Raises:
        MissingError: there is none.
        InputError: it cannot be reached.
    """
    text = tidy(place)
    if is_url(text):

        def told() -> Info:
            store, key = reach(text)
            return Info.of_store(text, store.info(key))

        return retried(text, told)
    try:
        found = os.stat(text)
    except OSError as error:
        raise refused(text, error) from error
    return Info(text, found.st_size, os.path.isdir(text), str(found.st_mtime_ns))


def exists(place: Place) -> bool:
    """Whether there is a file or folder.  Raises InputError when that cannot be found out."""
    return _kind(place) is not None


def is_file(place: Place) -> bool:
    return _kind(place) == "file"


def is_folder(place: Place) -> bool:
    return _kind(place) == "folder"


def _kind(place: Place) -> str | None:
    if not is_url(place):
        text = tidy(place)
        return "folder" if os.path.isdir(text) else "file" if os.path.exists(text) else None
    try:
        return "folder" if info(place).is_folder else "file"
    except MissingError:
        return None


def read_bytes(place: Place, offset: int = 0, length: int | None = None) -> bytes:
    """The bytes of a file, or ``length`` of them from ``offset`` on (fewer where it ends).

    Raises:
        MissingError: there is no such file (any more).
        InputError: it cannot be read.
    """
    text = tidy(place)
    if is_url(text):
        end = None if length is None else offset + length
        whole = not offset and length is None
        if length == 0:
            return b""

        def read() -> bytes:
            store, key = reach(text)
            if whole:
                return store.cat_file(key)
            try:
                return store.cat_file(key, start=offset, end=end)
            except Exception as error:
                if beyond_the_end(error):
                    return b""
                raise

        return retried(text, read)
    try:
        with open(text, "rb") as file:
            if offset:
                file.seek(offset)
            return file.read(-1 if length is None else length)
    except OSError as error:
        raise refused(text, error) from error


def read_text(place: Place) -> str:
    """The text of a UTF-8 file.  Raises InputError."""
    try:
        return read_bytes(place).decode()
    except UnicodeDecodeError as error:
        raise InputError("not UTF-8 text", file=tidy(place), mend="write it again") from error


@contextmanager
def open_reading(place: Place) -> Iterator[IO[bytes]]:
    """A binary file to read and to seek in; a large one on a store is read piece by piece.

    Raises InputError.
    """
    text = tidy(place)
    if not is_url(text):
        try:
            file = open(text, "rb")
        except OSError as error:
            raise refused(text, error) from error
        with file:
            yield file
        return
    size = info(text).size
    with io.BufferedReader(_Pieces(text, size), _CHUNK) as file:
        yield file


class _Pieces(io.RawIOBase):
    """A file on a store, read by ranges; each range is tried again by itself."""

    def __init__(self, text: str, size: int) -> None:
        self._text, self._size, self._at = text, size, 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        start = {os.SEEK_SET: 0, os.SEEK_CUR: self._at, os.SEEK_END: self._size}[whence]
        self._at = max(start + offset, 0)
        return self._at

    def tell(self) -> int:
        return self._at

    def readinto(self, buffer: memoryview) -> int:
        count = min(len(buffer), self._size - self._at)
        if count <= 0:
            return 0
        data = read_bytes(self._text, self._at, count)
        if len(data) != count:
            raise InputError(
                "was replaced by a shorter file while it was read", file=self._text,
                mend="run again when nothing writes there",
            )  # fmt: skip
        buffer[:count] = data
        self._at += count
        return count


@contextmanager
def whole_file(place: Place, mode: str = "wb") -> Iterator[IO]:
    """A file to write to, ``mode`` ``"wb"`` or ``"w"`` (UTF-8): whole at the end, or not there.

    Raises:
        OSError: this host's disk refuses.
        InputError: the store refuses.
    """
    text = tidy(place)
    if not is_url(text):
        with durable.whole_file(text, mode) as file:
            yield file
        return
    with tempfile.SpooledTemporaryFile(max_size=_IN_MEMORY) as raw:
        if "b" in mode:
            yield raw
        else:
            lines = io.TextIOWrapper(raw, encoding="utf-8", write_through=True)
            yield lines
            lines.flush()
            lines.detach()
        raw.seek(0, os.SEEK_END)
        if raw.tell() > _IN_MEMORY:
            with tempfile.NamedTemporaryFile() as file:
                raw.seek(0)
                shutil.copyfileobj(raw, file, _CHUNK)
                file.flush()
                upload(file.name, text)
        else:
            raw.seek(0)
            write_whole(text, raw.read())


def write_whole(place: Place, content: str | bytes) -> None:
    """Writes a file at once, whole or not at all.  Raises OSError and InputError."""
    text = tidy(place)
    if not is_url(text):
        durable.write_whole(text, content)
        return
    data = content.encode() if isinstance(content, str) else bytes(content)

    def write() -> None:
        store, key = reach(text)
        store.pipe_file(key, data)

    retried(text, write, writing=True)


def upload(path: str | os.PathLike, place: Place) -> None:
    """Copies a file of this host to any place, whole or not at all, of whatever size.

    Raises OSError and InputError.
    """
    text = tidy(place)
    if not is_url(text):
        with open(path, "rb") as source, durable.whole_file(text) as target:
            shutil.copyfileobj(source, target, _CHUNK)
        return
    size = os.path.getsize(path)

    def put() -> None:
        store, key = reach(text)
        store.put_file(os.fspath(path), key)
        found = int(store.info(key)["size"])
        if found != size:
            raise TimeoutError(f"{found} bytes arrived of {size}")  # tried again

    retried(text, put, writing=True)


def download(place: Place, path: str | os.PathLike) -> None:
    """Copies a file from any place to this host, whole or not at all.

    Raises OSError and InputError.
    """
    text = tidy(place)
    if not is_url(text):
        with open_reading(text) as source, durable.whole_file(path) as target:
            shutil.copyfileobj(source, target, _CHUNK)
        return
    with durable.whole_file(path) as target:

        def get() -> None:
            store, key = reach(text)
            store.get_file(key, target.name)
            size, found = store.info(key)["size"], os.path.getsize(target.name)
            if size is not None and found != size:
                raise TimeoutError(f"{found} bytes arrived of {size}")  # tried again

        retried(text, get)


def make_folder(place: Place) -> None:
    """Makes a folder where there are such.  Raises OSError."""
    if not is_url(place):
        Path(tidy(place)).mkdir(parents=True, exist_ok=True)


def remove(place: Place) -> None:
    """Removes a file, or a folder with all that is in it; nothing where there is none.

    Raises OSError and InputError.
    """
    text = tidy(place)
    if not is_url(text):
        if os.path.isdir(text) and not os.path.islink(text):
            shutil.rmtree(text)
        else:
            Path(text).unlink(missing_ok=True)
        return

    def removed() -> None:
        store, key = reach(text)
        try:
            store.rm(key, recursive=True)
        except FileNotFoundError:
            pass

    retried(text, removed, writing=True)
