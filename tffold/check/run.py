"""The whole check: each part in its process, one line after the other, then the report."""

from __future__ import annotations

import logging
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from records.errors import InputError
from tffold import config_file
from tffold.check import forecast, machine, search
from tffold.check.child import Limits, Request, available_memory, run_part
from tffold.check.report import FAIL, Line, all_passed, left_out, values_of, write_json
from tffold.config import Config

PARTS = ("machine", "numbers", "strategy", "speed", "input", "forecast")
# These meet the other processes of a run; the rest is each machine's own.
_TOGETHER = ("strategy",)
_CLUSTER_VARIABLE = "TF_CONFIG"
_KEPT_FREE = 0.03  # of the host's free memory, for the rest of the system
_LOG = logging.getLogger(__name__)


@dataclass(frozen=True)
class Options:
    """What the command line says; see ``tffold-check --help``."""

    parts: Sequence[str] = PARTS
    report: Path = Path("tffold-check.json")
    tune: bool = False
    traffic: bool = False
    plan: str = ""
    cpu_devices: int = 1
    memory_limit: int = 0
    seconds: float = 3600.0


class Session:
    """The lines so far, and how parts are run.

    Attributes:
      lines: of all parts so far.
    """

    def __init__(self, config: Config, options: Options) -> None:
        self.config, self.options = config, options
        self.lines: list[Line] = []
        self._limits = Limits(
            options.seconds,
            options.memory_limit or int(available_memory() * (1 - _KEPT_FREE)),
        )

    def tell(self, line: Line) -> None:
        """Adds a line and shows it."""
        self.lines.append(line)
        _LOG.info(str(line))

    def run(
        self, part: str, config: Config | None = None, quiet: bool = False, **options: Any
    ) -> list[Line]:
        """A part's lines; ``quiet``: they are not told, but for whoever asked to judge."""
        request = Request(
            config or self.config, self.options.cpu_devices, values_of(self.lines), options
        )
        environment = dict(os.environ)
        if part not in _TOGETHER:
            environment.pop(_CLUSTER_VARIABLE, None)
        tell = (lambda line: None) if quiet else self.tell
        return run_part(part, request, self._limits, tell, environment)


def run(config: Config, options: Options) -> bool:
    """Runs the parts, prints their lines, writes the report; whether all passed.

    Raises:
      InputError: an unknown part, or a report that cannot be written.
    """
    for part in options.parts:
        if part not in PARTS:
            mend = f"choose from {', '.join(PARTS)}"
            raise InputError(f"--parts: there is no '{part}'", mend=mend)
    session = Session(config, options)
    try:
        for part in options.parts:
            if not _run_part(session, part):
                break
    finally:
        about = {"config": config_file.to_dict(config), "parts": list(options.parts)}
        write_json(options.report, session.lines, about)
    good = all_passed(session.lines)
    failed = [f"{line.part}: {line.name}" for line in session.lines if line.status == FAIL]
    _LOG.info("all passed" if good else f"{len(failed)} failed: {'; '.join(failed)}")
    _LOG.info("report: %s", options.report)
    return good


def _run_part(session: Session, part: str) -> bool:
    """Runs a part; False where nothing after it can work."""
    if part == machine.PART:
        for line in machine.installed(machine.versions_installed(), machine.wanted_versions()):
            session.tell(line)
        # Without TensorFlow, or with two, whatever came next would tell nothing.
        if any(line.status == FAIL and line.name == "tensorflow" for line in session.lines):
            session.tell(left_out(part, "everything else", "TensorFlow must be put right first"))
            return False
    if part == forecast.PART:
        for line in forecast.forecast(session.config, values_of(session.lines)):
            session.tell(line)
    elif part == search.PART:
        _run_speed(session)
    else:
        session.run(part)
    return True


def _run_speed(session: Session) -> None:
    """The step as it is; where it does not fit, the largest crop that does; then other settings."""
    options = session.options

    def measure(config: Config, **settings: Any) -> list[Line]:
        return session.run(search.PART, config, quiet=True, **settings)

    base = session.run(search.PART, traffic=options.traffic)
    if search.out_of_memory(base):
        for line in search.largest_crop(session.config, measure):
            session.tell(line)
    elif options.tune and search.samples_per_second(base):
        for line in search.tune(session.config, base, measure):
            session.tell(line)
    if options.plan:
        session.run("plan", topology=options.plan)
