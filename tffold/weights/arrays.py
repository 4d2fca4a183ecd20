"""Arrays to a safetensors file, piece by piece: no second copy of them is made in memory.

The format is an eight-byte length, a JSON header of that length, and the arrays' bytes one after
the other; ``safetensors.numpy.load_file`` reads it.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Iterator, Mapping
from typing import IO

import google_crc32c
import numpy as np

_NAMES = {
    "float16": "F16", "float32": "F32", "float64": "F64", "bool": "BOOL", "uint8": "U8",
    "int8": "I8", "int32": "I32", "int64": "I64",
}  # fmt: skip
_PIECE = 4 << 20  # bytes: other threads may run between one and the next
_ALIGNMENT = 8  # bytes, of what follows the header


def write_arrays(file: IO[bytes], arrays: Mapping[str, np.ndarray]) -> dict[str, int]:
    """Writes a whole file; the CRC-32C of every array by name.

    Raises:
      OSError, InputError: what ``file`` raises.
      ValueError: arrays of a type that is not foreseen.
    """
    # The widest first: so each begins at a multiple of its own width.
    order = sorted(arrays, key=lambda name: -arrays[name].dtype.itemsize)
    header, end = {}, 0
    for name in order:
        array = arrays[name]
        if array.dtype.name not in _NAMES:
            raise ValueError(f"'{name}' is {array.dtype}, which no checkpoint holds")
        begin, end = end, end + array.nbytes
        header[name] = {
            "dtype": _NAMES[array.dtype.name],
            "shape": list(array.shape),
            "data_offsets": [begin, end],
        }
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % _ALIGNMENT)
    file.write(struct.pack("<Q", len(text)) + text)
    sums = {}
    for name in order:
        sums[name] = 0
        for piece in _pieces(arrays[name]):
            sums[name] = google_crc32c.extend(sums[name], piece)
            file.write(piece)
    return sums


def split(arrays: Mapping[str, np.ndarray], least: int, most: int) -> list[dict[str, np.ndarray]]:
    """The arrays in groups of about the same size, to be written at the same time.

    As many groups as have ``least`` bytes each, ``most`` at most and one at least.
    """
    size = sum(array.nbytes for array in arrays.values())
    count = min(max(size // least, 1), most)
    groups: list[dict[str, np.ndarray]] = [{} for _ in range(count)]
    sizes = [0] * count
    for name in sorted(arrays, key=lambda name: (-arrays[name].nbytes, name)):
        lightest = sizes.index(min(sizes))
        groups[lightest][name] = arrays[name]
        sizes[lightest] += arrays[name].nbytes
    return groups


def crc(array: np.ndarray) -> int:
    """The CRC-32C of an array's bytes."""
    found = 0
    for piece in _pieces(array):
        found = google_crc32c.extend(found, piece)
    return found


def _pieces(array: np.ndarray) -> Iterator[np.ndarray]:
    data = np.ascontiguousarray(array).reshape(-1).view(np.uint8)
    for start in range(0, data.size, _PIECE):
        yield data[start : start + _PIECE]
