"""Speed measured again and again: the largest crop that fits, and better settings (``--tune``)."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from typing import Any

from tffold.check.child import ENDED, OUT_OF_MEMORY
from tffold.check.report import FAIL, Line, measured
from tffold.config import REMAT, Config

PART = "speed"
CROP_UNIT = 16  # residues
WORTH = 1.02  # a change that brings less is noise
SLICES = (0, 16, 64, 256)  # MiB
Measure = Callable[..., list[Line]]  # a configuration and options of ``speed.check``


def out_of_memory(lines: list[Line]) -> bool:
    """Whether the part's process died of that."""
    return any(line.name == ENDED and line.values.get(OUT_OF_MEMORY) for line in lines)


def samples_per_second(lines: list[Line]) -> float:
    """0 where the step was not measured."""
    found = [line.values["samples_per_second"] for line in lines if line.name == "step"]
    return found[0] if found and not any(line.name == ENDED for line in lines) else 0.0


def largest_crop(config: Config, measure: Measure) -> Iterator[Line]:
    """What fits where ``config`` does not, found by bisection, and its lines."""
    low, high, best = 0, config.data.crop_size, []
    while high - low > CROP_UNIT:
        middle = max((low + high) // 2 // CROP_UNIT * CROP_UNIT, CROP_UNIT)
        if middle in (low, high):
            break
        lines = measure(changed(config, {"data.crop_size": middle}), brief=True)
        if samples_per_second(lines):
            low, best = middle, lines
        elif out_of_memory(lines):
            high = middle
        else:  # another fault, which a smaller crop does not mend
            yield from lines
            return
    if not low:
        yield Line(PART, "largest crop", FAIL, f"not even data.crop_size={high} fits")
        return
    yield measured(PART, "largest crop", f"data.crop_size={low} fits", crop_size=low)
    yield from best


def tune(config: Config, base: list[Line], measure: Measure) -> Iterator[Line]:
    """One setting after the other against ``base``, then the good ones together.

    The last line's text is a configuration to be put into a file.
    """
    model = config.model
    before = samples_per_second(base)
    tries: list[dict[str, Any]] = [
        *({"model.remat": mode} for mode in REMAT if mode != model.remat),
        {"model.bfloat16": not model.bfloat16},
        *({"model.slice_mib": size} for size in SLICES if size != model.slice_mib),
    ]
    good: dict[str, tuple[float, dict[str, Any]]] = {}
    for settings in tries:
        ((name, _),) = settings.items()
        rate, line = _try(config, settings, before, measure)
        yield line
        if rate > max(before * WORTH, good.get(name, (0.0, {}))[0]):
            good[name] = (rate, settings)
    # A larger batch is another training, so it is told and not chosen.
    yield _try(config, {}, before, measure, examples=2)[1]
    best, chosen = max(good.values(), key=lambda one: one[0], default=(before, {}))
    if len(good) > 1:
        together = {k: v for _, settings in good.values() for k, v in settings.items()}
        rate, line = _try(config, together, before, measure)
        yield line
        if rate > best:
            best, chosen = rate, together
    fragment = as_yaml(chosen)
    text = (
        f"{best / before:.2f} times as fast with\n{fragment}"
        if chosen
        else ("the settings as they are are the fastest")
    )
    yield measured(PART, "best settings", text, settings=chosen, fragment=fragment)


def _try(
    config: Config, settings: dict[str, Any], before: float, measure: Measure, examples: int = 1
) -> tuple[float, Line]:
    """Samples a second under changed settings, and the line that says so."""
    words = [f"{name}={str(value).lower()}" for name, value in settings.items()]
    name = "tune " + (" ".join(words) or f"{examples} examples a replica at once")
    lines = measure(changed(config, settings), brief=True, examples=examples)
    rate = samples_per_second(lines)
    if not rate:
        why = "does not fit" if out_of_memory(lines) else lines[-1].text if lines else "no answer"
        return 0.0, measured(PART, name, why)
    peak = next(line.values["peak_bytes"] for line in lines if line.name == "memory")
    text = f"{rate:.3g} samples a second ({rate / before:.2f} of before), {peak / 1e9:.2f} GB"
    return rate, measured(PART, name, text, samples_per_second=rate, peak_bytes=peak)


def changed(config: Config, settings: dict[str, Any]) -> Config:
    """A copy with other values under dotted keys of one section."""
    other = copy.deepcopy(config)
    for name, value in settings.items():
        section, key = name.split(".")
        setattr(getattr(other, section), key, value)
    return other


def as_yaml(settings: dict[str, Any]) -> str:
    """A fragment that ``load_config`` reads."""
    sections: dict[str, list[str]] = {}
    for name, value in settings.items():
        section, key = name.split(".")
        sections.setdefault(section, []).append(f"  {key}: {str(value).lower()}")
    return "\n".join(line for name, lines in sections.items() for line in (f"{name}:", *lines))
