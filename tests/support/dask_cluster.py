"""A Dask cluster on this machine, of processes: a scheduler and workers to be killed."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]


@dataclass
class Cluster:
    """``file`` is the scheduler's, by which clients find it."""

    file: Path
    workers: list[subprocess.Popen]

    def kill_one_at_work(self, has_begun, client: subprocess.Popen) -> Path:
        """Kills, by SIGKILL, the first worker that is seen with an open file of some kind.

        Returns that file.
        """
        deadline = time.monotonic() + 120
        while time.monotonic() < deadline and client.poll() is None:
            for worker in self.workers:
                if not any(map(has_begun, open_files(worker.pid))):
                    continue
                worker.send_signal(signal.SIGSTOP)  # so that it does not end it before it is killed
                found = next(filter(has_begun, open_files(worker.pid)), None)
                if found is not None:
                    worker.kill()
                    worker.wait()
                    return found
                worker.send_signal(signal.SIGCONT)
            time.sleep(0.001)
        raise AssertionError("no worker was seen at work")


def open_files(process: int) -> list[Path]:
    """The files that a process has open."""
    found = []
    for link in Path(f"/proc/{process}/fd").iterdir():
        try:
            found.append(Path(os.readlink(link)))
        except OSError:  # closed meanwhile
            continue
    return found


@contextmanager
def dask_cluster(folder: Path, workers: int, *words: str) -> Iterator[Cluster]:
    """Started, with its workers there, and ended; ``words`` are the workers' options."""
    file = folder / "scheduler.json"
    started = []

    def start(*command: str) -> subprocess.Popen:
        with open(folder / f"{command[0]}-{len(started)}.log", "wb") as log:
            process = subprocess.Popen(
                [sys.executable, "-m", "dask", *command, "--no-dashboard",
                 "--scheduler-file", str(file)],
                stdout=log, stderr=log, cwd=folder, env=os.environ | {"PYTHONPATH": str(ROOT)},
            )  # fmt: skip
        started.append(process)
        return process

    from distributed import Client

    try:
        start("scheduler", "--host", "127.0.0.1", "--port", "0")
        deadline = time.monotonic() + 60
        while not _whole(file):
            assert started[0].poll() is None and time.monotonic() < deadline
            time.sleep(0.05)
        local = ("--local-directory", str(folder), "--nthreads", "1")
        found = [start("worker", *local, *words) for _ in range(workers)]
        with Client(scheduler_file=str(file), timeout=60) as client:
            client.wait_for_workers(workers, timeout=60)
        yield Cluster(file, found)
    finally:
        for process in reversed(started):
            process.kill()
            process.wait()


def _whole(file: Path) -> bool:
    try:
        return bool(json.loads(file.read_text()))
    except (OSError, ValueError):
        return False
