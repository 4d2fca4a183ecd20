"""An array's bytes as a list of zlib streams, none of which inflates to more than a slab.

Whoever reads a stream of unknown origin can bound what it inflates to: by its
length before (zlib packs at most 1032 bytes into one, so a slab's longest stream
holds less than 260 MiB), by the slab after.  One stream for a whole array has no
such bound in TensorFlow, whose ``decode_compressed`` takes none.
"""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from typing import Any

import numpy as np

from records.errors import CorruptRecordError

SLAB_BYTES = 1 << 18
MAX_BYTES = 1 << 30  # of one array, or of a record; one that claims more is refused
_ZLIB_LEVEL = 6


def num_slabs(size: Any, slab_bytes: int = SLAB_BYTES) -> Any:
    """Streams of an array of ``size`` bytes: full slabs and the rest; one when it is empty."""
    return (size + slab_bytes - 1) // slab_bytes + (size == 0)


def longest_stream(size: Any) -> Any:
    """The longest that zlib makes a stream of ``size`` bytes (zlib's ``compressBound``)."""
    return size + size // 4096 + size // 16384 + size // 33554432 + 13


def pack(data: bytes) -> list[bytes]:
    """``data`` as zlib streams of ``SLAB_BYTES`` each, the last of what is left."""
    starts = range(0, max(len(data), 1), SLAB_BYTES)
    return [zlib.compress(data[at : at + SLAB_BYTES], _ZLIB_LEVEL) for at in starts]


def _inflate(stream: bytes, size: int) -> bytes:
    """The ``size`` bytes of a stream; never takes memory for more."""
    if len(stream) > longest_stream(size):
        raise CorruptRecordError(f"is {len(stream)} bytes of {size}, packed")
    inflater = zlib.decompressobj()
    try:
        # One byte more than wanted shows that there are too many.
        data = inflater.decompress(stream, size + 1)
    except zlib.error as error:
        raise CorruptRecordError(f"does not inflate: {error}") from None
    if len(data) != size or not inflater.eof:
        held = f"more than {size}" if len(data) > size else len(data)
        raise CorruptRecordError(f"holds {held} bytes, not {size}")
    return data


def unpack(streams: Sequence[bytes], size: int, slab_bytes: int = SLAB_BYTES) -> np.ndarray:
    """The ``size`` bytes that ``pack`` made these streams of, as uint8.

    Raises:
        CorruptRecordError: they are not that, told without the array's name.
    """
    wanted = num_slabs(size, slab_bytes)
    if len(streams) != wanted:
        raise CorruptRecordError(f"has {len(streams)} streams for {size} bytes, not {wanted}")
    if wanted == 1:
        return np.frombuffer(_inflate(streams[0], size), np.uint8)
    data = np.empty(size, np.uint8)
    for number, stream in enumerate(streams):
        slab = data[number * slab_bytes : (number + 1) * slab_bytes]
        slab[:] = np.frombuffer(_inflate(stream, slab.size), np.uint8)
    data.flags.writeable = False
    return data
