"""Checkpoints of a run, written while it trains on."""

from __future__ import annotations

import logging
import time
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


class Checkpointer(keras.callbacks.Callback):
    """Saves every ``checkpoint_every`` steps or ``checkpoint_every_seconds``, and at the end.

    Training waits while the state is copied to this host's memory. A thread writes that copy;
    there is never a second one, so a save waits until the one before is written. (One that is due
    by the clock alone does not wait: it comes when that is done.) Training ends when all is
    written. The chief alone has such a callback: no other process writes or needs to know.

    It is a context manager: whatever ends training, what is being written is finished first. Only
    an interrupt does not wait; the checkpoint before then stays the last.

    Args:
      trainer: whose state is saved.
      config: ``train`` says how often.
      run_dir: the run's folder, a path or a URL.
      progress: of the validation, which checkpoints hold.

    Raises (from each callback, once):
      CheckpointError: one could not be written.
    """

    def __init__(
        self, trainer: AlphaFoldTrainer, config: Config, run_dir: Place, progress: Progress
    ) -> None:
        super().__init__()
        self.trainer, self.config, self.progress = trainer, config, progress
        self.folder = paths.join(run_dir, checkpoint.FOLDER)
        self.best = paths.join(run_dir, BEST_FOLDER)
        self.saved_step = trainer.step
        self._saved_at = 0.0
        self._writer = Writer()
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
        self._start(self.folder, self.config.train.keep_checkpoints)
        self.saved_step, self._saved_at = step, _now()

    def _start(self, folder: str, keep: int, alone: bool = False) -> None:
        step = self.trainer.step
        if self._copy is None:
            self._writer.wait()
            self._copy = copy_state(self.trainer)
        arrays = self._copy
        description = describe_state(step, self.config, self.progress)

        def write() -> None:
            saved = checkpoint.save(folder, step, arrays, description, keep)
            if alone:
                # A later one may lie there, from before the run went back to this step's past.
                checkpoint.remove_others(saved)

        self._writer.start(write)


def _now() -> float:
    """Seconds on a clock that nobody sets."""
    return time.monotonic()
