"""A loop whose gradient recomputes: compile time and memory that do not grow with its length.

This is the one place of the network that uses TensorFlow itself: Keras has
no loop with such a gradient.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import tensorflow as tf

Tensor = Any
Tensors = tuple[Tensor, ...]
# (step, state, the step's slices, shared) -> next state, outputs
Body = Callable[[Tensor, Tensors, Tensors, Tensors], tuple[Tensors, Tensors]]


def recomputing_loop(
    body: Body,
    num_steps: int,
    state: Sequence[Tensor],
    stacked: Sequence[Tensor] = (),
    shared: Sequence[Tensor] = (),
    output_specs: Sequence[tuple[Sequence[int], str]] = (),
) -> tuple[Tensors, Tensors]:
    """Runs ``body`` ``num_steps`` times; returns the last state and all outputs, stacked.

    The forward loop keeps each step's incoming state and nothing else; the
    backward loop runs each step again from it (supplement 1.11.8). Gradients
    flow to ``state``, to ``stacked`` (step i gets slice i of each) and to
    ``shared`` (every step gets all of it), not to what ``body`` merely
    captures. ``body`` must give the same result both times: randomness in it
    may depend on captured keys and the step's number only. Its outputs have
    the shapes and dtypes of ``output_specs``.
    """
    state, stacked, shared = (
        tuple(tf.convert_to_tensor(x) for x in xs) for xs in (state, stacked, shared)
    )

    def split(tensors: Sequence[Tensor]) -> tuple[Tensors, Tensors, Tensors]:
        """All tensors of a step as state, stacked and shared ones."""
        first, second = len(state), len(state) + len(stacked)
        return tuple(tensors[:first]), tuple(tensors[first:second]), tuple(tensors[second:])

    def split_body(i: Tensor, tensors: Sequence[Tensor]) -> tuple[Tensors, Tensors]:
        return body(i, *split(tensors))

    @tf.custom_gradient
    def apply(*tensors: Tensor) -> tuple[Tensors, Callable]:
        start, stacked, shared = split(tensors)
        last, inputs, outputs = _forward_loop(
            split_body, num_steps, start, stacked, shared, output_specs
        )

        def gradient(*grads: Tensor) -> list[Tensor]:
            state_grads, output_grads = grads[: len(start)], grads[len(start) :]
            return _backward_loop(
                split_body, num_steps, inputs, stacked, shared, state_grads, output_grads
            )

        return (*last, *outputs), gradient

    results = apply(*state, *stacked, *shared)
    return tuple(results[: len(state)]), tuple(results[len(state) :])


# (step, state, slices and shared in one row) -> next state, outputs
_SplitBody = Callable[[Tensor, Sequence[Tensor]], tuple[Tensors, Tensors]]


def _forward_loop(
    body: _SplitBody,
    num_steps: int,
    state: Tensors,
    stacked: Tensors,
    shared: Tensors,
    output_specs: Sequence[tuple[Sequence[int], str]],
) -> tuple[Tensors, Tensors, Tensors]:
    """-> the last state, arrays of every step's incoming state, the stacked outputs."""

    def step(i: Tensor, state: Tensors, inputs: Tensors, outputs: Tensors) -> tuple:
        inputs = _write(inputs, i, state)
        state, values = body(i, (*state, *_slices(stacked, i), *shared))
        return i + 1, tuple(state), inputs, _write(outputs, i, values)

    inputs = tuple(_array(num_steps, x.shape, x.dtype) for x in state)
    outputs = tuple(_array(num_steps, shape, dtype) for shape, dtype in output_specs)
    _, last, inputs, outputs = tf.while_loop(
        lambda i, *_: i < num_steps,
        step,
        (0, state, inputs, outputs),
        maximum_iterations=num_steps,
    )
    return last, inputs, tuple(a.stack() for a in outputs)


def _backward_loop(
    body: _SplitBody,
    num_steps: int,
    inputs: Tensors,
    stacked: Tensors,
    shared: Tensors,
    state_grads: Tensors,
    output_grads: Tensors,
) -> list[Tensor]:
    """-> gradients of the first state, of ``stacked`` and of ``shared``, in one row.

    ``inputs``: the arrays that the forward loop kept; the gradients given are those of its
    results.
    """
    num_state, num_sliced = len(inputs), len(inputs) + len(stacked)

    def step(
        n: Tensor, state_grads: Tensors, stacked_grads: Tensors, shared_grads: Tensors
    ) -> tuple:
        i = num_steps - 1 - n
        arguments = (*(a.read(i) for a in inputs), *_slices(stacked, i), *shared)
        with tf.GradientTape() as tape:
            tape.watch(arguments)
            state, values = body(i, arguments)
        found = tape.gradient(
            [*state, *values],
            arguments,
            output_gradients=[*state_grads, *_slices(output_grads, i)],
            unconnected_gradients=tf.UnconnectedGradients.ZERO,
        )
        found = [tf.convert_to_tensor(g) for g in found]
        shared_grads = tuple(a + b for a, b in zip(shared_grads, found[num_sliced:], strict=True))
        stacked_grads = _write(stacked_grads, i, found[num_state:num_sliced])
        return n + 1, tuple(found[:num_state]), stacked_grads, shared_grads

    _, state_grads, stacked_grads, shared_grads = tf.while_loop(
        lambda n, *_: n < num_steps,
        step,
        (
            0,
            tuple(state_grads),
            tuple(_array(num_steps, x.shape[1:], x.dtype) for x in stacked),
            tuple(tf.zeros_like(x) for x in shared),
        ),
        maximum_iterations=num_steps,
    )
    return [*state_grads, *(a.stack() for a in stacked_grads), *shared_grads]


def _array(num_steps: int, shape: Any, dtype: Any) -> tf.TensorArray:
    return tf.TensorArray(dtype, num_steps, element_shape=shape, clear_after_read=False)


def _write(arrays: Tensors, i: Tensor, values: Sequence[Tensor]) -> Tensors:
    return tuple(a.write(i, x) for a, x in zip(arrays, values, strict=True))


def _slices(stacked: Sequence[Tensor], i: Tensor) -> Tensors:
    return tuple(tf.gather(x, i) for x in stacked)
