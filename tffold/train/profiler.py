"""TensorBoard's profiler over chosen steps (``train.profile``)."""

from __future__ import annotations

from pathlib import Path

import keras
import tensorflow as tf

from tffold.pictures.board import BestEffort


class Profiler(keras.callbacks.Callback):
    """Records what processors and accelerators do in ``steps`` (the first step is 1)."""

    def __init__(self, folder: Path, steps: range, best_effort: BestEffort) -> None:
        super().__init__()
        self.folder, self.steps, self.best_effort = str(folder), steps, best_effort
        self.running = False
        self._trace: tf.profiler.experimental.Trace | None = None

    def on_train_batch_begin(self, batch: int, logs: dict[str, float] | None = None) -> None:
        if batch + 1 in self.steps:
            self.best_effort("the profiler cannot run", lambda: self._begin(batch + 1))

    def on_train_batch_end(self, batch: int, logs: dict[str, float] | None = None) -> None:
        if self._trace is not None:
            self._trace.__exit__(None, None, None)
            self._trace = None
        if self.running and batch + 2 not in self.steps:
            self._stop()

    def on_train_end(self, logs: dict[str, float] | None = None) -> None:
        if self.running:
            self._stop()

    def _begin(self, step: int) -> None:
        if not self.running:
            tf.profiler.experimental.start(self.folder)
            self.running = True
        # Marks the step, so that the profile can be read step by step.
        self._trace = tf.profiler.experimental.Trace("train", step_num=step, _r=1)
        self._trace.__enter__()

    def _stop(self) -> None:
        self.running = False
        self.best_effort("the profile cannot be written", tf.profiler.experimental.stop)
