"""DeepMind's parameter files (``params_model_*.npz``), in and out; checkpoints as the same.

Keys are ``<module path>//<parameter>``, values float32 (or float16, to be half as large; DeepMind's
programs want float32), blocks of a stack on a leading axis. The network's variables have these very
names and shapes, so reading and writing float32 move bits and change none.
"""

from __future__ import annotations

import zipfile
from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from records import paths
from records.errors import InputError
from records.paths import Place
from tffold.model.alphafold import AlphaFold
from tffold.model.module import parameter_key
from tffold.weights import checkpoint

Params = dict[str, np.ndarray]

# DISCREPANCY: not bfloat16 as well: NumPy's files cannot name that type, and weights need
# float16's longer fraction more than a larger range.
DTYPES = ("float32", "float16")
ROOT = "alphafold/alphafold_iteration/"
_TEMPLATE_MARK = "/template_embedding/"
_PAE_MARK = "/predicted_aligned_error_head/"
_MULTIMER_MARKS = ("/~_relative_encoding/", "/template_embedding_iteration/", "/quat_rigid/")
_FUSED_MARK = "/triangle_multiplication_outgoing/left_norm_input/"
_MOST_NAMED = 5


def parameter_shapes(model: AlphaFold) -> dict[str, tuple[int, ...]]:
    """DeepMind's key and shape of every weight of ``model``."""
    return {parameter_key(v.path): tuple(v.shape) for v in model.trainable_variables}


def read_npz(path: Place) -> Params:
    """All arrays of a parameter file; float16 ones as float32, which holds the same numbers.

    Raises:
      InputError: not such a file; the message says what it looks like.
    """
    path = paths.tidy(path)
    if not paths.is_file(path):
        raise InputError(f"{path}: no such parameter file; give a params_model_*.npz")
    try:
        with paths.open_reading(path) as file:
            if not zipfile.is_zipfile(file):
                raise InputError(
                    f"{path}: not an .npz file, or a truncated one; download or export it again"
                )
            file.seek(0)
            with np.load(file, allow_pickle=False) as archive:
                if any(name.endswith("data.pkl") for name in archive.files):
                    raise InputError(
                        f"{path}: looks like a PyTorch checkpoint (OpenFold's .pt?); "
                        "convert it to DeepMind's .npz with OpenFold's own script first"
                    )
                params = {name: _single(archive[name]) for name in archive.files}
    except InputError:
        raise
    except (ValueError, OSError, EOFError, zipfile.BadZipFile) as error:
        raise InputError(
            f"{path}: damaged parameter file ({error}); download or export it again"
        ) from None
    if not any(name.startswith(ROOT) for name in params):
        raise InputError(
            f"{path}: holds no AlphaFold parameters (no key starts with '{ROOT}'); "
            "give a params_model_*.npz"
        )
    return params


def _single(array: np.ndarray) -> np.ndarray:
    return array.astype(np.float32) if array.dtype == np.float16 else array


def read_checkpoint(path: Place, raw: bool = False) -> Params:
    """Weights of a checkpoint, or of a run's newest one, frozen ones too, under DeepMind's keys.

    Args:
      path: a checkpoint folder or a run folder.
      raw: the weights themselves instead of their moving average.

    Raises:
      InputError: there is no checkpoint, or it is damaged.
    """
    saved = checkpoint.load_any(path)
    if saved is None:
        raise InputError(f"{path}: no checkpoint here; name one, or a run folder")
    kinds = (checkpoint.PARAMETERS if raw else checkpoint.AVERAGE, checkpoint.FROZEN)
    parts = ((name.partition("/"), array) for name, array in saved.arrays.items())
    return {
        parameter_key(path): np.asarray(array, np.float32)
        for (kind, _, path), array in parts
        if kind in kinds
    }


def read_any(path: Place, raw: bool = False) -> Params:
    """Parameters of a file like DeepMind's, or of a checkpoint or run folder (see above)."""
    if not paths.exists(path):
        raise InputError(f"{path}: not there; name an .npz, a checkpoint or a run folder")
    return read_checkpoint(path, raw) if paths.is_folder(path) else read_npz(path)


def write_npz(path: Place, params: Mapping[str, np.ndarray], dtype: str = "float32") -> None:
    """Writes a parameter file as DeepMind's are, whole or not at all.

    Args:
      dtype: one of ``DTYPES``.

    Raises:
      InputError: it cannot be written, or a value is too large for ``dtype``.
    """
    with np.errstate(over="ignore"):
        params = {name: np.asarray(array, dtype) for name, array in params.items()}
    too_large = [name for name, array in params.items() if not np.isfinite(array).all()]
    if too_large and dtype != "float32":
        raise InputError(f"{too_large[0]}: does not fit into {dtype}; write float32")
    try:
        paths.make_folder(paths.parent(path))
        with paths.whole_file(path) as file:
            np.savez(file, **params)
    except OSError as error:
        raise InputError(f"{path}: cannot be written: {error.strerror}") from None


def fitting_presets(keys: Iterable[str]) -> list[str]:
    """Names of the presets whose parameters have these keys' modules."""
    keys = list(keys)
    if _is_multimer(keys):
        versions = ("_v3",) if any(_FUSED_MARK in key for key in keys) else ("", "_v2")
        return [f"model_{i}_multimer{version}" for version in versions for i in range(1, 6)]
    has_templates = any(_TEMPLATE_MARK in key for key in keys)
    suffix = "_ptm" if any(_PAE_MARK in key for key in keys) else ""
    return [f"model_{i}{suffix}" for i in ((1, 2) if has_templates else (3, 4, 5))]


def _is_multimer(keys: Iterable[str]) -> bool:
    return any(mark in key for key in keys for mark in _MULTIMER_MARKS)


def check(params: Mapping[str, np.ndarray], model: AlphaFold, source: str) -> None:
    """Holds parameters against a model, both ways.

    Raises:
      InputError: what is missing, unexpected or of another shape, and what
        the file looks like.
    """
    wanted = parameter_shapes(model)
    missing = [key for key in wanted if key not in params]
    unexpected = [key for key in params if key not in wanted]
    misshaped = [
        f"{key} is {list(params[key].shape)}, not {list(shape)}"
        for key, shape in wanted.items()
        if key in params and tuple(params[key].shape) != shape
    ]
    not_float32 = [
        f"{key} is {params[key].dtype}, not float32"
        for key in wanted
        if key in params and params[key].dtype != np.float32
    ]
    if not (missing or unexpected or misshaped or not_float32):
        return
    parts = [
        _listing("missing", missing),
        _listing("unexpected", unexpected),
        _listing("of another shape", misshaped),
        _listing("of another type", not_float32),
    ]
    raise InputError(
        f"{source}: does not fit this model: {'; '.join(p for p in parts if p)}. {_advice(params)}"
    )


def assign(params: Mapping[str, np.ndarray], model: AlphaFold, source: str) -> None:
    """Sets every weight of ``model``; see ``check`` for errors, after which nothing is set."""
    check(params, model, source)
    for variable in model.trainable_variables:
        variable.assign(params[parameter_key(variable.path)])


def load_params(path: Place, model: AlphaFold) -> None:
    """Reads a parameter file into ``model``: every key used, every weight set."""
    assign(read_npz(path), model, str(path))


def _listing(what: str, items: Sequence[str]) -> str:
    if not items:
        return ""
    more = f" and {len(items) - _MOST_NAMED} more" if len(items) > _MOST_NAMED else ""
    return f"{len(items)} {what}: {', '.join(items[:_MOST_NAMED])}{more}"


def _advice(params: Mapping[str, np.ndarray]) -> str:
    names = fitting_presets(params)
    key = ROOT + "evoformer/evoformer_iteration/msa_transition/transition1//bias"
    depth = f" with {params[key].shape[0]} Evoformer blocks" if key in params else ""
    kind = "an AlphaFold-Multimer" if _is_multimer(params) else "a monomer"
    return f"By its modules it is {kind} file{depth}; fitting presets: {', '.join(names)}"
