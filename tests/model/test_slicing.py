"""How many slices; that they change nothing is tested layer by layer (layers.py)."""

from __future__ import annotations

import pytest

from tffold.model.slicing import num_slices


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
