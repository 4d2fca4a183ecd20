"""Many blocks of equal shape, run in one recomputing loop."""

from __future__ import annotations

import math
from typing import Any

from keras import ops

from tffold.model.module import DEFAULT_OPTIONS, Module, OnlyTheseWeights, Options, stacked
from tffold.model.primitives import fold_key
from tffold.model.recompute import Body, recomputing_loop

Tensor = Any


class BlockStack(Module):
    """x <- block_l(x) for l = 1 to ``num_block`` (Algorithms 6, 16 and 18, line 1).

    Each block has weights of its own.

    ``block`` maps ``(state, constants, key)`` to the next state, a tuple of
    tensors like the first; its weights get a leading block axis. With ``remat`` ``all`` the
    backward pass keeps each block's input only and recomputes the block from it, in a loop
    (supplement 1.11.8); dropout recurs exactly because its masks depend on ``key`` and the
    block's number alone. With ``cheap`` it also keeps what the block passes to ``keep``; the
    block's ``kept_specs(state)`` says the shapes and dtypes, in the order of the calls. With
    ``nested`` it keeps the input of each group of blocks only, and makes those of a group's
    blocks anew: 15 inputs of 48 blocks at a time, for one more forward pass. With ``none`` the
    blocks are unrolled and everything is kept.
    """

    def __init__(
        self, block: Module, num_block: int, name: str, options: Options = DEFAULT_OPTIONS
    ):
        super().__init__(name)
        self.block, self.num_block, self.remat = block, num_block, options.remat

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
        weights = [v.value for v in variables]
        if self.num_block == 0:
            return state

        def run_block(i: Tensor, state: tuple, weights: tuple, _: tuple) -> tuple[tuple, tuple]:
            with OnlyTheseWeights(variables, weights):
                return tuple(self.block(state, tuple(constants), fold_key(key, i))), ()

        if self.remat == "nested":
            return self._in_groups(run_block, state, weights)
        if self.remat != "none":
            keeps = self.remat == "cheap" and hasattr(self.block, "kept_specs")
            state, _ = recomputing_loop(
                run_block,
                self.num_block,
                state,
                stacked=weights,
                kept_specs=self.block.kept_specs(state) if keeps else (),
            )
            return state
        for i in range(self.num_block):
            state, _ = run_block(i, state, tuple(w[i] for w in weights), ())
        return state

    def _in_groups(self, run_block: Body, state: tuple, weights: list[Tensor]) -> tuple:
        """A loop over groups of blocks, and in each a loop over its blocks; both recompute."""
        size = group_size(self.num_block)

        def run_group(i: Tensor, state: tuple, weights: tuple, _: tuple) -> tuple[tuple, tuple]:
            def run_one(j: Tensor, *arguments: tuple) -> tuple[tuple, tuple]:
                return run_block(i * size + j, *arguments)

            return recomputing_loop(run_one, size, state, stacked=weights)

        # [num_block, ...] -> [groups, size, ...]
        grouped = [ops.reshape(w, (-1, size, *w.shape[1:])) for w in weights]
        return recomputing_loop(run_group, self.num_block // size, state, stacked=grouped)[0]


def group_size(num_block: int) -> int:
    """Of ``num_block`` blocks as many as ``remat: nested`` puts in a group: the largest divisor
    that is no larger than the square root, so that groups and blocks of a group are about as many.
    """
    return max(d for d in range(1, math.isqrt(num_block) + 1) if num_block % d == 0)
