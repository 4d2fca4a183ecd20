"""What becomes of the memory that compiling frees: it goes back to the system.

Compiling takes gigabytes once. A step takes the same arrays again and again, and has a pool of
TensorFlow's for them (see ``lean_import``). C libraries other than glibc are left as they are.
"""

from __future__ import annotations

import contextlib
import ctypes
import threading
from collections.abc import Callable, Iterator

INTERVAL = 0.25  # seconds


@contextlib.contextmanager
def returning_memory() -> Iterator[None]:
    """Gives freed memory back to the system again and again, as long as it lasts.

    Tracing, lowering and compiling free in small pieces what they took. glibc keeps those for
    later, so that the peak is the sum of what was needed one after the other.
    """
    trim = _malloc_trim()
    if trim is None:
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


def _malloc_trim() -> Callable[[int], int] | None:
    """glibc's function; ``None`` where the C library has none."""
    try:
        return ctypes.CDLL(None).malloc_trim
    except (AttributeError, OSError, TypeError):
        return None
