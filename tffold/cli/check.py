"""``tffold-check [CONFIG] [key=value ...]``: proves this installation on this machine."""

from __future__ import annotations

import argparse
import os
import signal
import sys
from collections.abc import Sequence
from pathlib import Path

from records.arguments import ShowVersion
from records.errors import InputError
from tffold import logs
from tffold.check.run import PARTS, Options, run
from tffold.config_file import load_config, packaged

EXIT_FAILED = 1  # a line failed
EXIT_INPUT = 2  # something that the user can mend before anything is checked
EXIT_INTERRUPTED = 130
DEFAULT = "initial_training"


def main(arguments: Sequence[str] | None = None) -> int:
    """Entry point; returns the exit code."""
    options = _parser().parse_intermixed_args(arguments)
    logs.show()
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    chosen = [options.config] if options.config else []
    if chosen and "=" in chosen[0]:  # settings alone
        options.overrides, chosen = [*chosen, *options.overrides], []
    before = signal.signal(signal.SIGTERM, _interrupt)
    try:
        config = load_config(*(chosen or [DEFAULT]), options.overrides)
        good = run(
            config,
            Options(
                parts=options.parts.split(","),
                report=Path(options.report),
                tune=options.tune,
                traffic=options.traffic,
                plan=options.plan,
                cpu_devices=options.cpu_devices,
                memory_limit=int(options.memory_limit * 1e9),
                seconds=options.minutes * 60,
            ),
        )
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        return EXIT_INPUT
    except KeyboardInterrupt:
        print("interrupted: nothing is left running", file=sys.stderr)
        return EXIT_INTERRUPTED
    finally:
        signal.signal(signal.SIGTERM, before)
    return 0 if good else EXIT_FAILED


def _interrupt(number: int, frame: object) -> None:
    raise KeyboardInterrupt


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="tffold-check",
        description="Check this machine and this installation, measure what a configuration will "
        "do here, and write a report. No data set is needed; with one it is checked too.",
        epilog=f"Exit codes: 0 all passed; {EXIT_FAILED} a line failed; {EXIT_INPUT} bad input; "
        f"{EXIT_INTERRUPTED} interrupted.",
    )
    parser.add_argument("--version", action=ShowVersion)
    parser.add_argument(
        "config",
        nargs="?",
        metavar="CONFIG",
        help=f"a YAML file, or a packaged configuration ({DEFAULT}): {', '.join(packaged())}",
    )
    parser.add_argument(
        "overrides", nargs="*", metavar="key=value", help="for example train.strategy=mirrored"
    )
    parser.add_argument(
        "--parts",
        default=",".join(PARTS),
        metavar="PART,...",
        help="only these parts (default: %(default)s)",
    )
    parser.add_argument(
        "--report",
        default="tffold-check.json",
        metavar="FILE",
        help="where the report goes, to be attached to a bug report (default: %(default)s)",
    )
    parser.add_argument(
        "--tune",
        action="store_true",
        help="also measure other settings for remat, slices, precision and batch, and print the "
        "fastest as a configuration",
    )
    parser.add_argument(
        "--traffic",
        action="store_true",
        help="also count the memory that a step moves, which compiles it a second time",
    )
    parser.add_argument(
        "--plan",
        default="",
        metavar="TOPOLOGY",
        help="also plan this configuration as tffold-fit --plan does, and compare the memory",
    )
    parser.add_argument(
        "--cpu-devices",
        type=int,
        default=1,
        metavar="N",
        help="make so many devices of the processor, to try train.strategy=mirrored",
    )
    parser.add_argument(
        "--memory-limit",
        type=float,
        default=0.0,
        metavar="GB",
        help="end a part that takes more of the host's memory (default: what is free now)",
    )
    parser.add_argument(
        "--minutes",
        type=float,
        default=60.0,
        help="after which a part is taken to hang (default: %(default)s)",
    )
    return parser


if __name__ == "__main__":
    sys.exit(main())
