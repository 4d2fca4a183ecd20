"""Jobs done in order by a thread of their own, while the caller goes on."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable


class Writer:
    """Does one job after another; what the first failed one raised is raised to the caller.

    After a failure the jobs that wait are dropped.  The thread ends when there is nothing to do,
    and does not keep a process alive that ends without ``wait``.
    """

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._jobs: deque[Callable[[], object]] = deque()
        self._busy = False  # a thread is there, which looks for jobs
        self._error: BaseException | None = None

    @property
    def busy(self) -> bool:
        """Whether a job runs or waits."""
        with self._changed:
            return self._busy

    def start(self, job: Callable[[], object]) -> None:
        """Has ``job`` done after those before it.  Raises what one of them raised."""
        self.check()
        with self._changed:
            self._jobs.append(job)
            if not self._busy:
                self._busy = True
                threading.Thread(target=self._work, name="writer", daemon=True).start()

    def wait(self) -> None:
        """Until all jobs are done.  Raises what one of them raised."""
        with self._changed:
            self._changed.wait_for(lambda: not self._busy)
        self.check()

    def check(self) -> None:
        """Raises, once, what a job raised."""
        with self._changed:
            error, self._error = self._error, None
        if error is not None:
            raise error

    def _work(self) -> None:
        while True:
            with self._changed:
                if not self._jobs:
                    self._busy = False
                    self._changed.notify_all()
                    return
                job = self._jobs.popleft()
            try:
                job()
            except BaseException as error:
                with self._changed:
                    self._error = error
                    self._jobs.clear()
            del job  # and what it holds: the next one may need the memory
