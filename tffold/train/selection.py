"""Which weights are trained, and how fast: ``train.freeze`` and ``train.learning_rate_scale``.

A pattern names parameters as DeepMind's files do, without the ``alphafold/alphafold_iteration/``
that all of them begin with: ``structure_module/fold_iteration/rigid_sidechain/*//weights``. It may
name a module, and then means all below it: ``evoformer`` is the whole trunk, embedders and
templates included, ``*_head`` every head. A stack of blocks holds each of its parameters in one
array, so a pattern takes all blocks of a stack or none.
"""

from __future__ import annotations

import difflib
import math
from collections.abc import Sequence
from fnmatch import fnmatchcase

import keras

from records.errors import InputError
from tffold.config import TrainConfig
from tffold.model.module import parameter_key
from tffold.weights.npz import ROOT

FREEZE, SCALE = "train.freeze", "train.learning_rate_scale"


def frozen_weights(variables: Sequence[keras.Variable], config: TrainConfig) -> list[bool]:
    """For each variable whether ``train.freeze`` keeps it as it is.

    Raises:
      InputError: a pattern that no parameter fits, or nothing is left to train.
    """
    names = [_short_name(variable) for variable in variables]
    frozen = [False] * len(names)
    for pattern in config.freeze:
        hits = _matches(pattern, names, FREEZE)
        frozen = [before or hit for before, hit in zip(frozen, hits, strict=True)]
    if names and all(frozen):
        raise InputError(f"'{FREEZE}' leaves nothing to train; name fewer modules")
    return frozen


def rate_scales(variables: Sequence[keras.Variable], config: TrainConfig) -> list[float]:
    """By what each variable's learning rate is multiplied; the last pattern that fits it decides.

    Raises:
      InputError: what is no ``pattern=factor``, or a pattern that no parameter fits.
    """
    names = [_short_name(variable) for variable in variables]
    scales = [1.0] * len(names)
    for entry in config.learning_rate_scale:
        pattern, factor = _split(entry)
        hits = _matches(pattern, names, SCALE)
        scales = [factor if hit else before for before, hit in zip(scales, hits, strict=True)]
    return scales


def _split(entry: str) -> tuple[str, float]:
    pattern, _, text = entry.rpartition("=")
    try:
        factor = float(text)
    except ValueError:
        factor = math.nan
    if not pattern or not 0.0 < factor < math.inf:
        raise InputError(
            f"'{SCALE}': {entry!r} is no pattern=factor with a factor above 0, such as "
            "evoformer=0.1; to keep weights as they are use 'train.freeze'"
        )
    return pattern, factor


def _short_name(variable: keras.Variable) -> str:
    return parameter_key(variable.path).removeprefix(ROOT)


def _matches(pattern: str, names: Sequence[str], setting: str) -> list[bool]:
    short = pattern.removeprefix(ROOT).rstrip("/")
    hits = [fnmatchcase(name, short) or fnmatchcase(name, f"{short}/*") for name in names]
    if not any(hits):
        raise InputError(f"'{setting}': no parameter fits '{pattern}'; {_near(short, names)}")
    return hits


def _near(pattern: str, names: Sequence[str]) -> str:
    modules = {
        "/".join(parts[:depth])
        for parts in (name.partition("//")[0].split("/") for name in names)
        for depth in range(1, len(parts) + 1)
    }
    near = difflib.get_close_matches(pattern, sorted(modules | set(names)), 3, 0.6)
    if near:
        return "near it are " + ", ".join(f"'{name}'" for name in near)
    return "there are " + ", ".join(sorted(name for name in modules if "/" not in name))
