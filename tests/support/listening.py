"""What ``tffold`` logs, as its command lines would print it."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager

from tffold import logs


class _Collector(logging.Handler):
    def __init__(self, lines: list[str]):
        super().__init__()
        self.lines = lines
        self.setFormatter(logs.PlainFormatter())

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(self.format(record))


@contextmanager
def listening() -> Iterator[list[str]]:
    """The lines that are logged meanwhile."""
    logger, lines = logging.getLogger(logs.ROOT), []
    collector, level = _Collector(lines), logger.level
    logger.addHandler(collector)
    logger.setLevel(logging.INFO)
    try:
        yield lines
    finally:
        logger.removeHandler(collector)
        logger.setLevel(level)
