"""A run's folder, on this host or on a store."""

from __future__ import annotations

import logging
import shutil
import tempfile
import threading
import time
from pathlib import Path
from types import TracebackType

from records import paths
from tffold.pictures.board import CANNOT_WRITE, BestEffort
from tffold.train.writer import Writer

_LOG = logging.getLogger(__name__)
EVERY = 30.0  # seconds at least between one copying and the next


class RunFolder:
    """Where all of a run but its checkpoints is written.

    No store can append to a file.  So the files of a run on a store are written to a temporary
    folder of this host, and a thread copies those that have changed: at each checkpoint, else
    every half minute at most, and when the run ends.  Trouble is told once, and training goes on.

    Attributes:
      place: the folder's path or URL.
      here: what is to be written to; on this host the folder itself.
    """

    def __init__(self, place: str, best_effort: BestEffort) -> None:
        self.place, self.best_effort = paths.tidy(place), best_effort
        self.is_remote = paths.is_url(place)
        self.here = Path(tempfile.mkdtemp(prefix="tffold-") if self.is_remote else self.place)
        self._writer = Writer()
        self._lock = threading.Lock()
        self._copied: dict[str, tuple[int, int]] = {}
        self._copied_at = time.monotonic()

    def __enter__(self) -> RunFolder:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if not self.is_remote:
            return
        if kind is None or issubclass(kind, Exception):
            self._writer.wait()
            self.copy()
        shutil.rmtree(self.here, ignore_errors=True)

    def fetch(self, name: str) -> None:
        """Brings a file of an earlier part of the run here, if there is one.  Raises InputError."""
        place = paths.join(self.place, name)
        if self.is_remote and paths.is_file(place):
            paths.download(place, self.here / name)

    def copy_soon(self, at_once: bool = False) -> None:
        """Has a thread copy what has changed, if it is time or ``at_once``."""
        due = at_once or time.monotonic() - self._copied_at >= EVERY
        if self.is_remote and due and not self._writer.busy:
            self._copied_at = time.monotonic()
            self._writer.start(self.copy)

    def copy(self) -> None:
        """Copies what has changed to the store."""
        with self._lock:
            for path in sorted(self.here.rglob("*")):
                if path.is_file() and not path.name.endswith(".partial"):
                    self.best_effort(CANNOT_WRITE, lambda path=path: self._copy(path))

    def _copy(self, path: Path) -> None:
        name = path.relative_to(self.here).as_posix()
        found = path.stat()
        state = found.st_size, found.st_mtime_ns
        if self._copied.get(name) != state:
            # All of it is read first: it may grow meanwhile.
            paths.write_whole(paths.join(self.place, name), path.read_bytes())
            self._copied[name] = state
