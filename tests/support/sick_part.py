"""A part of the check that ends as it is told; ``tests/check/test_child.py`` puts it in place."""

from __future__ import annotations

import os
import signal
import sys
import time

from tffold.check.report import judge


def check(request):
    yield judge("sick", "began", True, "well", pid=os.getpid(), cpus=request.cpu_devices)
    how = request.options["how"]
    if how == "aborts":
        os.kill(os.getpid(), signal.SIGABRT)
    elif how == "hangs":
        time.sleep(600)
    elif how == "eats":
        hoard = []
        while True:
            hoard.append(b"x" * 10_000_000)
            time.sleep(0.01)
    elif how == "device is full":
        print("RESOURCE_EXHAUSTED: failed to allocate", file=sys.stderr)
        sys.exit(1)
    elif how == "raises":
        raise ValueError("a plain mistake")
    yield judge("sick", "ended well", True, request.config.train.run_dir)
