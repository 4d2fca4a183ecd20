"""What the peers' training steps share: their command line, and how steps are timed."""

from __future__ import annotations

import argparse
import json
import math
import resource
import statistics
import time
from collections.abc import Callable, Sequence
from pathlib import Path


def timed(run_step: Callable[[int], float], steps: int) -> dict[str, float]:
    """Seconds of the first step beyond the quickest other, the others' median, and the peak.

    ``run_step`` takes the step of a number, from 0 on, waits for it and returns its loss.
    """
    seconds = []
    for number in range(steps + 1):
        start = time.perf_counter()
        loss = run_step(number)
        seconds.append(time.perf_counter() - start)
    if not math.isfinite(loss):
        raise SystemExit(f"the loss is {loss}")
    return {
        "compile_seconds": seconds[0] - min(seconds[1:]),
        "step_seconds": statistics.median(seconds[1:]),
        "peak_gb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9,
        "loss": loss,
    }


def main(
    description: str, measure: Callable[[argparse.Namespace], dict], more: Sequence[str] = ()
) -> None:
    """Measures what the command line asks for, and writes the JSON; ``more`` are further flags."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("batch")
    parser.add_argument("--json", type=Path, required=True)
    parser.add_argument("--evoformer-blocks", type=int, default=4)
    parser.add_argument("--extra-msa-blocks", type=int, default=1)
    parser.add_argument("--no-remat", action="store_true")
    parser.add_argument("--steps", type=int, default=10)
    for flag in more:
        parser.add_argument(flag, action="store_true")
    options = parser.parse_args()
    options.json.write_text(json.dumps(measure(options), indent=1))
