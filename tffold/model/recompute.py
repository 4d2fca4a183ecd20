"""A loop whose gradient recomputes: compile time and memory that do not grow with its length.

This is the one place of the network that uses TensorFlow itself: Keras has
no loop with such a gradient.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from contextvars import ContextVar
from typing import Any

import tensorflow as tf

Tensor = Any
Tensors = tuple[Tensor, ...]
# (step, state, the step's slices, shared) -> next state, outputs
Body = Callable[[Tensor, Tensors, Tensors, Tensors], tuple[Tensors, Tensors]]

# What a body run anew need not make: the state that it returned, and what it kept.
_Known = tuple[Tensors, Iterator[Tensor]]
_KNOWN: ContextVar[_Known | None] = ContextVar("known", default=None)
_KEEPING: ContextVar[list[Tensor] | None] = ContextVar("keeping", default=None)


@contextlib.contextmanager
def _within(known: _Known | None = None, keeping: list[Tensor] | None = None) -> Iterator[None]:
    """Within, ``returned`` and ``keep`` look up ``known``, and ``keep`` adds to ``keeping``."""
    tokens = _KNOWN.set(known), _KEEPING.set(keeping)
    try:
        yield
    finally:
        _KNOWN.reset(tokens[0])
        _KEEPING.reset(tokens[1])


def returned(x: Tensor, index: int) -> Tensor:
    """Tells, in a loop's body, that ``x`` is what the body returns as ``state[index]``.

    The backward pass has it: the next step's input. What needs ``x`` is then recomputed from
    that, and what makes ``x`` is not run again but for its gradient. Elsewhere it does nothing.
    """
    known = _KNOWN.get()
    return x if known is None else _in_place_of(x, known[0][index])


def keep(x: Tensor) -> Tensor:
    """Tells, in a loop's body, that the backward pass shall have ``x`` and not make it again.

    It costs ``x``'s memory in every step, and is done only where the loop has ``kept_specs``.
    """
    known, keeping = _KNOWN.get(), _KEEPING.get()
    if keeping is not None:
        keeping.append(x)
    kept = None if known is None else next(known[1], None)
    return x if kept is None else _in_place_of(x, kept)


@tf.custom_gradient
def _in_place_of(made: Tensor, stored: Tensor) -> tuple[Tensor, Callable]:
    """``stored``, with the gradient of ``made``, which it equals and which nothing then needs."""
    return tf.identity(stored), lambda gradient: (gradient, None)


def recomputing_loop(
    body: Body,
    num_steps: int,
    state: Sequence[Tensor],
    stacked: Sequence[Tensor] = (),
    shared: Sequence[Tensor] = (),
    output_specs: Sequence[tuple[Sequence[int], str]] = (),
    kept_specs: Sequence[tuple[Sequence[int], str]] = (),
) -> tuple[Tensors, Tensors]:
    """Runs ``body`` ``num_steps`` times; returns the last state and all outputs, stacked.

    The forward loop keeps each step's incoming state, and what ``body`` passes to ``keep``, of
    the shapes and dtypes of ``kept_specs`` in the order of the calls, if any are given; the
    backward loop runs each step again from that (supplement 1.11.8). Gradients
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
        last, inputs, kept, outputs = _forward_loop(
            split_body, num_steps, start, stacked, shared, output_specs, kept_specs
        )

        def gradient(*grads: Tensor) -> list[Tensor]:
            state_grads, output_grads = grads[: len(start)], grads[len(start) :]
            return _backward_loop(
                split_body, num_steps, inputs, kept, stacked, shared, state_grads, output_grads
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
    kept_specs: Sequence[tuple[Sequence[int], str]],
) -> tuple[Tensors, Tensors, Tensors, Tensors]:
    """-> the last state, arrays of every state, of what is kept, and the stacked outputs."""

    def step(i: Tensor, state: Tensors, inputs: Tensors, kept: Tensors, outputs: Tensors) -> tuple:
        keeping: list[Tensor] | None = [] if kept_specs else None
        with _within(keeping=keeping):
            state, values = body(i, (*state, *_slices(stacked, i), *shared))
        inputs, kept = _write(inputs, i + 1, state), _write(kept, i, keeping or ())
        return i + 1, tuple(state), inputs, kept, _write(outputs, i, values)

    inputs = tuple(_array(num_steps + 1, x.shape, x.dtype) for x in state)
    kept, outputs = (
        tuple(_array(num_steps, shape, dtype) for shape, dtype in specs)
        for specs in (kept_specs, output_specs)
    )
    _, last, inputs, kept, outputs = tf.while_loop(
        lambda i, *_: i < num_steps,
        step,
        (0, state, _write(inputs, 0, state), kept, outputs),
        maximum_iterations=num_steps,
    )
    return last, inputs, kept, tuple(a.stack() for a in outputs)


def _backward_loop(
    body: _SplitBody,
    num_steps: int,
    inputs: Tensors,
    kept: Tensors,
    stacked: Tensors,
    shared: Tensors,
    state_grads: Tensors,
    output_grads: Tensors,
) -> list[Tensor]:
    """-> gradients of the first state, of ``stacked`` and of ``shared``, in one row.

    ``inputs``, ``kept``: the arrays that the forward loop made; the gradients given are those of
    its results.
    """
    num_state, num_sliced = len(inputs), len(inputs) + len(stacked)

    def step(
        n: Tensor, state_grads: Tensors, stacked_grads: Tensors, shared_grads: Tensors
    ) -> tuple:
        # Without a state the order is free, and XLA knows of an array that is written from its
        # start that it need not be filled with zeros first.
        i = num_steps - 1 - n if inputs else n
        arguments = (*(a.read(i) for a in inputs), *_slices(stacked, i), *shared)
        known = tuple(a.read(i + 1) for a in inputs), iter([a.read(i) for a in kept])
        with tf.GradientTape() as tape, _within(known=known):
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
