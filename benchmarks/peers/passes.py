"""What both sides of ``predict.py`` share: their command line, and how passes are timed."""

from __future__ import annotations

import argparse
import json
import resource
import time
from collections.abc import Callable
from pathlib import Path


def timed(run_pass: Callable[[], bool], passes: int) -> dict[str, float]:
    """Seconds of the first pass and of the quickest other, and the process's peak.

    ``run_pass`` waits for its outputs and says whether they are finite.
    """
    seconds = []
    for _ in range(passes):
        start = time.perf_counter()
        finite = run_pass()
        seconds.append(time.perf_counter() - start)
    if not finite:
        raise SystemExit("the outputs are not finite")
    return {
        "first_seconds": seconds[0],
        "pass_seconds": min(seconds[1:]),
        "peak_gb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9,
    }


def main(description: str, measure: Callable[[argparse.Namespace], dict[str, float]]) -> None:
    """Measures what the command line asks for, and writes the JSON."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("batch")
    parser.add_argument("--json", type=Path, required=True)
    parser.add_argument("--evoformer-blocks", type=int, default=48)
    parser.add_argument("--extra-msa-blocks", type=int, default=4)
    parser.add_argument("--passes", type=int, default=2)
    options = parser.parse_args()
    options.json.write_text(json.dumps(measure(options), indent=1))
