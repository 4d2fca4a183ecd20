"""Checkpoints: one folder per step, whole or absent, checked when read.

``step-00001200/`` holds ``arrays.safetensors`` and ``checkpoint.json``: a CRC-32C of every array,
the run's configuration, how far it is in the data (the step itself: the data are a function of
seed and step) and the versions of what wrote it.

On a store the arrays of a large state lie in several such files (``arrays-1.safetensors`` and so
on), which are written at the same time: one connection is seldom as fast as the network.

On this host a folder gets its name only when all of it is on the disk. A store (``s3://`` and the
like) cannot rename: there ``checkpoint.json`` is written last, and without it there is no
checkpoint. ``newest.json`` beside the folders names their steps, for a store's listing may lag
behind what was written.

Arrays are called ``parameters/<path>`` and ``average/<path>`` for the trained weights,
``frozen/<path>`` for those that are not, and ``first_moment`` and so on for the rest.
"""

from __future__ import annotations

import json
import logging
import platform
import re
import tempfile
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import google_crc32c
import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load_file

from records import listing, paths
from records.durable import clear_partials, whole_folder
from records.errors import InputError
from records.paths import Place
from records.stores import MissingError
from records.uploads import write_stream
from tffold.weights.arrays import crc, split, write_arrays

_LOG = logging.getLogger(__name__)
FORMAT = 3
READABLE = (2, 3)  # in format 2 the arrays lay in one file
PARAMETERS, AVERAGE, FROZEN = "parameters", "average", "frozen"
FOLDER = "checkpoints"  # in a run folder
ARRAYS, DESCRIPTION = "arrays.safetensors", "checkpoint.json"
FILES = "files"  # in the description, where the arrays lie in several
AT_ONCE, LEAST_BYTES = 8, 32 << 20  # files of arrays on a store, and when it pays to have more
NEWEST = "newest.json"  # on a store, beside the checkpoints
_NAME = re.compile(r"step-(\d{8,})$")


@dataclass
class Checkpoint:
    """What a checkpoint folder holds."""

    path: str
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


def steps_in(folder: Place) -> list[int]:
    """Steps of the complete checkpoints in a folder, oldest first."""
    if paths.is_url(folder):
        listed = _listed(folder)
        whole = {step for step, names in listed.items() if DESCRIPTION in names}
        return sorted(whole | set(_told(folder)))
    if not Path(folder).is_dir():
        return []
    matches = (_NAME.match(entry.name) for entry in Path(folder).iterdir() if entry.is_dir())
    return sorted(int(match.group(1)) for match in matches if match)


def _listed(folder: Place) -> dict[int, set[str]]:
    """The files of each step's folder, as a store lists them."""
    found: dict[int, set[str]] = {}
    for entry in listing.find(folder):
        match = _NAME.match(paths.name(paths.parent(entry.place)))
        if match:
            found.setdefault(int(match.group(1)), set()).add(entry.name)
    return found


def _told(folder: Place) -> list[int]:
    """The steps that ``newest.json`` names."""
    try:
        return list(map(int, json.loads(paths.read_text(paths.join(folder, NEWEST)))["steps"]))
    except MissingError:
        return []
    except (ValueError, KeyError, TypeError):
        _LOG.warning("%s: damaged, and not used", paths.join(folder, NEWEST))
        return []


def _tell(folder: Place, steps: Sequence[int]) -> None:
    paths.write_whole(paths.join(folder, NEWEST), json.dumps({"steps": sorted(steps)}) + "\n")


def save(
    folder: Place,
    step: int,
    arrays: Mapping[str, np.ndarray],
    description: Mapping[str, Any],
    keep: int,
    tell: Callable[[int], None] = lambda count: None,
) -> str:
    """Writes a checkpoint atomically, then removes all before it but the last ``keep``.

    ``tell`` hears of each piece of the arrays how many bytes were written; what it raises gives the
    checkpoint up.

    Raises:
      CheckpointError: it could not be written (a full disk, say); older ones are untouched.
    """
    final = paths.join(folder, folder_name(step))
    held = {name: np.asarray(array, order="C") for name, array in arrays.items()}
    body = {"format": FORMAT, "step": step, **description, "versions": versions()}
    try:
        (_write_there if paths.is_url(folder) else _write_here)(folder, step, held, body, tell)
    except OSError as error:
        raise CheckpointError(
            f"{final}: checkpoint could not be written: {error.strerror or error}"
            "; free some space; earlier checkpoints are intact"
        ) from error
    except InputError as error:
        raise CheckpointError(
            f"{final}: checkpoint could not be written: {error}; earlier checkpoints are intact"
        ) from error
    # Later ones, damaged or they would have been resumed from, push out nothing.
    _remove(folder, [other for other in steps_in(folder) if other <= step][:-keep])
    return final


class _Heard:
    """A file to write to; ``tell`` hears how many bytes are written, and may raise."""

    def __init__(self, file: IO[bytes], tell: Callable[[int], None]) -> None:
        self._file, self._tell = file, tell

    def write(self, data: bytes) -> None:
        self._file.write(data)
        # Not before: eight files' pieces on their way would look like a tenth of it all.
        self._tell(len(data))

    def __getattr__(self, name: str) -> Any:
        return getattr(self._file, name)


def _write_here(
    folder: Place,
    step: int,
    arrays: Mapping[str, np.ndarray],
    body: dict[str, Any],
    tell: Callable[[int], None],
) -> None:
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    clear_partials(folder, "step-")
    with whole_folder(folder / folder_name(step)) as partial:
        with open(partial / ARRAYS, "wb") as file:
            text = _finished(body, write_arrays(_Heard(file, tell), arrays))
        (partial / DESCRIPTION).write_text(text)


def _write_there(
    folder: Place,
    step: int,
    arrays: Mapping[str, np.ndarray],
    body: dict[str, Any],
    tell: Callable[[int], None],
) -> None:
    known = set(steps_in(folder)) - {step}
    for other in _listed(folder).keys() - known - {step}:
        # What a killed process left; unless the listing has not seen yet that it is whole.
        if not paths.exists(paths.join(folder, folder_name(other), DESCRIPTION)):
            paths.remove(paths.join(folder, folder_name(other)))
    final = paths.join(folder, folder_name(step))
    paths.remove(paths.join(final, DESCRIPTION))
    groups = split(arrays, LEAST_BYTES, AT_ONCE)
    names = [ARRAYS, *(f"arrays-{number}.safetensors" for number in range(1, len(groups)))]

    def write(name: str, group: Mapping[str, np.ndarray]) -> dict[str, int]:
        return write_stream(
            paths.join(final, name), lambda file: write_arrays(_Heard(file, tell), group)
        )

    with ThreadPoolExecutor(len(groups)) as pool:
        found = list(pool.map(write, names, groups))
    sums = {name: found[number][name] for number, group in enumerate(groups) for name in group}
    if len(groups) > 1:
        body = {**body, FILES: names}
    paths.write_whole(paths.join(final, DESCRIPTION), _finished(body, sums))
    _tell(folder, [*known, step])


def _finished(body: dict[str, Any], sums: Mapping[str, int]) -> str:
    """The description's text, with the checksums of the arrays and its own."""
    body = {**body, "arrays": dict(sums)}
    return json.dumps({**body, "crc32c": _description_crc(body)}, indent=1)


def _remove(folder: Place, steps: Sequence[int]) -> None:
    """Removes whole checkpoints; a kill midway leaves none that is not."""
    if paths.is_url(folder) and steps:
        _tell(folder, sorted(set(steps_in(folder)) - set(steps)))
        for step in steps:
            for name in (DESCRIPTION, *_array_files(folder, step)):
                paths.remove(paths.join(folder, folder_name(step), name))
    for step in steps:
        paths.remove(paths.join(folder, folder_name(step)))


def _array_files(folder: Place, step: int) -> list[str]:
    """The names of a checkpoint's files of arrays; a store's listing may not have them yet."""
    try:
        text = paths.read_bytes(paths.join(folder, folder_name(step), DESCRIPTION))
        return [paths.name(str(name)) for name in json.loads(text).get(FILES, [ARRAYS])]
    except (MissingError, ValueError, AttributeError, TypeError):
        return [ARRAYS]  # it is damaged; what else is there goes as it is listed


def remove_others(kept: Place) -> None:
    """Removes every checkpoint beside ``kept``, later ones too."""
    folder = paths.parent(kept)
    others = [step for step in steps_in(folder) if folder_name(step) != paths.name(kept)]
    _remove(folder, others)


def load(path: Place) -> Checkpoint:
    """Reads one checkpoint folder and checks every byte.

    Raises:
      CheckpointError: something is missing, cut short or changed; the message says what.
      InputError: the store does not answer.
    """
    path = paths.tidy(path)
    file = paths.join(path, DESCRIPTION)
    try:
        description = json.loads(paths.read_bytes(file))
    except MissingError as error:
        raise CheckpointError(str(error)) from None
    except ValueError:
        raise CheckpointError(f"{file}: not valid JSON") from None
    if description.get("format") not in READABLE:
        raise OtherFormatError(
            f"{path}: a checkpoint of format {description.get('format')}, where this version of "
            f"tffold reads formats {READABLE[0]} to {READABLE[-1]}; write its weights to an .npz "
            "with tffold-export of the version that made it, and start from that (train.init_from)"
        )
    if _description_crc(description) != description.get("crc32c"):
        raise CheckpointError(f"{file}: checksum does not match; the file is damaged")
    names = [paths.name(name) for name in description.get(FILES, [ARRAYS])]
    files = [paths.join(path, name) for name in names]
    with ThreadPoolExecutor(len(files)) as pool:
        parts = dict(zip(files, pool.map(_load_arrays, files), strict=True))
    arrays = {name: array for part in parts.values() for name, array in part.items()}
    for name, wanted in description["arrays"].items():
        if name not in arrays or crc(arrays[name]) != wanted:
            file = next((file for file in files if name in parts[file]), files[-1])
            raise CheckpointError(f"{file}: '{name}' is damaged (its checksum does not match)")
    return Checkpoint(path, description, arrays)


def _load_arrays(file: str) -> dict[str, np.ndarray]:
    """The arrays of one file.  Raises CheckpointError and InputError."""
    try:
        if not paths.is_url(file):
            return load_file(file)
        with tempfile.TemporaryDirectory() as folder:
            paths.download(file, Path(folder, ARRAYS))
            return load_file(Path(folder, ARRAYS))
    except MissingError as error:
        raise CheckpointError(str(error)) from None
    except OSError as error:
        raise CheckpointError(f"{file}: {error.strerror or error}") from None
    except SafetensorError as error:
        raise CheckpointError(f"{file}: damaged ({error})") from None


def load_any(path: Place) -> Checkpoint | None:
    """A checkpoint folder itself, or the newest whole one of a run's or of a folder; else None.

    Raises:
      CheckpointError: see ``load`` and ``load_latest``.
    """
    if paths.exists(paths.join(path, DESCRIPTION)):
        return load(path)
    return load_latest(paths.join(path, FOLDER)) or load_latest(path)


def load_latest(folder: Place) -> Checkpoint | None:
    """The newest checkpoint that is whole; warns of each that is not.

    Raises:
      CheckpointError: there are checkpoints, but none can be read, or they are of another format.
    """
    steps = steps_in(folder)
    for step in reversed(steps):
        try:
            return load(paths.join(folder, folder_name(step)))
        except OtherFormatError:
            raise  # those before it are no better
        except CheckpointError as error:
            _LOG.warning("%s; falling back to the checkpoint before it", error)
    if steps:
        raise CheckpointError(f"{folder}: none of its {len(steps)} checkpoints can be read")
    return None


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
