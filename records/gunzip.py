"""Gzipped files, inflated up to a bound: a small file may hold endless zeros."""

from __future__ import annotations

import gzip
import io
import zlib

from records.errors import InputError

MAGIC = b"\x1f\x8b"
MAX_FILE_BYTES = 2 << 30  # of an inflated file
_MOST_PACKED = 1032  # bytes that zlib packs into one, at most
_CHUNK = 1 << 20


def gunzipped(data: bytes, file: object, mend: str) -> bytes:
    """The content of a file, inflated when it is gzip.

    Raises:
        InputError: it is broken, or would inflate to more than ``MAX_FILE_BYTES``;
            no memory is taken for it then.
    """
    if data[:2] != MAGIC:
        return data
    try:
        if len(data) * _MOST_PACKED > MAX_FILE_BYTES:
            _check_size(data, file)
        return gzip.decompress(data)
    except (OSError, EOFError, zlib.error) as error:
        raise InputError("broken gzip", file=file, item=str(error), mend=mend) from error


def _check_size(data: bytes, file: object) -> None:
    """Inflate without keeping anything, up to the bound."""
    size = 0
    with gzip.GzipFile(fileobj=io.BytesIO(data)) as stream:
        while chunk := stream.read(_CHUNK):
            size += len(chunk)
            if size > MAX_FILE_BYTES:
                raise InputError(
                    f"{len(data)} bytes inflate to more than {MAX_FILE_BYTES}",
                    file=file,
                    mend="inflate it yourself if you trust it",
                )
