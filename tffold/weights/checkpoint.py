"""Checkpoints: one folder per step, whole or absent, checked when read.

``step-00001200/`` holds ``arrays.safetensors`` and ``checkpoint.json``: a CRC-32C of every array,
the run's configuration, how far it is in the data (the step itself: the data are a function of
seed and step) and the versions of what wrote it. A folder gets its name only when all of it is on
the disk.

Arrays are called ``parameters/<path>`` and ``average/<path>`` for the trained weights,
``frozen/<path>`` for those that are not, and ``first_moment`` and so on for the rest.
"""

from __future__ import annotations

import json
import logging
import platform
import re
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import google_crc32c
import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file

from records.durable import clear_partials, whole_folder
from records.errors import InputError

_LOG = logging.getLogger(__name__)
FORMAT = 2
PARAMETERS, AVERAGE, FROZEN = "parameters", "average", "frozen"
FOLDER = "checkpoints"  # in a run folder
ARRAYS, DESCRIPTION = "arrays.safetensors", "checkpoint.json"
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


class OtherFormatError(CheckpointError):
    """A whole checkpoint, of another version of this code."""


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
    held = {name: np.asarray(array, order="C") for name, array in arrays.items()}
    body = {"format": FORMAT, "step": step, **description, "versions": versions()}
    body["arrays"] = {name: _crc(array) for name, array in held.items()}
    body["crc32c"] = _description_crc(body)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        clear_partials(folder, "step-")
        with whole_folder(final) as partial:
            save_file(held, partial / ARRAYS)
            (partial / DESCRIPTION).write_text(json.dumps(body, indent=1))
    except (OSError, SafetensorError) as error:
        raise CheckpointError(
            f"{final}: checkpoint could not be written: {getattr(error, 'strerror', None) or error}"
            "; free some space; earlier checkpoints are intact"
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
    except OSError as error:
        raise CheckpointError(f"{error.filename}: {error.strerror}") from None
    except ValueError:
        raise CheckpointError(f"{path / DESCRIPTION}: not valid JSON") from None
    if description.get("format") != FORMAT:
        raise OtherFormatError(
            f"{path}: a checkpoint of format {description.get('format')}, where this version of "
            f"tffold reads format {FORMAT}; write its weights to an .npz with tffold-export of the "
            "version that made it, and start from that (train.init_from)"
        )
    if _description_crc(description) != description.get("crc32c"):
        raise CheckpointError(f"{path / DESCRIPTION}: checksum does not match; the file is damaged")
    file = path / ARRAYS
    try:
        arrays = load_file(file)
    except OSError as error:
        raise CheckpointError(f"{file}: {error.strerror or error}") from None
    except SafetensorError as error:
        raise CheckpointError(f"{file}: damaged ({error})") from None
    for name, crc in description["arrays"].items():
        if name not in arrays or _crc(arrays[name]) != crc:
            raise CheckpointError(f"{file}: '{name}' is damaged (its checksum does not match)")
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
      CheckpointError: there are checkpoints, but none can be read, or they are of another format.
    """
    folder = Path(folder)
    steps = steps_in(folder)
    for step in reversed(steps):
        try:
            return load(folder / folder_name(step))
        except OtherFormatError:
            raise  # those before it are no better
        except CheckpointError as error:
            _LOG.warning("%s; falling back to the checkpoint before it", error)
    if steps:
        raise CheckpointError(f"{folder}: none of its {len(steps)} checkpoints can be read")
    return None


def _crc(array: np.ndarray) -> int:
    return google_crc32c.value(array.tobytes())


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
