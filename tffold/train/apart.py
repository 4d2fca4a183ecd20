"""The step compiled by a process of its own, so that the one that trains stays small.

Compiling takes gigabytes, and a process keeps as its peak what it once had. Another process that
does the same as this one up to the first step leaves the program in XLA's persistent cache, and
this one takes it from there. XLA finds a program by the names of its functions too, which
TensorFlow numbers as they are traced: so both prepare (``run.prepare``) in the same order.
"""

from __future__ import annotations

import contextlib
import json
import logging
import subprocess
import sys

from tffold import config_file
from tffold.config import Config

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
