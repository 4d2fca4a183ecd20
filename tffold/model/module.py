"""The base class of every layer of the network, and how its weights are made and read."""

from __future__ import annotations

import contextlib
import math
import zlib
from collections.abc import Callable, Iterator, Sequence
from contextvars import ContextVar
from typing import Any

import keras
from keras import ops

Tensor = Any
Initializer = Callable[[tuple[int, ...], int], Tensor]

GROUP = "group-"  # starts the name of a module that DeepMind's parameter names do not show

_BINDING: ContextVar[dict[int, Tensor] | None] = ContextVar("binding", default=None)
_NUM_BLOCK: ContextVar[int | None] = ContextVar("num_block", default=None)
_SEED: ContextVar[int] = ContextVar("seed", default=0)


@contextlib.contextmanager
def weight_seed(seed: int) -> Iterator[None]:
    """Within, new weights are drawn from ``seed`` and their path."""
    token = _SEED.set(seed)
    try:
        yield
    finally:
        _SEED.reset(token)


@contextlib.contextmanager
def stacked(num_block: int) -> Iterator[None]:
    """Within, every new weight gets a leading axis of ``num_block`` independent draws."""
    token = _NUM_BLOCK.set(num_block)
    try:
        yield
    finally:
        _NUM_BLOCK.reset(token)


@contextlib.contextmanager
def bound(variables: Sequence[keras.Variable], values: Sequence[Tensor]) -> Iterator[None]:
    """Within, modules read ``values`` in place of ``variables`` (one block of a stack)."""
    binding = dict(_BINDING.get() or {})
    binding.update({id(v): x for v, x in zip(variables, values, strict=True)})
    token = _BINDING.set(binding)
    try:
        yield
    finally:
        _BINDING.reset(token)


def parameter_key(path: str) -> str:
    """The key in DeepMind's parameter files, ``<module path>//<name>``, of a variable's path."""
    *modules, name = path.split("/")
    return "/".join(m for m in modules if not m.startswith(GROUP)) + "//" + name


class Module(keras.layers.Layer):
    """A layer without batch axis whose weights carry DeepMind's names and shapes.

    A weight's path, with its last ``/`` doubled and without the components
    that start with ``GROUP``, is its key in a released ``params_model_*.npz``
    (see ``parameter_key``). Nothing is cast automatically: a module computes
    in its input's dtype and reads its float32 weights in that dtype.
    """

    def __init__(self, name: str):
        super().__init__(name=name, dtype="float32", autocast=False)

    def make_weights(self) -> None:
        """Creates this module's own weights with ``make``; children make theirs."""

    def build(self, input_shape: Any = None) -> None:
        self.make_weights()
        for child in self._flatten_layers(include_self=False, recursive=False):
            if not child.built:
                child.build()

    def make(self, name: str, shape: Sequence[int], initializer: Initializer) -> keras.Variable:
        """A new weight; its values depend on the ``weight_seed`` and its path alone."""
        num_block = _NUM_BLOCK.get()
        shape = tuple(shape)
        seed = zlib.crc32(f"{_SEED.get()}/{self.path}/{name}".encode()) % 2**30

        def initial_value(_shape: tuple[int, ...], dtype: Any = None) -> Tensor:
            if num_block is None:
                return initializer(shape, seed)
            return ops.stack([initializer(shape, seed + i) for i in range(num_block)])

        full_shape = shape if num_block is None else (num_block, *shape)
        return self.add_weight(name=name, shape=full_shape, initializer=initial_value)

    def read(self, variable: keras.Variable, dtype: Any = None) -> Tensor:
        """The weight's value here: the current block's slice inside a stack."""
        binding = _BINDING.get()
        if binding is not None and id(variable) in binding:
            value = binding[id(variable)]
        else:
            value = ops.convert_to_tensor(variable)
        return value if dtype is None else ops.cast(value, dtype)


def zeros(shape: tuple[int, ...], seed: int) -> Tensor:
    return ops.zeros(shape, "float32")


def ones(shape: tuple[int, ...], seed: int) -> Tensor:
    return ops.ones(shape, "float32")


def constant(value: float) -> Initializer:
    return lambda shape, seed: ops.full(shape, value, "float32")


def lecun_normal(shape: tuple[int, ...], seed: int) -> Tensor:
    """Truncated normal of variance 1 / fan-in, for linear layers (supplement 1.11.4)."""
    return keras.initializers.VarianceScaling(1.0, "fan_in", "truncated_normal", seed)(shape)


def he_normal(shape: tuple[int, ...], seed: int) -> Tensor:
    """Truncated normal of variance 2 / fan-in, before a ReLU (supplement 1.11.4)."""
    return keras.initializers.VarianceScaling(2.0, "fan_in", "truncated_normal", seed)(shape)


def glorot_uniform(shape: tuple[int, ...], seed: int) -> Tensor:
    """Glorot uniform of a projection [in, heads, channels] (supplement 1.11.4).

    DISCREPANCY: DeepMind's code lets Haiku count the fans of the unflattened
    3-D shape, which makes the values several times smaller than the paper's
    [in, out] Glorot; the paper's is used here.
    """
    # [c, h, d] -> [c, h * d]
    flat = (shape[0], math.prod(shape[1:]))
    values = keras.initializers.GlorotUniform(seed)(flat)
    return ops.reshape(values, shape)


def normal(stddev: float) -> Initializer:
    return lambda shape, seed: keras.initializers.RandomNormal(0.0, stddev, seed)(shape)


def output_initializer(zero_init: bool) -> Initializer:
    """Layers that end a residual branch or make logits start at zero (supplement 1.11.4)."""
    return zeros if zero_init else lecun_output


def lecun_output(shape: tuple[int, ...], seed: int) -> Tensor:
    """``lecun_normal`` for a projection whose last axis is the output."""
    # [h, d, c] -> [h * d, c]
    return ops.reshape(lecun_normal((math.prod(shape[:-1]), shape[-1]), seed), shape)
