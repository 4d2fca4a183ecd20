"""Files and folders that are whole under their name, or not there at all.

What is written goes to a partial name beside the final one (``.name.PID.partial``), is forced to
the disk, and then takes its name, and the place of what had it. When the writing fails, the
partial one is removed; a killed process leaves it, for ``clear_partials``.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO


def sync_file(file: IO) -> None:
    """Forces what was written to ``file`` so far to the disk."""
    file.flush()
    os.fsync(file.fileno())


def _sync(path: Path) -> None:
    """Forces a file's bytes, or the names in a folder, to the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def partial_path(path: Path) -> Path:
    """The name that a file or folder has while this process writes it."""
    return path.with_name(f".{path.name}.{os.getpid()}.partial")


def settle(partial: Path, path: Path) -> None:
    """Gives a partial file or folder, which is on the disk, its name."""
    if partial.is_dir() and path.exists():
        shutil.rmtree(path)
    os.replace(partial, path)
    _sync(path.parent)


def clear_partials(folder: Path, beginning: str) -> None:
    """Removes what killed processes left of files and folders whose names begin so.

    What this process is writing stays.
    """
    own = f".{os.getpid()}.partial"
    for path in folder.glob(f".{beginning}*.partial"):
        if not path.name.endswith(own):
            _remove(path)


@contextmanager
def whole_file(path: str | os.PathLike, mode: str = "wb") -> Iterator[IO]:
    """A file to write to; ``mode`` is ``"wb"`` or ``"w"`` (UTF-8).  Raises OSError."""
    path = Path(path)
    partial = partial_path(path)
    try:
        with open(partial, mode, encoding=None if "b" in mode else "utf-8") as file:
            yield file
            sync_file(file)
        settle(partial, path)
    except BaseException:
        _remove(partial)
        raise


def write_whole(path: str | os.PathLike, content: str | bytes) -> None:
    """Writes a file at once.  Raises OSError."""
    with whole_file(path, "w" if isinstance(content, str) else "wb") as file:
        file.write(content)


@contextmanager
def whole_folder(path: str | os.PathLike) -> Iterator[Path]:
    """A folder to write files to; all of them are forced to the disk.  Raises OSError."""
    path = Path(path)
    partial = partial_path(path)
    _remove(partial)
    try:
        partial.mkdir(parents=True)
        yield partial
        for folder, _, names in os.walk(partial):
            for name in (*names, ""):
                _sync(Path(folder, name))
        settle(partial, path)
    except BaseException:
        _remove(partial)
        raise


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)
