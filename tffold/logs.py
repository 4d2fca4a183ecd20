"""How the command lines show what is logged: plain lines, of the chief alone."""

from __future__ import annotations

import logging
import sys

from tqdm import tqdm

ROOT = "tffold"


class PlainFormatter(logging.Formatter):
    """The message alone; "warning: " stands before what is one."""

    def format(self, record: logging.LogRecord) -> str:
        text = super().format(record)
        return f"warning: {text}" if record.levelno >= logging.WARNING else text


class ChiefFilter(logging.Filter):
    """Of several processes that train together, lets only the chief speak."""

    chief = True

    def filter(self, record: logging.LogRecord) -> bool:
        # Each process reads records of its own, so each tells which of them are damaged.
        return self.chief or record.name.startswith(f"{ROOT}.data.")


class _Printer(logging.Handler):
    """Prints to standard output, whatever that is at the time, above a progress bar."""

    def emit(self, record: logging.LogRecord) -> None:
        tqdm.write(self.format(record))
        sys.stdout.flush()


_FILTER = ChiefFilter()
_PRINTER = _Printer()
_PRINTER.setFormatter(PlainFormatter())
_PRINTER.addFilter(_FILTER)


def show() -> None:
    """Prints what is logged from now on."""
    logger = logging.getLogger(ROOT)
    logger.setLevel(logging.INFO)
    logger.addHandler(_PRINTER)  # once, however often it is called


def set_chief(chief: bool) -> None:
    """Tells whether this process is the chief; until then it is."""
    _FILTER.chief = chief
