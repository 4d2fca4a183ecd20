"""The step compiled by a process of its own, so that the one that trains stays small.

Compiling takes gigabytes, and a process keeps as its peak what it once had. Another process that
does the same as this one up to the first step leaves the program in XLA's persistent cache, and
this one takes it from there. XLA finds a program by the names of its functions too, which
TensorFlow numbers as they are traced: so both prepare (``run.prepare``) in the same order.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import logging
import subprocess
import sys
import threading
from collections.abc import Iterator

from tffold import config_file
from tffold.config import Config

INTERVAL = 0.25  # seconds

_LOG = logging.getLogger(__name__)


class Compilation(contextlib.AbstractContextManager):
    """Another process that compiles the step of ``tffold-fit``; it ends with this block.

    XLA's persistent cache must be in use.

    Args:
      start_step: from where this process will train.
    """

    def __init__(self, config: Config, start_step: int) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tffold.train.compiler"],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )
        request = {"config": config_file.to_dict(config), "start_step": start_step}
        self._process.stdin.write(json.dumps(request))
        self._process.stdin.close()
        self._process.stdin = None

    def wait(self) -> None:
        """Until the program is in the cache. A failure is told; this process compiles then."""
        _, errors = self._process.communicate()
        if self._process.returncode:
            last = (errors.strip().splitlines() or ["nothing was said"])[-1]
            _LOG.warning("compiling apart failed (%s); this process compiles", last)

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.wait()


@contextlib.contextmanager
def returning_memory() -> Iterator[None]:
    """Gives freed memory back to the system again and again, as long as it lasts.

    Tracing, lowering and compiling free in small pieces what they took. glibc keeps those for
    later, so that the peak is the sum of what was needed one after the other.
    """
    try:
        trim = ctypes.CDLL(None).malloc_trim
    except (AttributeError, OSError):  # another C library
        yield
        return
    ended = threading.Event()

    def work() -> None:
        while not ended.wait(INTERVAL):
            trim(0)

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()
        trim(0)
