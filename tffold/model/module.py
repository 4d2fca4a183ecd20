"""The base class of every layer of the network, and how its weights are made and read."""

from __future__ import annotations

import contextlib
import math
import zlib
from collections.abc import Callable, Iterator, Sequence
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any

import keras
from keras import ops

from tffold.config import ModelConfig

Tensor = Any
Initializer = Callable[[tuple[int, ...], int], Tensor]

GROUP = "group-"  # starts the name of a module that DeepMind's parameter names do not show
TILDE = "tilde-"  # stands for DeepMind's "~", which TensorFlow's scopes refuse

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


class OnlyTheseWeights(keras.StatelessScope):
    """Within, layers read ``values`` in place of ``variables``, and no other variable.

    Loops run their bodies in it: a loop's gradient reaches what it was handed and nothing that
    its body reads besides, so that a weight left out would silently get none. Here it raises. A
    value may be one block's slice of a stacked variable.
    """

    def __init__(self, variables: Sequence[keras.Variable], values: Sequence[Tensor]):
        super().__init__()
        for variable, value in zip(variables, values, strict=True):
            self.add_update((variable, value))

    def get_current_value(self, variable: keras.Variable) -> Tensor:
        value = super().get_current_value(variable)
        if value is None:
            raise ValueError(
                f"the weight '{variable.path}' is read in a loop that was not handed it, and would "
                "get no gradient; name the module that owns it where the loop is made"
            )
        return value


@dataclass(frozen=True)
class Options:
    """What every layer needs to know of how the network starts and runs.

    ``zero_init``: layers that end a residual branch or make logits start at zero (supplement
    1.11.4). ``slice_mib``: MiB of a layer's largest intermediate that are made at a time, 0: all
    at once. ``remat``: what the backward pass recomputes of each block (supplement 1.11.8):
    ``none``, ``cheap``: all but what a block marks with ``keep``, ``all``, or ``nested``: all, and
    the blocks' inputs too but for one of each group of blocks.
    ``fuse_projections``: triangle multiplications keep both edges' weights in one array.
    """

    zero_init: bool = True
    slice_mib: int = 0
    remat: str = "all"
    fuse_projections: bool = False

    @classmethod
    def of(cls, config: ModelConfig) -> Options:
        return cls(config.zero_init, config.slice_mib, config.remat, config.fuse_projections)

    @property
    def output_initializer(self) -> Initializer:
        """Of a layer that ends a residual branch or makes logits."""
        return zeros if self.zero_init else lecun_output


DEFAULT_OPTIONS = Options()


def parameter_key(path: str) -> str:
    """The key in DeepMind's parameter files, ``<module path>//<name>``, of a variable's path."""
    *modules, name = path.split("/")
    shown = (m.replace(TILDE, "~") for m in modules if not m.startswith(GROUP))
    return "/".join(shown) + "//" + name


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


def lecun_output(shape: tuple[int, ...], seed: int) -> Tensor:
    """``lecun_normal`` for a projection whose last axis is the output."""
    # [h, d, c] -> [h * d, c]
    return ops.reshape(lecun_normal((math.prod(shape[:-1]), shape[-1]), seed), shape)
