"""Freed memory stays with the process, in a process of its own."""

from __future__ import annotations

import platform
import subprocess
import sys

import pytest
import tensorflow as tf

from tffold import host_memory

FAULTS = """
import ctypes, resource, sys, threading
from tffold.config import TrainConfig
from tffold.train.strategy import build_cluster

libc = ctypes.CDLL(None)
libc.malloc.restype = ctypes.c_void_p
libc.malloc.argtypes = [ctypes.c_size_t]
libc.memset.argtypes = [ctypes.c_void_p, ctypes.c_int, ctypes.c_size_t]
libc.free.argtypes = [ctypes.c_void_p]

def take():
    for size in (40_000_000, 3_000_000):  # the first above, the second below what mmap is for
        blocks = [libc.malloc(size) for _ in range(3)]
        for block in blocks:
            libc.memset(block, 1, size)
        for block in blocks:
            libc.free(block)

def in_thread():
    thread = threading.Thread(target=take)
    thread.start()
    thread.join()

if sys.argv[1] == "train":
    build_cluster(TrainConfig())
in_thread()
take()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(10):
    in_thread()
    take()
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def faults(how: str) -> int:
    run = subprocess.run(
        [sys.executable, "-c", FAULTS, how], check=True, capture_output=True, text=True
    )
    return int(run.stdout)


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="glibc's allocator alone")
def test_kept_memory_is_not_taken_from_the_system_again():
    assert faults("train") * 10 < faults("leave")


@pytest.mark.parametrize("kind, number", [("CPU", 3), ("GPU", 0)])
def test_hosts_of_accelerators_are_left_alone(monkeypatch, kind, number):
    told = []
    devices = [tf.config.PhysicalDevice(f"/{each}", each) for each in ("CPU", kind)]
    monkeypatch.setattr(tf.config, "list_physical_devices", lambda: devices)
    monkeypatch.setattr(host_memory, "_function", lambda name: lambda *values: told.append(values))
    host_memory.keep_memory()
    assert len(told) == number
