"""Worker processes that convert files, each within its time limit.

A call into C++ that never returns cannot be interrupted; only its process can be ended. So
every file is converted in a process of its own, and one that takes too long or dies is gone
through again chain by chain: the chain at fault is rejected, the others go on.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from typing import Any

from pebble import ProcessExpired, ProcessPool

from records import spool
from records.convert import (
    ConvertOptions,
    FileTask,
    Outcome,
    chain_names,
    convert_file,
    rejected,
    unreadable,
)  # fmt: skip

_AHEAD = 2  # files in flight per worker
_LOST = (TimeoutError, ProcessExpired, BrokenProcessPool)


def _begin(parent: int, kept: tuple[str, int] | None) -> None:
    """Worker: share what was fetched, leave when the main process is gone, however it went."""
    spool.use(*(kept or (None,)))

    def watch() -> None:
        while True:
            time.sleep(1.0)
            try:
                os.kill(parent, 0)
            except OSError:
                os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


@dataclass
class _Job:
    """Chains of one file, from the ``first`` on; only that one if ``names`` (all) are given."""

    unit: int
    task: FileTask
    first: int
    names: Sequence[str] | None = None
    future: Future | None = None


class _Pool:
    """The processes; each job that they are given has the time limit of a chain."""

    def __init__(self, workers: int, options: ConvertOptions) -> None:
        self._workers, self._options = workers, options
        self._processes = self._start()

    def _start(self) -> ProcessPool:
        context = multiprocessing.get_context("forkserver")
        context.set_forkserver_preload(["records.convert"])
        arguments = (os.getpid(), spool.in_use())
        return ProcessPool(self._workers, context=context, initializer=_begin, initargs=arguments)

    def _schedule(self, function: Callable, *arguments: Any) -> Future:
        limit = self._options.chain_timeout or None
        try:
            return self._processes.schedule(function, args=arguments, timeout=limit)
        except RuntimeError as error:  # a process died while idle; see mend
            future: Future = Future()
            future.set_exception(BrokenProcessPool(str(error)))
            return future

    def submit(self, job: _Job) -> _Job:
        most = () if job.names is None else (1,)
        job.future = self._schedule(convert_file, job.task, self._options, job.first, *most)
        return job

    def mend(self, jobs: Iterable[_Job]) -> None:
        """Start afresh when a process died in such a way that the others cannot go on."""
        if not self._processes.active:
            self.close()
            self._processes = self._start()
            for job in jobs:
                self.submit(job)

    def after_failure(self, job: _Job, error: BaseException) -> tuple[list[Outcome], _Job | None]:
        """Of a job that failed: what can be said of it, and the job to go on with."""
        unit, task, first, options = job.unit, job.task, job.first, self._options
        what = f"took longer than {options.chain_timeout} s"
        if not isinstance(error, TimeoutError):
            what = f"the worker process died ({_cause(error)})"
        if job.names is None:
            try:
                names = self._schedule(chain_names, task, options).result()
            except _LOST:  # opening the file is what fails
                return unreadable(task, f"{task.path}: {what}", what)[first:], None
            return [], _Job(unit, task, first, names)
        outcome = rejected(task, job.names[first], f"{task.path}: {what}", what)
        following = first + 1
        return [outcome], _Job(unit, task, following) if following < len(job.names) else None

    def close(self) -> None:
        self._processes.stop()
        self._processes.join()


def _cause(error: BaseException) -> str:
    code = getattr(error, "exitcode", 0)
    if code < 0:
        name = signal.Signals(-code).name
        return f"{name}, out of memory?" if name == "SIGKILL" else name
    return "killed, out of memory?"


def convert_files(
    units: Iterable[tuple[int, FileTask, int]], options: ConvertOptions, workers: int
) -> Iterator[tuple[int, int, list[Outcome], bool]]:
    """Unit, index of its first chain here, outcomes, whether it is done; in the units' order.

    Args:
      units: numbers, files and the first chain wanted of each.
      workers: processes; 0 converts in this one, without a time limit.
    """
    if not workers:
        for unit, task, begin in units:
            start: int | None = begin
            while start is not None:
                first = start
                outcomes, start = convert_file(task, options, first)
                yield unit, first, outcomes, start is None
        return
    pool = _Pool(workers, options)
    waiting: deque[_Job] = deque()
    source = iter(units)
    try:
        while True:
            while len(waiting) < workers * _AHEAD:
                following = next(source, None)
                if following is None:
                    break
                waiting.append(pool.submit(_Job(*following)))
            if not waiting:
                return
            job = waiting.popleft()
            try:
                outcomes, start = job.future.result()
                rest = None if start is None else _Job(job.unit, job.task, start, job.names)
            except _LOST as error:
                pool.mend(waiting)
                outcomes, rest = pool.after_failure(job, error)
            if rest is not None:
                waiting.appendleft(pool.submit(rest))
            if outcomes or rest is None:
                yield job.unit, job.first, outcomes, rest is None
    finally:
        pool.close()
