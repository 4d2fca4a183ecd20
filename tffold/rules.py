"""What is known of a setting beside its type and its default, said where it is defined."""

from __future__ import annotations

import typing
from collections.abc import Callable
from dataclasses import dataclass, field, fields, is_dataclass, replace
from typing import Any


@dataclass(frozen=True)
class Rule:
    """What is known of a setting, or of all settings of a section, beside type and default.

    A number is finite and not negative unless its rule says otherwise.  The bounds of a list
    hold for its items.
    """

    at_least: float = 0
    at_most: float = float("inf")
    below: float = float("inf")
    one_of: tuple[str, ...] = ()
    free_on_resume: bool = False  # changes no number, so a run may go on with another value
    read_by_predict: bool = True  # of ``data``; False: no prediction depends on it
    # Runs are compared by it in TensorBoard: always, never, or (None) where it is not the default.
    compared: bool | None = None


def setting(default: Any, **known: Any) -> Any:
    """A field with a default and a ``Rule``."""
    metadata = {"rule": Rule(**known)}
    if isinstance(default, list):
        return field(default_factory=lambda: list(default), metadata=metadata)
    return field(default=default, metadata=metadata)


def section(make: Callable[[], Any], **known: Any) -> Any:
    """A field that is a section; what is said of it holds for each of its settings."""
    return field(default_factory=make, metadata={"rule": Rule(**known)})


def rules(cls: type, of_section: Rule | None = None, prefix: str = "") -> dict[str, Rule]:
    """The rule of every setting of a section and of those in it, by dotted key."""
    found: dict[str, Rule] = {}
    hints = typing.get_type_hints(cls)
    for item in fields(cls):
        rule = item.metadata.get("rule", Rule())
        if of_section is not None:
            rule = replace(
                rule,
                free_on_resume=rule.free_on_resume or of_section.free_on_resume,
                compared=of_section.compared if rule.compared is None else rule.compared,
            )
        if is_dataclass(hints[item.name]):
            found |= rules(hints[item.name], rule, f"{prefix}{item.name}.")
        else:
            found[prefix + item.name] = rule
    return found
