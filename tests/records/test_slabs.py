"""Streams of bounded length: exact, and stopped at the bound."""

import zlib

import numpy as np
import pytest

from records import slabs
from records.errors import CorruptRecordError
from records.slabs import SLAB_BYTES


@pytest.mark.parametrize("size", [0, 1, SLAB_BYTES - 1, SLAB_BYTES, SLAB_BYTES + 1, 5 << 17])
def test_round_trip_and_each_stream_is_bounded(size):
    data = np.random.default_rng(size).integers(0, 256, size, np.uint8)
    streams = slabs.pack(data.tobytes())
    assert len(streams) == slabs.num_slabs(size) == max(1, -(-size // SLAB_BYTES))
    inflated = [len(zlib.decompress(stream)) for stream in streams]
    assert sum(inflated) == size and set(inflated[:-1]) <= {SLAB_BYTES}
    assert all(len(stream) <= slabs.longest_stream(SLAB_BYTES) for stream in streams)
    unpacked = slabs.unpack(streams, size)
    np.testing.assert_array_equal(unpacked, data)
    assert not unpacked.flags.writeable


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda streams: streams[:1], "1 streams for 262145 bytes, not 2"),
        (lambda streams: [*streams, zlib.compress(b"")], "3 streams"),
        (lambda streams: streams[::-1], "holds 1 bytes, not 262144"),
        (lambda streams: [streams[0], zlib.compress(b"ab")], "holds more than 1"),
        (lambda streams: [streams[0], b"??"], "does not inflate"),
        (lambda streams: [streams[0], streams[1][:-1]], "holds 1 bytes, not 1"),
        (lambda streams: [streams[0], bytes(99)], "is 99 bytes of 1, packed"),
    ],
)
def test_wrong_streams_are_refused(change, words):
    streams = slabs.pack(bytes(SLAB_BYTES + 1))
    with pytest.raises(CorruptRecordError, match=words):
        slabs.unpack(change(streams), SLAB_BYTES + 1)
