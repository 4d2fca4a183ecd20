"""The reference cases in ``tests/golden`` as nested dictionaries."""

from __future__ import annotations

from typing import Any

import numpy as np
from golden import GOLDEN_FOLDER, Case, cases

CASES = [case.name for case in cases(GOLDEN_FOLDER)]


def load_batch(case: str) -> dict[str, np.ndarray]:
    """The whole batch, leading axis = recycling pass."""
    return Case(GOLDEN_FOLDER, case).batch()


def load_expected(case: str) -> dict[str, np.ndarray]:
    """What the reference answered, without gradient norms."""
    expected = Case(GOLDEN_FOLDER, case).expected()
    return {name: value for name, value in expected.items() if not name.startswith("grad")}


def nest(flat: dict[str, Any]) -> dict[str, Any]:
    """{"a/b": 1} -> {"a": {"b": 1}}."""
    nested: dict[str, Any] = {}
    for name, value in flat.items():
        *path, last = name.split("/")
        inner = nested
        for key in path:
            inner = inner.setdefault(key, {})
        inner[last] = value
    return nested
