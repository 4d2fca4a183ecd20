"""Large files and whole folders, written to a store."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, TypeVar

from records import durable, listing, paths
from records.paths import Place
from records.stores import filesystem, retried

Value = TypeVar("Value")
_BLOCK = 16 << 20  # bytes of one request, which are held in memory; several files go at once


def write_stream(url: Place, write: Callable[[IO[bytes]], Value]) -> Value:
    """What ``write`` returns, which is given a file to write to: whole in the end, or not there.

    Unlike ``paths.whole_file`` no copy is made first. So ``write`` is called again, with a new
    file, when the store fails midway.

    Raises InputError.
    """
    text = paths.tidy(url)

    def once() -> Value:
        store = filesystem(text)
        file = store.open(store._strip_protocol(text), "wb", block_size=_BLOCK)
        try:
            value = write(file)
        except BaseException:
            # Closing it, as its finaliser does, would end the upload as if this were all.
            with contextlib.suppress(Exception):
                file.discard()
            with contextlib.suppress(AttributeError):
                file.closed = True
            raise
        file.close()
        return value

    return retried(text, once, writing=True)


@contextlib.contextmanager
def whole_folder(place: Place, marker: str) -> Iterator[Path]:
    """A folder of this host to write files to, which ends up at ``place``, whole or not at all.

    A store cannot rename: there the folder counts as whole when it has the file ``marker``, which
    is removed first and copied last. Files of an earlier folder of that name go.

    Raises OSError and InputError.
    """
    if not paths.is_url(place):
        with durable.whole_folder(paths.tidy(place)) as folder:
            yield folder
        return
    with tempfile.TemporaryDirectory(prefix="tffold-") as temporary:
        yield Path(temporary)
        files = {
            paths.join(place, path.relative_to(temporary).as_posix()): path
            for path in sorted(Path(temporary).rglob("*"))
            if path.is_file()
        }
        last = paths.join(place, marker)
        paths.remove(last)
        for entry in listing.find(place):
            if entry.place not in files:
                paths.remove(entry.place)
        for name, path in files.items():
            if name != last:
                paths.upload(path, name)
        paths.upload(files[last], last)
