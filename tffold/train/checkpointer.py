"""Checkpoints of a run, written while it trains on."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from types import TracebackType

import keras
import numpy as np

from records import paths
from records.paths import Place
from tffold.config import Config
from tffold.train.saving import copy_state, describe_state
from tffold.train.trainer import AlphaFoldTrainer
from tffold.train.validation import BEST_FOLDER, Progress
from tffold.train.writer import Writer
from tffold.weights import checkpoint

_LOG = logging.getLogger(__name__)
NOTICE = 30.0  # seconds that a spot TPU has from SIGTERM on
_MARGIN = 0.8  # of them are planned with


class _GivenUp(Exception):
    """A checkpoint was not written to its end because a newer one matters more."""


class _Writing:
    """A checkpoint on its way: how far it has come, and whether it is to be given up."""

    def __init__(self, size: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._size, self._done = max(size, 1), 0
        self._clock, self._begun = clock, clock()
        self._lock = threading.Lock()
        self._given_up = False

    def tell(self, count: int) -> None:
        """``count`` bytes more are written.  Raises _GivenUp, in whichever thread writes."""
        with self._lock:
            if self._given_up:
                raise _GivenUp
            self._done += count

    def give_up_for_newer(self, copying: float) -> bool:
        """Gives this one up if only so a newer one, of the same size, is whole in time.

        ``copying``: seconds that the newer one's copy takes. When there is time for both, this one
        stays, and when there is none for the newer one, too.
        """
        with self._lock:
            share = min(self._done / self._size, 1.0)
            if not share:
                return False  # nobody knows how long it will take
            whole = (self._clock() - self._begun) / share
            newer = copying + whole
            both = whole * (1.0 - share) + newer
            self._given_up = newer <= NOTICE * _MARGIN < both
            return self._given_up


class Checkpointer(keras.callbacks.Callback):
    """Saves every ``checkpoint_every`` steps or ``checkpoint_every_seconds``, and at the end.

    Training waits while the state is copied to this host's memory. A thread writes that copy;
    there is never a second one, so a save waits until the one before is written. (One that is due
    by the clock alone does not wait: it comes when that is done.) Training ends when all is
    written. The chief alone has such a callback: no other process writes or needs to know.

    When SIGTERM comes while one is being written, both it and the last step's are written if the
    half minute that a spot TPU has allows; else, if there is time for the last step's alone, the
    other is given up; else it is finished first, and the last step's is tried.

    It is a context manager: whatever ends training, what is being written is finished first. Only
    an interrupt does not wait; the checkpoint before then stays the last.

    Args:
      trainer: whose state is saved.
      config: ``train`` says how often.
      run_dir: the run's folder, a path or a URL.
      progress: of the validation, which checkpoints hold.
      terminated: whether SIGTERM has come.

    Raises (from each callback, once):
      CheckpointError: one could not be written.
    """

    def __init__(
        self,
        trainer: AlphaFoldTrainer,
        config: Config,
        run_dir: Place,
        progress: Progress,
        terminated: Callable[[], bool] = lambda: False,
    ) -> None:
        super().__init__()
        self.trainer, self.config, self.progress = trainer, config, progress
        self.terminated = terminated
        self.folder = paths.join(run_dir, checkpoint.FOLDER)
        self.best = paths.join(run_dir, BEST_FOLDER)
        self.saved_step = trainer.step
        self._saved_at = 0.0
        self._writer = Writer()
        self._writing: _Writing | None = None  # of steps, not of the best
        self._copying = 0.0  # seconds that the last copy took
        self._copy: dict[str, np.ndarray] | None = None  # of this step; what is written holds it

    def __enter__(self) -> Checkpointer:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if kind is None:
            self._writer.wait()
        elif issubclass(kind, Exception):
            try:
                self._writer.wait()
            except checkpoint.CheckpointError as other:  # what ended training is told, too
                _LOG.error("%s", other)

    def on_train_begin(self, logs: dict[str, float] | None = None) -> None:
        self._saved_at = _now()

    def on_train_batch_begin(self, batch: int, logs: dict[str, float] | None = None) -> None:
        self._copy = None

    def on_train_batch_end(self, batch: int, logs: dict[str, float] | None = None) -> None:
        self._writer.check()
        seconds = self.config.train.checkpoint_every_seconds
        if seconds and _now() - self._saved_at >= seconds and not self._writer.busy:
            self._save()

    def on_epoch_end(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        self._save()

    def on_train_end(self, logs: dict[str, float] | None = None) -> None:
        self._save()
        self._copy = None
        self._writer.wait()

    def wait(self) -> None:
        """Until all that was saved is written."""
        self._writer.wait()

    def save_first(self) -> None:
        """Saves the state in which a new run starts, for there to be a checkpoint to go back to."""
        self._start(self.folder, self.config.train.keep_checkpoints)

    def set_back(self) -> None:
        """The trainer's state is again that of the last checkpoint."""
        self.saved_step, self._copy = self.trainer.step, None

    def save_best(self) -> None:
        """Saves the state as the best so far, which no later checkpoint pushes out."""
        self._start(self.best, keep=1, alone=True)

    def _save(self) -> None:
        step = self.trainer.step
        if step == self.saved_step:
            return
        if self.terminated() and self._writing and self._copy is None and self._writer.busy:
            if self._writing.give_up_for_newer(self._copying):
                _LOG.info(
                    "the checkpoint of step %d is given up for that of %d", self.saved_step, step
                )
        self._start(self.folder, self.config.train.keep_checkpoints)
        self.saved_step, self._saved_at = step, _now()

    def _start(self, folder: str, keep: int, alone: bool = False) -> None:
        step = self.trainer.step
        if self._copy is None:
            self._writer.wait()
            begun = time.monotonic()
            self._copy = copy_state(self.trainer)
            self._copying = time.monotonic() - begun
        arrays = self._copy
        writing = _Writing(sum(array.nbytes for array in arrays.values()))
        if not alone:
            self._writing = writing
        description = describe_state(step, self.config, self.progress)

        def write() -> None:
            try:
                saved = checkpoint.save(folder, step, arrays, description, keep, writing.tell)
            except _GivenUp:
                return
            if alone:
                # A later one may lie there, from before the run went back to this step's past.
                checkpoint.remove_others(saved)

        self._writer.start(write)


def _now() -> float:
    """Seconds on a clock that nobody sets."""
    return time.monotonic()
