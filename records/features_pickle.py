"""AlphaFold's ``features.pkl``, read without running code from it.

A pickle is a program; this reader knows the few names that a dictionary of NumPy arrays
needs and refuses every other, so nothing in the file can be executed.  Even those names
stand for small Python classes here: NumPy's own ``__setstate__`` trusts its input, and a
damaged file can crash the interpreter through it (the fuzz tests did).  For the same
reason it is Python's unpickler, not C's, that runs; there are few objects to read.
"""

from __future__ import annotations

import io
import math
import pickle
import re
from typing import Any

import numpy as np

from records.errors import InputError

_MEND = "write it again with AlphaFold, or give its msas folder instead"
_DTYPE = re.compile(r"[biuf][1248]|f2|O8?|S\d{1,4}|U\d{1,4}")
_MAX_ELEMENTS = 1 << 31


def _need(condition: bool, what: str) -> None:
    if not condition:
        raise pickle.UnpicklingError(what)


class _Dtype:
    """A data type: its letter and size, then, as state, its byte order."""

    def __init__(self, spec: str, align: bool = False, copy: bool = True) -> None:
        _need(isinstance(spec, str) and bool(_DTYPE.fullmatch(spec)), "unexpected data type")
        self.value = np.dtype(spec)

    def __setstate__(self, state: tuple) -> None:
        # version, byte order, subarray, names, fields, …
        _need(isinstance(state, tuple) and len(state) >= 5, "unexpected data type")
        order = state[1]
        _need(order in ("<", ">", "|", "=") and state[2:5] == (None,) * 3, "unexpected data type")
        if self.value.kind in "iufU":
            self.value = self.value.newbyteorder(order)


def _shaped(data: Any, dtype: Any, shape: Any, order: str) -> np.ndarray:
    _need(isinstance(dtype, _Dtype) and isinstance(shape, tuple), "unexpected array")
    _need(all(isinstance(n, int) and n >= 0 for n in shape) and len(shape) < 9, "unexpected shape")
    count = math.prod(shape)
    _need(count <= _MAX_ELEMENTS, "unexpected shape")
    if dtype.value.kind == "O":
        _need(isinstance(data, list) and len(data) == count, "objects do not fill the array")
        flat = np.empty(count, object)
        flat[:] = data
    else:
        _need(isinstance(data, bytes | bytearray), "unexpected array")
        _need(len(data) == count * dtype.value.itemsize, "bytes do not fill the array")
        flat = np.frombuffer(data, dtype.value, count)
    return flat.reshape(shape, order=order)


class _Array:
    """An array: empty when it is made, filled by its state."""

    def __init__(self, value: np.ndarray | None = None) -> None:
        self.value = value

    def __setstate__(self, state: tuple) -> None:
        _need(isinstance(state, tuple) and len(state) == 5, "unexpected array")
        _, shape, dtype, fortran, data = state
        self.value = _shaped(data, dtype, shape, "F" if fortran else "C")


_NDARRAY = object()  # numpy.ndarray, only ever handed on to _reconstruct


def _reconstruct(subtype: object, shape: object, dtype: object) -> _Array:
    _need(subtype is _NDARRAY, "unexpected array")
    return _Array()


def _scalar(dtype: Any, data: Any) -> Any:
    return _shaped(data, dtype, (1,), "C")[0]


def _from_buffer(data: Any, dtype: Any, shape: Any, order: str) -> _Array:
    """Protocol 5's way of storing an array."""
    _need(order in ("C", "F"), "unexpected array")
    return _Array(_shaped(data, dtype, shape, order))


def _encode_latin1(text: str, encoding: str = "latin1") -> bytes:
    """What ``_codecs.encode`` is used for in old pickles; other codecs could inflate."""
    _need(isinstance(text, str) and encoding == "latin1", "text codec other than latin1")
    return text.encode("latin1")


_ALLOWED: dict[tuple[str, str], Any] = {
    ("_codecs", "encode"): _encode_latin1,
    ("numpy", "ndarray"): _NDARRAY,
    ("numpy", "dtype"): _Dtype,
}
for _package in ("numpy.core", "numpy._core"):
    _ALLOWED[f"{_package}.multiarray", "_reconstruct"] = _reconstruct
    _ALLOWED[f"{_package}.multiarray", "scalar"] = _scalar
    _ALLOWED[f"{_package}.numeric", "_frombuffer"] = _from_buffer


class _Unpickler(pickle._Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        try:
            return _ALLOWED[module, name]
        except KeyError:
            raise pickle.UnpicklingError(f"it asks for {module}.{name}") from None

    def persistent_load(self, pid: Any) -> Any:
        raise pickle.UnpicklingError("it asks for outside objects")


def read_features(data: bytes, file: object) -> dict[str, np.ndarray]:
    """The feature dictionary.  Raises InputError for anything but a dict of arrays."""
    try:
        features = _Unpickler(io.BytesIO(data)).load()
    except Exception as error:  # a broken pickle can raise nearly anything, MemoryError too
        raise InputError(
            "not a features.pkl that can be read safely",
            file=file,
            item=f"{type(error).__name__}: {error}"[:200],
            mend=_MEND,
        ) from None
    if not isinstance(features, dict) or not all(
        isinstance(name, str) and isinstance(value, _Array) and value.value is not None
        for name, value in features.items()
    ):
        raise InputError("not a dictionary of arrays", file=file, mend=_MEND)
    return {name: array.value for name, array in features.items()}
