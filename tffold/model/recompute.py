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
    num_state, num_stacked = len(state), len(stacked)

    def array(dtype: Any, shape: Any) -> tf.TensorArray:
        return tf.TensorArray(dtype, num_steps, element_shape=shape, clear_after_read=False)

    def write(arrays: Tensors, i: Tensor, values: Sequence[Tensor]) -> Tensors:
        return tuple(a.write(i, x) for a, x in zip(arrays, values, strict=True))

    def running(i: Tensor, *_: Any) -> Tensor:
        return i < num_steps

    def slices(stacked: Tensors, i: Tensor) -> Tensors:
        return tuple(tf.gather(x, i) for x in stacked)

    @tf.custom_gradient
    def apply(*tensors: Tensor) -> tuple[Tensors, Callable]:
        state = tensors[:num_state]
        stacked = tensors[num_state : num_state + num_stacked]
        shared = tensors[num_state + num_stacked :]

        def forward(i: Tensor, state: Tensors, inputs: Tensors, outputs: Tensors) -> tuple:
            inputs = write(inputs, i, state)
            state, values = body(i, state, slices(stacked, i), shared)
            return i + 1, tuple(state), inputs, write(outputs, i, values)

        inputs = tuple(array(x.dtype, x.shape) for x in state)
        outputs = tuple(array(dtype, shape) for shape, dtype in output_specs)
        _, last, inputs, outputs = tf.while_loop(
            running, forward, (0, state, inputs, outputs), maximum_iterations=num_steps
        )
        results = (*last, *(a.stack() for a in outputs))

        def gradient(*grads: Tensor) -> list[Tensor]:
            output_grads = grads[num_state:]

            def backward(
                n: Tensor, state_grads: Tensors, stacked_grads: Tensors, shared_grads: Tensors
            ) -> tuple:
                i = num_steps - 1 - n
                arguments = (*(a.read(i) for a in inputs), *slices(stacked, i), *shared)
                with tf.GradientTape() as tape:
                    tape.watch(arguments)
                    state_i, values = body(
                        i,
                        arguments[:num_state],
                        arguments[num_state : num_state + num_stacked],
                        arguments[num_state + num_stacked :],
                    )
                found = tape.gradient(
                    [*state_i, *values],
                    arguments,
                    output_gradients=[*state_grads, *(tf.gather(g, i) for g in output_grads)],
                    unconnected_gradients=tf.UnconnectedGradients.ZERO,
                )
                found = [tf.convert_to_tensor(g) for g in found]
                return (
                    n + 1,
                    tuple(found[:num_state]),
                    write(stacked_grads, i, found[num_state : num_state + num_stacked]),
                    tuple(
                        a + b
                        for a, b in zip(shared_grads, found[num_state + num_stacked :], strict=True)
                    ),
                )

            _, state_grads, stacked_grads, shared_grads = tf.while_loop(
                running,
                backward,
                (
                    0,
                    tuple(grads[:num_state]),
                    tuple(array(x.dtype, x.shape[1:]) for x in stacked),
                    tuple(tf.zeros_like(x) for x in shared),
                ),
                maximum_iterations=num_steps,
            )
            return [*state_grads, *(a.stack() for a in stacked_grads), *shared_grads]

        return results, gradient

    results = apply(*state, *stacked, *shared)
    return tuple(results[:num_state]), tuple(results[num_state:])
