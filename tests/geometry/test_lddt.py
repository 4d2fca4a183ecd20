"""lDDT by hand."""

import numpy as np
import pytest
from points import line

from tffold import geometry


def test_lddt_by_hand():
    true = line(0, 10, 30)
    # Pairs in reach: (0, 1) only; its distance is off by 1.5: 2 of 4 thresholds hold.
    predicted = line(0, 11.5, 30)
    ones = np.ones(3, "float32")
    assert float(geometry.lddt(predicted, true, ones)) == pytest.approx(0.5)
    per_residue = geometry.lddt_per_residue(predicted, true, ones)
    np.testing.assert_allclose(per_residue, [0.5, 0.5, 1.0])  # the last has no pair
    # With a longer reach (0, 2) is exact and (1, 2) off by 1.5.
    np.testing.assert_allclose(
        geometry.lddt_per_residue(predicted, true, ones, cutoff=50.0), [0.75, 0.5, 0.75]
    )
    mask = np.array([1, 0, 1], "float32")
    assert float(geometry.lddt(predicted, true, mask, cutoff=50.0)) == pytest.approx(1.0)
    for error, score in ((0.4, 1.0), (0.6, 0.75), (3.0, 0.25), (5.0, 0.0)):
        found = geometry.lddt(line(0, 10 + error), line(0, 10), ones[:2])
        assert float(found) == pytest.approx(score, abs=1e-6)
