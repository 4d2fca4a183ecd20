"""What the controls keep and what they destroy."""

from __future__ import annotations

import numpy as np
from synthetic import chain

from examples.learning.controls import CONTROLS, query_alone, shuffled_columns

RAW = chain(num_res=25, num_msa=40)


def test_query_alone():
    found = query_alone(RAW)
    np.testing.assert_array_equal(found["msa"], RAW["msa"][:1])
    np.testing.assert_array_equal(found["deletion_matrix"], RAW["deletion_matrix"][:1])
    assert len(RAW["msa"]) == 40


def test_shuffled_columns_keep_the_profile_and_lose_the_rows():
    found = shuffled_columns(RAW)
    pairs = [np.stack([raw["msa"], raw["deletion_matrix"]], -1).astype(int) for raw in (RAW, found)]
    np.testing.assert_array_equal(found["msa"][0], RAW["msa"][0])
    np.testing.assert_array_equal(found["deletion_matrix"][0], 0)
    for column in range(25):  # letters with their deletions
        before, after = (sorted(map(tuple, pair[:, column])) for pair in pairs)
        assert before == after
    kept = {row.tobytes() for row in RAW["msa"][1:]} & {row.tobytes() for row in found["msa"][1:]}
    assert not kept
    # Two columns that always agreed do so no longer: each has an order of its own.
    twins = {**RAW, "msa": np.repeat(np.arange(40, dtype=np.uint8)[:, None] % 20, 2, axis=1),
             "deletion_matrix": np.zeros((40, 2), np.uint8)}  # fmt: skip
    first, second = shuffled_columns(twins)["msa"].T
    assert (first != second).mean() > 0.5
    np.testing.assert_array_equal(shuffled_columns(RAW)["msa"], found["msa"])


def test_fewer_rows():
    found = CONTROLS["rows_16"](RAW)
    assert found["msa"].shape == found["deletion_matrix"].shape == (16, 25)
    np.testing.assert_array_equal(found["msa"][0], RAW["msa"][0])
    rows = [np.flatnonzero((RAW["msa"] == row).all(1))[0] for row in found["msa"]]
    assert len(set(rows)) == 16 and sorted(rows) == rows and rows != list(range(16))
    for row, deletions in zip(rows, found["deletion_matrix"], strict=True):
        np.testing.assert_array_equal(RAW["deletion_matrix"][row], deletions)
    np.testing.assert_array_equal(CONTROLS["rows_64"](RAW)["msa"], RAW["msa"])
