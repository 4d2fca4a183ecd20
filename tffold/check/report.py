"""What a check found: one line for each question, for people and as JSON."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from records.durable import write_whole
from records.errors import InputError

PASS, FAIL, MEASURED, LEFT_OUT = "pass", "fail", "measured", "left out"


@dataclass(frozen=True)
class Line:
    """One answer: ``status`` is ``PASS``, ``FAIL``, ``MEASURED`` or ``LEFT_OUT`` (with the reason).

    ``values`` are its numbers, as the report and later parts read them.
    """

    part: str
    name: str
    status: str
    text: str
    values: dict[str, Any] = field(default_factory=dict)

    def __str__(self) -> str:
        return f"{self.status:9} {self.part}: {self.name}: {self.text}"


def judge(part: str, name: str, good: bool, text: str, **values: Any) -> Line:
    """A line that passes or fails."""
    return Line(part, name, PASS if good else FAIL, text, values)


def measured(part: str, name: str, text: str, **values: Any) -> Line:
    return Line(part, name, MEASURED, text, values)


def left_out(part: str, name: str, reason: str) -> Line:
    return Line(part, name, LEFT_OUT, reason)


def all_passed(lines: Sequence[Line]) -> bool:
    """Whether no line failed, and there are lines at all."""
    return bool(lines) and all(line.status != FAIL for line in lines)


def values_of(lines: Sequence[Line]) -> dict[str, Any]:
    """The numbers of all lines under ``part.name.value``."""
    return {
        f"{line.part}.{line.name}.{key}": value
        for line in lines
        for key, value in line.values.items()
    }


def write_json(path: Path, lines: Sequence[Line], about: Mapping[str, Any]) -> None:
    """The report to attach to a bug report.

    Raises:
      InputError: it cannot be written.
    """
    tree = {**about, "passed": all_passed(lines), "lines": [asdict(line) for line in lines]}
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_whole(path, json.dumps(finite(tree), indent=1, allow_nan=False) + "\n")
    except OSError as error:
        raise InputError(
            f"the report cannot be written: {error.strerror}", file=path, mend="choose --report"
        ) from None


def finite(tree: Any) -> Any:
    """JSON has no NaN and no infinity: such numbers become words."""
    if isinstance(tree, Mapping):
        return {key: finite(value) for key, value in tree.items()}
    if isinstance(tree, list | tuple):
        return [finite(value) for value in tree]
    if isinstance(tree, float) and not math.isfinite(tree):
        return str(tree)
    return tree
