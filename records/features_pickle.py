"""AlphaFold's ``features.pkl``, read without running code from it.

A pickle is a program; this reader knows the few functions that a dictionary of NumPy
arrays needs and refuses every other, so nothing in the file can be executed.
"""

from __future__ import annotations

import io
import pickle
from typing import Any

import numpy as np

from records.errors import InputError

_MEND = "write it again with AlphaFold, or give its msas folder instead"

# The two functions that NumPy's own pickles name, wherever this version keeps them.
_numpy_reconstruct = np.zeros(0).__reduce__()[0]
_numpy_scalar = np.float32(0).__reduce__()[0]


def _encode_latin1(text: str, encoding: str = "latin1") -> bytes:
    """What ``_codecs.encode`` is used for in old pickles; other codecs could inflate."""
    if not isinstance(text, str) or encoding != "latin1":
        raise pickle.UnpicklingError("text codec other than latin1")
    return text.encode("latin1")


def _reconstruct(subtype: type, shape: tuple, dtype: bytes) -> np.ndarray:
    if subtype is not np.ndarray or tuple(shape) != (0,):
        raise pickle.UnpicklingError("array of an unexpected kind")
    return _numpy_reconstruct(subtype, shape, dtype)


def _dtype(spec: str, align: bool = False, copy: bool = True) -> np.dtype:
    if not isinstance(spec, str) or len(spec) > 8:
        raise pickle.UnpicklingError("data type of an unexpected kind")
    return np.dtype(spec)


def _from_buffer(data: Any, dtype: np.dtype, shape: tuple, order: str) -> np.ndarray:
    """Protocol 5's way of storing an array."""
    return np.frombuffer(data, dtype=dtype).reshape(shape, order=order)


_ALLOWED: dict[tuple[str, str], Any] = {
    ("_codecs", "encode"): _encode_latin1,
    ("numpy", "ndarray"): np.ndarray,
    ("numpy", "dtype"): _dtype,
}
for _module in ("numpy.core.multiarray", "numpy._core.multiarray"):
    _ALLOWED[_module, "_reconstruct"] = _reconstruct
    _ALLOWED[_module, "scalar"] = _numpy_scalar
for _module in ("numpy.core.numeric", "numpy._core.numeric"):
    _ALLOWED[_module, "_frombuffer"] = _from_buffer


class _Unpickler(pickle.Unpickler):
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
    except MemoryError:
        raise
    except Exception as error:  # a broken pickle can raise nearly anything
        raise InputError(
            f"not a features.pkl that can be read safely ({type(error).__name__}: {error})"[:300],
            file=file,
            mend=_MEND,
        ) from None
    if not isinstance(features, dict) or not all(
        isinstance(name, str) and isinstance(value, np.ndarray) for name, value in features.items()
    ):
        raise InputError("not a dictionary of arrays", file=file, mend=_MEND)
    return features
