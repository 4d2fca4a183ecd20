"""Arrays go to a file in pieces, and any safetensors reader reads it."""

from __future__ import annotations

import io
import tracemalloc

import google_crc32c
import numpy as np
import pytest
from safetensors.numpy import load

from tffold.weights import arrays as module
from tffold.weights.arrays import crc, split, write_arrays

RNG = np.random.default_rng(0)
ARRAYS = {
    "a/b": RNG.normal(size=(3, 5, 7)).astype("float32"),
    "byte": RNG.integers(0, 255, 11).astype("uint8"),
    "step": np.asarray(np.int32(7)),
    "empty": np.zeros((0, 2), "float32"),
    "wide": RNG.normal(size=(9,)),
    "turned": RNG.normal(size=(4, 3)).T,
    "flag": np.array([True, False]),
}


@pytest.mark.parametrize("piece", [8, 64, module._PIECE])
def test_any_reader_reads_it(monkeypatch, piece):
    monkeypatch.setattr(module, "_PIECE", piece)
    file = io.BytesIO()
    sums = write_arrays(file, ARRAYS)
    found = load(file.getvalue())
    assert found.keys() == ARRAYS.keys() == sums.keys()
    for name, array in ARRAYS.items():
        assert (found[name].dtype, found[name].shape) == (array.dtype, array.shape)
        np.testing.assert_array_equal(found[name], array)
        assert sums[name] == crc(array) == google_crc32c.value(array.tobytes())


def test_no_second_copy_is_made(tmp_path):
    array = np.ones(1 << 23, "float32")  # 32 MiB
    tracemalloc.start()
    try:
        with open(tmp_path / "x", "wb") as file:
            write_arrays(file, {"x": array})
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < array.nbytes / 4


def test_an_unforeseen_type_is_an_error():
    with pytest.raises(ValueError, match="'x' is complex128"):
        write_arrays(io.BytesIO(), {"x": np.ones(2, complex)})


@pytest.mark.parametrize("least, most, count", [(1000, 8, 1), (100, 8, 4), (100, 3, 3), (1, 1, 1)])
def test_groups_are_of_about_the_same_size_and_lose_nothing(least, most, count):
    arrays = {str(size): np.zeros(size, np.uint8) for size in (100, 90, 80, 70, 40, 30, 5)}
    groups = split(arrays, least, most)
    assert len(groups) == count
    assert sorted(name for group in groups for name in group) == sorted(arrays)
    sizes = [sum(array.nbytes for array in group.values()) for group in groups]
    assert max(sizes) - min(sizes) <= 40
    assert split({}, least, most) == [{}]
