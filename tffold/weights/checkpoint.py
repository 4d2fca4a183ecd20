"""Checkpoints: one folder per step, whole or absent, checked when read.

``step-00001200/`` holds ``arrays.bin`` (every array's bytes, one after the other) and
``checkpoint.json``: what lies where, with a CRC-32C of every array, the run's configuration, its
place in the data (the step itself: the data are a function of seed and step) and the versions of
what wrote it. A folder gets its name only when all of it is on the disk.
"""

from __future__ import annotations

import json
import logging
import os
import platform
import re
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import google_crc32c
import numpy as np

from records.durable import settle, sync_file
from records.errors import InputError

_LOG = logging.getLogger(__name__)
FORMAT = 1
FOLDER = "checkpoints"  # in a run folder
ARRAYS, DESCRIPTION = "arrays.bin", "checkpoint.json"
_NAME = re.compile(r"step-(\d{8,})$")


@dataclass
class Checkpoint:
    """What a checkpoint folder holds."""

    path: Path
    description: dict[str, Any]
    arrays: dict[str, np.ndarray]

    @property
    def step(self) -> int:
        return self.description["step"]


class CheckpointError(InputError):
    """A checkpoint that cannot be read or written."""


def folder_name(step: int) -> str:
    return f"step-{step:08d}"


def steps_in(folder: str | Path) -> list[int]:
    """Steps of the complete checkpoints in a folder, oldest first."""
    folder = Path(folder)
    if not folder.is_dir():
        return []
    matches = (_NAME.match(entry.name) for entry in folder.iterdir() if entry.is_dir())
    return sorted(int(match.group(1)) for match in matches if match)


def save(
    folder: str | Path,
    step: int,
    arrays: Mapping[str, np.ndarray],
    description: Mapping[str, Any],
    keep: int,
) -> Path:
    """Writes a checkpoint atomically, then removes all before it but the last ``keep``.

    Raises:
      CheckpointError: it could not be written (a full disk, say); older ones are untouched.
    """
    folder = Path(folder)
    final = folder / folder_name(step)
    temporary = folder / f".{final.name}.{os.getpid()}.tmp"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for stale in folder.glob(".step-*.tmp"):
            shutil.rmtree(stale)
        temporary.mkdir()
        body = {"format": FORMAT, "step": step, **description, "versions": versions()}
        body["arrays"] = _write_arrays(temporary / ARRAYS, arrays)
        body["crc32c"] = _description_crc(body)
        with open(temporary / DESCRIPTION, "w") as file:
            json.dump(body, file, indent=1)
            sync_file(file)
        settle(temporary, final)
    except OSError as error:
        shutil.rmtree(temporary, ignore_errors=True)
        raise CheckpointError(
            f"{final}: checkpoint could not be written: {error.strerror}; "
            "free some space; earlier checkpoints are intact"
        ) from error
    # Later ones, damaged or they would have been resumed from, push out nothing.
    for old in [other for other in steps_in(folder) if other <= step][:-keep]:
        shutil.rmtree(folder / folder_name(old))
    return final


def remove_others(kept: Path) -> None:
    """Removes every checkpoint beside ``kept``, later ones too."""
    for step in steps_in(kept.parent):
        if folder_name(step) != kept.name:
            shutil.rmtree(kept.parent / folder_name(step))


def load(path: str | Path) -> Checkpoint:
    """Reads one checkpoint folder and checks every byte.

    Raises:
      CheckpointError: something is missing, cut short or changed; the message says what.
    """
    path = Path(path)
    try:
        description = json.loads((path / DESCRIPTION).read_text())
        data = (path / ARRAYS).read_bytes()
    except OSError as error:
        raise CheckpointError(f"{error.filename}: {error.strerror}") from None
    except ValueError:
        raise CheckpointError(f"{path / DESCRIPTION}: not valid JSON") from None
    if description.get("format") != FORMAT:
        raise CheckpointError(
            f"{path / DESCRIPTION}: format {description.get('format')}, not {FORMAT}"
        )
    if _description_crc(description) != description.get("crc32c"):
        raise CheckpointError(f"{path / DESCRIPTION}: checksum does not match; the file is damaged")
    arrays = {}
    for entry in description["arrays"]:
        chunk = data[entry["offset"] : entry["offset"] + entry["size"]]
        if len(chunk) != entry["size"] or google_crc32c.value(chunk) != entry["crc32c"]:
            raise CheckpointError(
                f"{path / ARRAYS}: '{entry['name']}' is damaged (its checksum does not match)"
            )
        array = np.frombuffer(chunk, dtype=np.dtype(entry["dtype"])).reshape(entry["shape"])
        arrays[entry["name"]] = array
    return Checkpoint(path, description, arrays)


def load_any(path: str | Path) -> Checkpoint | None:
    """A checkpoint folder itself, or the newest whole one of a run's or of a folder; else None.

    Raises:
      CheckpointError: see ``load`` and ``load_latest``.
    """
    path = Path(path)
    if (path / DESCRIPTION).exists():
        return load(path)
    return load_latest(path / FOLDER) or load_latest(path)


def load_latest(folder: str | Path) -> Checkpoint | None:
    """The newest checkpoint that is whole; warns of each that is not.

    Raises:
      CheckpointError: there are checkpoints, but none can be read.
    """
    folder = Path(folder)
    steps = steps_in(folder)
    for step in reversed(steps):
        try:
            return load(folder / folder_name(step))
        except CheckpointError as error:
            _LOG.warning("%s; falling back to the checkpoint before it", error)
    if steps:
        raise CheckpointError(f"{folder}: none of its {len(steps)} checkpoints can be read")
    return None


def _write_arrays(path: Path, arrays: Mapping[str, np.ndarray]) -> list[dict[str, Any]]:
    table, offset = [], 0
    with open(path, "wb") as file:
        for name, array in arrays.items():
            array = np.asarray(array)
            array = array.astype(array.dtype.newbyteorder("<"), copy=False)
            chunk = array.tobytes()
            file.write(chunk)
            table.append(
                {
                    "name": name,
                    "dtype": array.dtype.str,
                    "shape": list(array.shape),
                    "offset": offset,
                    "size": len(chunk),
                    "crc32c": google_crc32c.value(chunk),
                }
            )
            offset += len(chunk)
        sync_file(file)
    return table


def _description_crc(description: Mapping[str, Any]) -> int:
    body = {key: value for key, value in description.items() if key != "crc32c"}
    return google_crc32c.value(json.dumps(body, sort_keys=True).encode())


def versions() -> dict[str, str]:
    """Of Python and the packages that decide the numbers."""
    from importlib import metadata

    versions = {"python": platform.python_version()}
    for package in ("tffold", "tensorflow", "tensorflow-cpu", "tensorflow-tpu", "keras", "numpy"):
        try:
            versions[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return versions
