"""What lies in a folder or below it, on this host or on any store (see ``records.paths``)."""

from __future__ import annotations

import glob as local_glob
import os
from collections.abc import Iterable

from records.paths import Info, Place, is_url, tidy
from records.stores import reach, refused, retried


def list_folder(place: Place) -> list[Info]:
    """The files and folders in a folder, by name.

    Stores may list late what was written a moment ago.

    Raises:
        MissingError: there is no such folder.
        InputError: it cannot be read.
    """
    text = tidy(place)
    if not is_url(text):
        try:
            with os.scandir(text) as listing:
                found = [
                    Info(entry.path, 0 if entry.is_dir() else entry.stat().st_size, entry.is_dir())
                    for entry in listing
                ]
        except OSError as error:
            raise refused(text, error) from error
        return sorted(found, key=lambda entry: entry.name)

    def listed() -> list[Info]:
        store, key = reach(text)
        return _entries(text, key, store.ls(key, detail=True))

    return retried(text, listed)


def find(place: Place) -> list[Info]:
    """All files below a folder, at any depth, by place; none where there is no folder.

    One request lists a thousand of them on a store.  Raises InputError.
    """
    text = tidy(place)
    if not is_url(text):
        return [
            Info(path, os.path.getsize(path), False)
            for path in sorted(local_glob.glob(f"{local_glob.escape(text)}/**", recursive=True,
                                               include_hidden=True))
            if os.path.isfile(path)
        ]  # fmt: skip

    def found() -> list[Info]:
        store, key = reach(text)
        return _entries(text, key, store.find(key, detail=True).values())

    return retried(text, found)


def _entries(text: str, key: str, listed: Iterable[dict]) -> list[Info]:
    scheme = text.split("://", 1)[0]
    entries = []
    for found in listed:
        below = str(found["name"])
        if below.rstrip("/") == key.rstrip("/"):
            continue  # a folder's own mark, which some tools write
        place = below if is_url(below) else f"{scheme}://{below.strip('/')}"
        entries.append(Info.of_store(place.rstrip("/"), found))
    return sorted(entries, key=lambda entry: entry.place)


def glob(pattern: Place) -> list[str]:
    """The files and folders that a pattern with ``*``, ``?``, ``[ab]`` or ``**`` names, sorted.

    Raises InputError.
    """
    text = tidy(pattern)
    if not is_url(text):
        return sorted(local_glob.glob(text, recursive=True))
    scheme = text.split("://", 1)[0]

    def found() -> list[str]:
        store, key = reach(text)
        names = (str(name) for name in store.glob(key))
        return sorted(n if is_url(n) else f"{scheme}://{n.strip('/')}" for n in names)

    return retried(text, found)
