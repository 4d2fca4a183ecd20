"""Work on a few rows at a time, so that no large intermediate is ever whole (supplement 1.11.8)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import keras
from keras import ops

from tffold.model.module import Module, OnlyTheseWeights
from tffold.model.recompute import recomputing_loop

Tensor = Any
MIB = 2**20
ELEMENT_BYTES = 4  # logits are float32 whatever the trunk is; what is smaller is counted so too


def num_slices(num_row: int, row_bytes: int, slice_mib: int) -> int:
    """The fewest equal slices of the rows of at most ``slice_mib`` each; 0 means no limit."""
    if not slice_mib:
        return 1
    fitting = max(1, slice_mib * MIB // max(row_bytes, 1))
    return next(n for n in range(1, num_row + 1) if num_row % n == 0 and num_row // n <= fitting)


def sliced(
    modules: Sequence[Module],
    function: Callable[..., Tensor],
    rows: Sequence[Tensor],
    beside: Sequence[Tensor] = (),
    shared: Sequence[Tensor] = (),
    *,
    row_size: int,
    slice_mib: int,
    row_shape: Sequence[int] | None = None,
    row_shapes: Sequence[Sequence[int]] | None = None,
    dtype: str | None = None,
) -> Any:
    """``function(*rows, *beside, *shared)``, which treats rows apart, over slices of the rows.

    The gradient recomputes each slice, so what ``function`` makes on the way is never kept.

    Args:
      modules: all of which ``function`` reads weights; reading another's raises.
      function: its result is [n, *row_shape].
      rows: differentiable tensors [n, ...].
      beside: tensors [n, ...] without gradient.
      shared: differentiable tensors that every slice needs whole.
      row_size: elements of the largest intermediate of one row.
      slice_mib: MiB that this intermediate may take; 0: no slices.
      row_shape, dtype: of the result's rows; default: those of the first of ``rows``.
      row_shapes: where ``function`` returns several results, one for each.
    """
    num_row = (*rows, *beside)[0].shape[0]
    count = num_slices(num_row, ELEMENT_BYTES * row_size, slice_mib)
    if count == 1:
        return function(*rows, *beside, *shared)
    size = num_row // count
    shapes = row_shapes or [rows[0].shape[1:] if row_shape is None else row_shape]
    dtype = keras.backend.standardize_dtype(dtype or rows[0].dtype)
    num_shared = len(shared)
    variables = [v for module in modules for v in module.trainable_variables]
    # [n, ...] -> [slices, n / slices, ...]
    rows, beside = (
        [ops.reshape(x, (count, size, *x.shape[1:])) for x in xs] for xs in (rows, beside)
    )

    def body(i: Tensor, _: tuple, slices: tuple, whole: tuple) -> tuple[tuple, tuple]:
        others = [ops.take(x, i, axis=0) for x in beside]
        with OnlyTheseWeights(variables, whole[num_shared:]):
            found = function(*slices, *others, *whole[:num_shared])
        return (), (tuple(found) if row_shapes else (found,))

    weights = [v.value for v in variables]
    specs = [((size, *shape), dtype) for shape in shapes]
    _, results = recomputing_loop(body, count, (), rows, (*shared, *weights), specs)
    # [slices, n / slices, ...] -> [n, ...]
    results = [ops.reshape(x, (num_row, *shape)) for x, shape in zip(results, shapes, strict=True)]
    return tuple(results) if row_shapes else results[0]
