"""Linear layers, layer norm and dropout: what every module is made of."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import keras
from keras import ops

from tffold.model.module import Initializer, Module, lecun_normal, ones, zeros

Tensor = Any
LAYER_NORM_EPSILON = 1e-5


def project(x: Tensor, kernel: Tensor) -> Tensor:
    """``x [..., c] @ kernel [c, d]`` as one plain matrix product -> [..., d]."""
    lead = tuple(x.shape[:-1])
    # [..., c] -> [prod(...), c]
    flat = ops.matmul(ops.reshape(x, (-1, x.shape[-1])), kernel)
    # [prod(...), d] -> [..., d]
    return ops.reshape(flat, (*lead, kernel.shape[-1]))


class Linear(Module):
    """y = W x + b, the paper's Linear: [..., num_input] -> [..., num_output] (supplement 1.1).

    Several ``num_output`` give several axes: [..., *num_output]. With ``num_input`` None each
    number of ``x`` [...] is an input of its own -> [..., num_output]. Without
    ``bias_initializer`` there is no bias: the paper's LinearNoBias.
    """

    def __init__(
        self,
        num_input: int | None,
        num_output: int | tuple[int, ...],
        name: str,
        initializer: Initializer = lecun_normal,
        bias_initializer: Initializer | None = zeros,
    ):
        super().__init__(name)
        self.num_input = num_input
        self.num_output = (num_output,) if isinstance(num_output, int) else num_output
        self.initializer, self.bias_initializer = initializer, bias_initializer

    def make_weights(self) -> None:
        fans = (self.num_input or 1, math.prod(self.num_output))
        shape = self.num_output if self.num_input is None else (self.num_input, *self.num_output)
        # [c, h * d] -> [c, h, d]: the fans are those of the matrix
        self.kernel = self.make(
            "weights", shape, lambda shape, seed: ops.reshape(self.initializer(fans, seed), shape)
        )
        self.bias = None
        if self.bias_initializer is not None:
            self.bias = self.make("bias", self.num_output, self.bias_initializer)

    def call(self, x: Tensor) -> Tensor:
        kernel = ops.cast(self.kernel, x.dtype)
        if self.num_input is None:
            y = x[..., None] * kernel
        elif len(self.num_output) == 1:
            y = project(x, kernel)
        else:
            # [c, h, d] -> [c, h * d];  [..., h * d] -> [..., h, d]
            y = project(x, ops.reshape(kernel, (self.num_input, -1)))
            y = ops.reshape(y, (*x.shape[:-1], *self.num_output))
        return y if self.bias is None else y + ops.cast(self.bias, x.dtype)


def layer_norm(x: Tensor, scale: Tensor, offset: Tensor, axis: int = -1) -> Tensor:
    """Normalises ``axis`` to mean 0 and variance 1 in float32; ``scale`` and ``offset`` broadcast.

    Returns ``x``'s dtype. The epsilon is 1e-5 (DeepMind's code).
    """
    x32 = ops.cast(x, "float32")
    mean = ops.mean(x32, axis=axis, keepdims=True)
    centred = x32 - mean
    variance = ops.mean(ops.square(centred), axis=axis, keepdims=True)
    normed = centred * ops.rsqrt(variance + LAYER_NORM_EPSILON)
    return ops.cast(normed * scale + offset, x.dtype)


class LayerNorm(Module):
    """y = scale (x - mean(x)) / sqrt(var(x) + 1e-5) + offset, the paper's LayerNorm.

    Over the last axis, [..., channel] -> [..., channel] (supplement 1.1).
    """

    def __init__(self, channel: int, name: str):
        super().__init__(name)
        self.channel = channel

    def make_weights(self) -> None:
        self.scale = self.make("scale", (self.channel,), ones)
        self.offset = self.make("offset", (self.channel,), zeros)

    def call(self, x: Tensor) -> Tensor:
        return layer_norm(x, ops.convert_to_tensor(self.scale), ops.convert_to_tensor(self.offset))


class _Seed(keras.random.SeedGenerator):
    """Hands a seed tensor to Keras' random functions, which take only their own generator."""

    def __init__(self, seed: Tensor):  # no state, so nothing of the base class is set up
        self._tensor = seed

    def next(self, ordered: bool = True) -> Tensor:
        return self._tensor


def fold_key(key: Tensor | None, number: int | Tensor) -> Tensor | None:
    """A new key, int32 [2], for the sub-stream ``number`` of ``key``; None stays None."""
    if key is None:
        return None
    multiplier = ops.convert_to_tensor([1664525, 22695477], "int32")
    return key * multiplier + ops.cast(number, "int32") + 1


def dropout_masks(
    key: Tensor | None, shapes: Sequence[Sequence[int]], rates: Sequence[float]
) -> list[Tensor | None]:
    """A mask of zeros and ones for each dropout of a block (supplement 1.11.6), float32.

    All come from one draw, which is what a draw costs to compile; they depend on ``key`` alone,
    so that recomputation makes the same ones. A size of 1 shares the mask along its axis. No key
    or a rate of 0: no mask.
    """
    if key is None:
        return [None] * len(shapes)
    sizes = [math.prod(s) if rate else 0 for s, rate in zip(shapes, rates, strict=True)]
    if not sum(sizes):
        return [None] * len(shapes)
    drawn = keras.random.uniform((sum(sizes),), seed=_Seed(key))
    masks, start = [], 0
    for shape, rate, size in zip(shapes, rates, sizes, strict=True):
        keep = ops.cast(drawn[start : start + size] >= rate, "float32")
        masks.append(ops.reshape(keep, shape) if size else None)
        start += size
    return masks


def dropout(x: Tensor, mask: Tensor | None, rate: float) -> Tensor:
    """Dropout with a mask of ``dropout_masks``; none, no dropout."""
    return x if mask is None else x * ops.cast(mask, x.dtype) * (1.0 / (1.0 - rate))
