"""Many blocks of equal shape, run in one recomputing loop."""

from __future__ import annotations

from typing import Any

from tffold.model.module import DEFAULT_OPTIONS, Module, OnlyTheseWeights, Options, stacked
from tffold.model.primitives import fold_key
from tffold.model.recompute import recomputing_loop

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
    ``none`` the blocks are unrolled and everything is kept.
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
