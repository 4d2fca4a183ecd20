"""Sliced work against whole: the same numbers, less memory."""

from __future__ import annotations

import numpy as np
import pytest
from gradients import loss_and_gradients
from tiny import tiny_config

from tffold.model import slicing
from tffold.model.slicing import num_slices

pytestmark = pytest.mark.slow


@pytest.mark.parametrize(
    ("rows", "row_bytes", "limit", "expected"),
    [
        (8, 2**20, 0, 1),  # no limit
        (8, 2**20, 8, 1),
        (8, 2**20, 7, 2),
        (12, 2**20, 5, 3),  # 4 fit, 5 do not divide
        (7, 2**20, 6, 7),
        (4, 2**30, 1, 4),  # never less than a row
    ],
)
def test_the_fewest_equal_slices_that_fit(rows, row_bytes, limit, expected):
    assert num_slices(rows, row_bytes, limit) == expected


def test_slices_change_nothing_but_rounding(monkeypatch):
    whole, whole_gradients = loss_and_gradients(tiny_config(slice_mib=0), None)
    seen = []

    def counted(*arguments):
        seen.append(num_slices(*arguments))
        return seen[-1]

    monkeypatch.setattr(slicing, "MIB", 1)  # the limit is in bytes then
    monkeypatch.setattr(slicing, "num_slices", counted)
    config = tiny_config(slice_mib=2500)
    cut, cut_gradients = loss_and_gradients(config, None)
    assert min(seen) > 1
    assert len(set(seen)) > 2
    for name, value in whole.items():
        np.testing.assert_allclose(cut[name], value, rtol=1e-4, atol=1e-4 * np.abs(value).max())
    largest = max(np.abs(g).max() for g in whole_gradients)
    for a, b in zip(cut_gradients, whole_gradients, strict=True):
        np.testing.assert_allclose(a, b, rtol=0, atol=1e-3 * np.abs(b).max() + 1e-7 * largest)
