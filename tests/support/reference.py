"""The reference cases in ``tests/golden`` as nested dictionaries."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

GOLDEN = Path(__file__).parent.parent / "golden"
CASES = sorted(path.name.removesuffix(".batch.npz") for path in GOLDEN.glob("*.batch.npz"))


def load_batch(case: str) -> dict[str, np.ndarray]:
    """The whole batch, leading axis = recycling pass."""
    with np.load(GOLDEN / f"{case}.batch.npz") as file:
        return {name: file[name] for name in file.files}


def load_expected(case: str) -> dict[str, np.ndarray]:
    """What the reference answered, without gradient norms."""
    with np.load(GOLDEN / f"{case}.expected.npz") as file:
        return {name: file[name] for name in file.files if not name.startswith("grad")}


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
