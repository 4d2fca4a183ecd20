"""One harness for all layers: subclasses of ``LayerTests`` name a layer, its inputs, its paper.

Axes are named, so the same case can be made larger: "s i c" is an array of ``sizes["s"]`` rows and
so on; a number stands for itself.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf
from reference import nest

from tffold.model import slicing
from tffold.model.module import GROUP

Arrays = dict[str, np.ndarray]
PADDING = 3  # positions added to every padded axis


@dataclass(frozen=True)
class Input:
    """How an input is drawn: ``axes`` and a function of a generator and a shape."""

    axes: str
    draw: Callable[[np.random.Generator, tuple[int, ...]], np.ndarray]
    padding: Callable[[np.random.Generator, tuple[int, ...]], np.ndarray]
    differentiable: bool = False

    def shape(self, sizes: Mapping[str, int]) -> tuple[int, ...]:
        return tuple(sizes.get(axis) or int(axis) for axis in self.axes.split())


def numbers(axes: str, scale: float = 1.0, differentiable: bool = True) -> Input:
    """Normal numbers; in the padding too, where they must not matter."""

    def draw(rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
        return (scale * rng.standard_normal(shape)).astype(np.float32)

    return Input(axes, draw, draw, differentiable)


def _mask(rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    # Index 0 of each axis is kept, so that whatever is masked, something is left.
    value = (rng.random(shape) < 0.6).astype(np.float32)
    for axis in range(len(shape)):
        value[(slice(None),) * axis + (0,)] = 1.0
    value.flat[-1] = 0.0
    return value


def mask(axes: str) -> Input:
    """Zeros and ones, mixed; zeros in the padding."""
    return Input(axes, _mask, lambda rng, shape: np.zeros(shape, np.float32))


def residue_mask(axes: str) -> Input:
    """Ones, zeros in the padding."""
    return Input(
        axes,
        lambda rng, shape: np.ones(shape, np.float32),
        lambda rng, shape: np.zeros(shape, np.float32),
    )


def integers(axes: str, high: int, low: int = 0) -> Input:
    def draw(rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
        return rng.integers(low, high, shape).astype(np.int32)

    return Input(axes, draw, draw)


def increasing(axes: str, step: int) -> Input:
    """Whole numbers that grow by 1 to ``step``, like residue numbers."""

    def draw(rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
        return np.cumsum(rng.integers(1, step + 1, shape), axis=-1).astype(np.int32)

    return Input(axes, draw, draw)


@dataclass(frozen=True)
class Not:
    """A check that does not apply to a layer, and why."""

    reason: str


def weights_of(layer: keras.layers.Layer) -> dict[str, keras.Variable]:
    """Variables by their path within the layer, as DeepMind's parameter files have it."""
    return {
        "/".join(name for name in v.path.split("/")[1:] if not name.startswith(GROUP)): v
        for v in layer.trainable_variables
    }


def randomize(layer: keras.layers.Layer) -> None:
    """No weight stays at what it starts from: zeros and ones would hide faults."""
    for path, variable in weights_of(layer).items():
        rng = np.random.default_rng(zlib.crc32(path.encode()))
        offset, scale = (1.0, 0.3) if path.endswith("scale") else (0.0, 0.5)
        variable.assign(offset + scale * rng.standard_normal(variable.shape))


def close(found: Any, expected: np.ndarray, tolerance: float, what: str) -> None:
    found = np.asarray(found, np.float64)
    assert found.shape == expected.shape, what
    error, size = np.abs(found - expected).max(), np.abs(expected).max()
    assert np.isfinite(found).all() and error <= tolerance * size, (
        f"{what}: error {error:.2g} beside values up to {size:.2g}"
    )


class LayerTests:
    """Inherit it, set what follows, and pytest runs every check on the layer.

    ``layer_class``; ``make(**options)``; ``reference(w, **inputs)``, which is the algorithm in
    NumPy (tests/support/paper.py); ``inputs``, ``outputs`` (axes, or a dictionary of them) and
    ``sizes``; ``call(layer, **inputs)`` where the inputs are not the arguments in order.

    ``padded``: the axes that grow in the check of padding. ``slice_bytes``: a limit that cuts
    the layer's work in several slices. ``bfloat16``: how far from float32 its result may be.
    Each is ``Not(reason)`` where it does not apply. ``unreached``: weights that no gradient
    reaches, by path, with the reason.
    """

    layer_class: type
    sizes: Mapping[str, int]
    inputs: Mapping[str, Input]
    outputs: str | Mapping[str, str]
    padded: str | Not
    slice_bytes: int | Not
    bfloat16: float | Not
    unreached: Mapping[str, str] = {}
    gradients: None | Not = None
    tolerance = 2e-5

    def __init_subclass__(cls) -> None:
        for name, test in (
            ("padded", "test_padding_changes_nothing"),
            ("slice_bytes", "test_slices_change_nothing"),
            ("bfloat16", "test_bfloat16_is_within_its_error"),
            ("gradients", "test_gradients_are_the_papers"),
        ):
            if hasattr(cls, "layer_class"):  # else what several cases have in common
                if isinstance(getattr(cls, name), Not):
                    setattr(cls, test, None)
                elif getattr(cls, test) is None:
                    setattr(cls, test, getattr(LayerTests, test))

    def make(self, **options: Any) -> keras.layers.Layer:
        raise NotImplementedError

    def reference(self, w: dict, **inputs: np.ndarray) -> Any:
        raise NotImplementedError

    def call(self, layer: keras.layers.Layer, **inputs: tf.Tensor) -> Any:
        return layer(*inputs.values())

    # What the checks are made of.

    def layer(self, **options: Any) -> keras.layers.Layer:
        layer = self.make(**options)
        assert type(layer) is self.layer_class
        if not layer.built:
            layer.build()
        randomize(layer)
        return layer

    def draw(self, pad: int = 0) -> Arrays:
        grow = self.padded.split() if pad else []
        larger = {axis: n + pad * (axis in grow) for axis, n in self.sizes.items()}
        drawn = {}
        for name, spec in self.inputs.items():
            rng = np.random.default_rng(zlib.crc32(name.encode()))
            real = spec.draw(rng, spec.shape(self.sizes))
            value = spec.padding(rng, spec.shape(larger))
            value[tuple(slice(n) for n in real.shape)] = real
            drawn[name] = value
        return drawn

    def outputs_of(self, result: Any) -> dict[str, Any]:
        return {"": result} if isinstance(self.outputs, str) else dict(result)

    def output_axes(self) -> Mapping[str, str]:
        return {"": self.outputs} if isinstance(self.outputs, str) else self.outputs

    def run(self, layer: keras.layers.Layer, inputs: Arrays) -> dict[str, Any]:
        return self.outputs_of(
            self.call(layer, **{k: tf.convert_to_tensor(x) for k, x in inputs.items()})
        )

    def paper(self, weights: Arrays, inputs: Arrays) -> dict[str, np.ndarray]:
        exact = {k: x.astype(np.float64) if x.dtype == np.float32 else x for k, x in inputs.items()}
        return self.outputs_of(self.reference(nest(weights), **exact))

    def loss_weights(self, outputs: Mapping[str, Any]) -> Arrays:
        rng = np.random.default_rng(0)
        return {k: rng.standard_normal(x.shape).astype(np.float32) for k, x in outputs.items()}

    def run_with_gradients(
        self, layer: keras.layers.Layer, inputs: Arrays
    ) -> tuple[Arrays, Arrays]:
        """Outputs, and the gradients of a weighted sum of them, of weights and inputs by name."""
        variables = weights_of(layer)
        tensors = {k: tf.convert_to_tensor(x) for k, x in inputs.items()}
        watched = {k: tensors[k] for k, spec in self.inputs.items() if spec.differentiable}
        with tf.GradientTape() as tape:
            tape.watch(list(watched.values()))
            outputs = self.outputs_of(self.call(layer, **tensors))
            weights = self.loss_weights(outputs)
            loss = tf.add_n([tf.reduce_sum(weights[k] * x) for k, x in outputs.items()])
        sources = {k: v.value for k, v in variables.items()} | watched
        found = tape.gradient(loss, sources, unconnected_gradients=tf.UnconnectedGradients.ZERO)
        return {k: x.numpy() for k, x in outputs.items()}, {k: g.numpy() for k, g in found.items()}

    # The checks.

    def test_result_is_the_papers(self) -> None:
        layer, inputs = self.layer(), self.draw()
        found = self.run(layer, inputs)
        values = {k: v.numpy().astype(np.float64) for k, v in weights_of(layer).items()}
        expected = self.paper(values, inputs)
        assert set(found) == set(expected) == set(self.output_axes())
        for name, value in expected.items():
            close(found[name], value, self.tolerance, name or "result")

    def test_gradient_reaches_every_weight(self) -> None:
        _, gradients = self.run_with_gradients(self.layer(), self.draw())
        sizes = {name: np.linalg.norm(gradient) for name, gradient in gradients.items()}
        reached = {name for name, size in sizes.items() if size > 1e-5 * max(sizes.values())}
        assert set(sizes) - reached == set(self.unreached)

    def test_gradients_are_the_papers(self) -> None:
        """Along one direction for each weight and input: gradient against difference quotient."""
        layer, inputs = self.layer(), self.draw()
        outputs, gradients = self.run_with_gradients(layer, inputs)
        weights = self.loss_weights(outputs)
        values = {k: v.numpy().astype(np.float64) for k, v in weights_of(layer).items()}
        largest = max(np.linalg.norm(g) for g in gradients.values())

        def loss(changed: Arrays) -> float:
            inner = {k: changed.get(k, x) for k, x in values.items()}
            outer = {k: changed.get(k, x) for k, x in inputs.items()}
            return sum((weights[k] * x).sum() for k, x in self.paper(inner, outer).items())

        for name, gradient in gradients.items():
            norm = np.linalg.norm(gradient)
            value = (values | inputs)[name].astype(np.float64)
            direction = np.random.default_rng(1).standard_normal(value.shape)
            up, down = ({name: value + 1e-5 * sign * direction} for sign in (1, -1))
            expected = (loss(up) - loss(down)) / 2e-5
            error = abs((gradient * direction).sum() - expected)
            assert error <= 1e-3 * norm + 1e-6 * largest, f"gradient of {name}: error {error:.2g}"

    def test_padding_changes_nothing(self) -> None:
        layer = self.layer()
        bare = self.run(layer, self.draw())
        padded = self.run(layer, self.draw(pad=PADDING))
        for name, axes in self.output_axes().items():
            value = np.asarray(bare[name])
            assert any(axis in self.padded.split() for axis in axes.split())
            cut = np.asarray(padded[name])[tuple(slice(n) for n in value.shape)]
            close(cut, value, self.tolerance, name or "result")

    def test_bfloat16_is_within_its_error(self) -> None:
        layer, inputs = self.layer(), self.draw()
        rounded = {
            k: tf.cast(x, "bfloat16") if self.inputs[k].differentiable else x
            for k, x in inputs.items()
        }
        coarse = self.run(layer, rounded)
        for name, value in self.run(layer, inputs).items():
            assert coarse[name].dtype == tf.bfloat16
            difference = np.asarray(coarse[name], np.float64) - np.asarray(value, np.float64)
            error = np.linalg.norm(difference) / np.linalg.norm(value)
            assert 0.0 < error < self.bfloat16, f"{name or 'result'}: error {error:.2g}"

    def test_slices_change_nothing(self, monkeypatch: pytest.MonkeyPatch) -> None:
        inputs = self.draw()
        whole, whole_gradients = self.run_with_gradients(self.layer(), inputs)
        counts = []

        def counted(*arguments: int) -> int:
            counts.append(num_slices(*arguments))
            return counts[-1]

        num_slices = slicing.num_slices
        monkeypatch.setattr(slicing, "num_slices", counted)
        monkeypatch.setattr(slicing, "MIB", 1)  # the limit is in bytes then
        cut, gradients = self.run_with_gradients(self.layer(slice_mib=self.slice_bytes), inputs)
        assert counts and counts[0] > 1, f"{counts} slices"
        for name, value in whole.items():
            close(cut[name], value, self.tolerance, name or "result")
        largest = max(np.linalg.norm(g) for g in gradients.values())
        for name, gradient in whole_gradients.items():
            error = np.linalg.norm(gradients[name] - gradient)
            assert error <= 1e-4 * np.linalg.norm(gradient) + 1e-6 * largest, name
