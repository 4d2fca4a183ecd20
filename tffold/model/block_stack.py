"""Many blocks, one loop: compile time and memory that do not grow with the work of each block.

This is the one place of the network that uses TensorFlow itself: Keras has
no loop whose gradient recomputes.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import tensorflow as tf
from keras import ops

from tffold.model.module import Module, bound, stacked
from tffold.model.primitives import fold

Tensor = Any


class BlockStack(Module):
    """``num_block`` copies of ``block``, run one after the other (supplement 1.11.8).

    ``block`` maps ``(state, constants, key)`` to the next state, a tuple of
    tensors like the first; its weights get a leading block axis. With
    ``remat`` the backward pass keeps each block's input only and recomputes
    the block from it, in a loop; dropout recurs exactly because its masks
    depend on ``key`` and the block's number alone. Without, the blocks are
    unrolled and everything is kept.
    """

    def __init__(self, block: Module, num_block: int, name: str, remat: bool = True):
        super().__init__(name)
        self.block, self.num_block, self.remat = block, num_block, remat

    def build(self, input_shape: Any = None) -> None:
        with stacked(self.num_block):
            self.block.build()

    def call(
        self,
        state: tuple[Tensor, ...],
        constants: tuple[Tensor, ...],
        key: Tensor | None = None,
    ) -> tuple[Tensor, ...]:
        variables = self.block.trainable_variables
        weights = [self.read(v) for v in variables]

        def run_block(i: Tensor, weights_i: list[Tensor], state: tuple) -> tuple[Tensor, ...]:
            with bound(variables, weights_i):
                return tuple(self.block(tuple(state), tuple(constants), fold(key, i)))

        if self.num_block == 0:
            return state
        if not self.remat:
            for i in range(self.num_block):
                state = run_block(i, [w[i] for w in weights], state)
            return state
        return _loop(run_block, self.num_block, tuple(state), weights)


def _loop(
    run_block: Callable, num_block: int, state: tuple[Tensor, ...], weights: list[Tensor]
) -> tuple[Tensor, ...]:
    """Runs the blocks in one ``while_loop`` with a recomputing gradient."""
    num_state = len(state)

    def array(x: Tensor, shape: Any) -> tf.TensorArray:
        return tf.TensorArray(x.dtype, num_block, element_shape=shape, clear_after_read=False)

    def running(i: Tensor, *_: Any) -> Tensor:
        return i < num_block

    @tf.custom_gradient
    def apply(*tensors: Tensor) -> tuple[tuple[Tensor, ...], Callable]:
        state, weights = tensors[:num_state], tensors[num_state:]

        def forward(i: Tensor, state: tuple, inputs: tuple) -> tuple:
            inputs = tuple(a.write(i, x) for a, x in zip(inputs, state, strict=True))
            return i + 1, run_block(i, [w[i] for w in weights], state), inputs

        inputs = tuple(array(x, x.shape) for x in state)
        _, output, inputs = tf.while_loop(
            running, forward, (0, state, inputs), maximum_iterations=num_block
        )

        def gradient(*output_grads: Tensor) -> list[Tensor]:
            def backward(n: Tensor, state_grads: tuple, weight_grads: tuple) -> tuple:
                i = num_block - 1 - n
                state_i = tuple(a.read(i) for a in inputs)
                weights_i = [w[i] for w in weights]
                with tf.GradientTape() as tape:
                    tape.watch([*state_i, *weights_i])
                    output_i = run_block(i, weights_i, state_i)
                grads = tape.gradient(
                    output_i,
                    [*state_i, *weights_i],
                    output_gradients=list(state_grads),
                    unconnected_gradients=tf.UnconnectedGradients.ZERO,
                )
                weight_grads = tuple(
                    a.write(i, g) for a, g in zip(weight_grads, grads[num_state:], strict=True)
                )
                return n + 1, tuple(grads[:num_state]), weight_grads

            weight_grads = tuple(array(w, w.shape[1:]) for w in weights)
            _, state_grads, weight_grads = tf.while_loop(
                running,
                backward,
                (0, tuple(output_grads), weight_grads),
                maximum_iterations=num_block,
            )
            return [*state_grads, *(a.stack() for a in weight_grads)]

        return output, gradient

    return apply(*(ops.convert_to_tensor(x) for x in state), *weights)
