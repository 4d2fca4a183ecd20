"""What becomes of the memory that training frees: glibc's allocator, told what suits each time.

Compiling takes gigabytes once, so what it frees should go back to the system. A step takes the same
arrays again and again, so what it frees should stay. Other C libraries are left as they are.
"""

from __future__ import annotations

import contextlib
import ctypes
import threading
from collections.abc import Callable, Iterator

INTERVAL = 0.25  # seconds

# mallopt's parameters, from <malloc.h>, with what they are set to.
_TRIM_THRESHOLD = (-1, 2**31 - 1)  # bytes at the heap's end that may be free
_MMAP_MAX = (-4, 0)  # blocks that are taken from the system one by one and go back when freed
_ARENA_MAX = (-8, 1)  # a thread's own heap goes back when it is empty; they share the first


def has_accelerators() -> bool:
    """Whether TensorFlow sees anything but CPUs here."""
    import tensorflow as tf  # commands import this file before they know that it is installed

    return any(device.device_type != "CPU" for device in tf.config.list_physical_devices())


def keep_memory() -> None:
    """Keeps from now on what is freed, for what is allocated next; nothing where TensorFlow sees
    an accelerator.

    Else a step's arrays come from the system and go back again: each page of them is a fault and
    is filled with zeros anew, which was up to 0.29 of the processor's time.  Threads share one heap
    then, which suits a host whose processor computes the steps, not one that feeds accelerators
    with many threads.  To be called before TensorFlow starts threads: those keep their heaps.
    """
    mallopt = _function("mallopt")
    if mallopt is None or has_accelerators():
        return
    for parameter, value in (_ARENA_MAX, _MMAP_MAX, _TRIM_THRESHOLD):
        mallopt(parameter, value)


@contextlib.contextmanager
def returning_memory() -> Iterator[None]:
    """Gives freed memory back to the system again and again, as long as it lasts.

    Tracing, lowering and compiling free in small pieces what they took. glibc keeps those for
    later, so that the peak is the sum of what was needed one after the other.
    """
    trim = _function("malloc_trim")
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


def _function(name: str) -> Callable[..., int] | None:
    """glibc's function of this name; ``None`` where the C library has none."""
    try:
        return getattr(ctypes.CDLL(None), name)
    except (AttributeError, OSError, TypeError):
        return None
