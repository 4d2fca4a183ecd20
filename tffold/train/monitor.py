"""What a run writes about itself: TensorBoard, JSON lines, and one line on the terminal."""

from __future__ import annotations

import json
import logging
import math
import os
from collections.abc import Iterable, Mapping
from pathlib import Path

import keras
import tensorflow as tf

from records import paths
from records.durable import write_whole
from records.paths import Place
from tffold.config import Config
from tffold.pictures.board import CANNOT_WRITE, BestEffort, Board
from tffold.train import describe
from tffold.train.loop import SECONDS, WAIT
from tffold.train.norms import GRADIENT, UPDATE, is_logged
from tffold.train.run_folder import RunFolder
from tffold.train.step import BAD_EXAMPLES, TOTAL

_LOG = logging.getLogger(__name__)
METRICS_FILE, TENSORBOARD_FOLDER = "metrics.jsonl", "tensorboard"
STATM = Path("/proc/self/statm")  # Linux: sizes in pages, the second what is in memory
LDDT = "metric/lddt_ca"
LARGEST_EVENT_FILE = 8 << 20  # bytes, on a store, where all of a file is written at each change


class Monitor(keras.callbacks.Callback):
    """Means over each ``log_every`` steps (and the very first step), everywhere at once.

    Trouble in writing is told once and training goes on.

    Args:
      folder: the run's.
      best_effort: what failures go through.
      texts: told to TensorBoard when training begins, Markdown by name.
    """

    def __init__(
        self,
        folder: RunFolder,
        config: Config,
        best_effort: BestEffort,
        texts: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__()
        self.folder, self.run_dir = folder, folder.here
        self.config = config
        self.texts = texts or {}
        self.best_effort = best_effort
        self.window: list[dict[str, float]] = []
        self.board = Board(None, self.best_effort)

    def on_train_begin(self, logs: dict[str, float] | None = None) -> None:
        step = self.model.step
        self.folder.fetch(METRICS_FILE)
        self.best_effort(CANNOT_WRITE, lambda: keep_lines(self.run_dir / METRICS_FILE, step))
        largest = LARGEST_EVENT_FILE if self.folder.is_remote else None
        self.board = Board(self.run_dir / TENSORBOARD_FOLDER, self.best_effort, largest)
        for name, text in self.texts.items():
            self.board.text(step, name, text)
        self.board.hparams(describe.hyperparameters(self.config))
        self.board.flush()

    def on_train_batch_end(self, batch: int, logs: dict[str, float] | None = None) -> None:
        self.window.append(logs or {})
        if is_logged(batch + 1, self.config.train):
            self._flush(batch + 1)

    def on_epoch_end(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        self.board.flush()
        self.folder.copy_soon(at_once=True)  # with the checkpoint of this step

    def close(self) -> None:
        """Writes what is left; to be called however training ended."""
        if self.window:
            self._flush(self.model.step)
        self.board.close()

    def record(self, step: int, scalars: dict[str, float]) -> None:
        """Writes scalars everywhere but to the terminal."""
        record = {"step": step, "samples": step * self.config.train.batch_size, **scalars}
        self.best_effort(CANNOT_WRITE, lambda: self._write_line(record))
        shown = {board_tag(name): value for name, value in record.items() if name != "step"}
        self.board.scalars(step, shown)
        self.board.flush()
        self.folder.copy_soon()

    def _flush(self, step: int) -> None:
        scalars = window_means(self.window, exact=is_logged(step, self.config.train))
        self.window = []
        self.record(step, scalars | memory())
        _LOG.info(progress_line(step, self.config.train.steps, scalars))

    def _write_line(self, record: dict[str, float]) -> None:
        # JSON has no NaN; null is what it has for "no number".
        line = {name: x if math.isfinite(x) else None for name, x in record.items()}
        with open(self.run_dir / METRICS_FILE, "a") as file:
            file.write(json.dumps(line) + "\n")


def board_tag(name: str) -> str:
    """TensorBoard groups by what stands before the slash."""
    if name == TOTAL:
        return "loss/total"
    return name if "/" in name else f"train/{name}"


def window_means(window: Iterable[dict[str, float]], exact: bool) -> dict[str, float]:
    """Mean of each scalar; skipped examples are counted, and left out of no mean.

    Norms of modules are computed in logged steps alone: the last step's, if it was one (``exact``).
    """
    window = list(window)
    names = [name for name in window[-1] if not name.startswith((GRADIENT, UPDATE))]
    means = {name: sum(logs[name] for logs in window) / len(window) for name in names}
    means[BAD_EXAMPLES] *= len(window)
    if exact:
        means |= {name: x for name, x in window[-1].items() if name not in means}
    return means


def memory() -> dict[str, float]:
    """MiB that this process holds, and what its first GPU does and did at most."""
    found = {}
    if STATM.exists():
        pages = int(STATM.read_text().split()[1])
        found["perf/memory_host_mib"] = pages * os.sysconf("SC_PAGE_SIZE") / 2**20
    for device in tf.config.list_logical_devices("GPU")[:1]:
        info = tf.config.experimental.get_memory_info(device.name)
        found["perf/memory_device_mib"] = info["current"] / 2**20
        found["perf/memory_device_peak_mib"] = info["peak"] / 2**20
    return found


def progress_line(step: int, steps: int, scalars: dict[str, float]) -> str:
    """What a person wants to see of a window of steps."""
    parts = [f"step {step}/{steps}", f"loss {scalars[TOTAL]:.4g}"]
    if LDDT in scalars:
        parts.append(f"lDDT-Cα {scalars[LDDT]:.3f}")
    parts.append(f"{scalars[SECONDS]:.2f} s/step")
    if scalars.get(WAIT, 0.0) > 0.1 * scalars[SECONDS]:
        parts.append(f"{scalars[WAIT]:.2f} s waiting for data")
    return "  ".join(parts)


def keep_lines(path: Path, last_step: int) -> None:
    """Drops what a run wrote after the checkpoint from which it now goes on."""
    if not path.exists():
        return
    kept = [line for line in path.read_text().splitlines() if _step_of(line) <= last_step]
    write_whole(path, "".join(line + "\n" for line in kept))


def read_metrics(run_dir: Place) -> list[dict[str, float]]:
    """The records of a run's ``metrics.jsonl``, oldest first."""
    place = paths.join(run_dir, METRICS_FILE)
    if not paths.is_file(place):
        return []
    lines = paths.read_text(place).splitlines()
    return [json.loads(line) for line in lines if _step_of(line) < math.inf]


def _step_of(line: str) -> float:
    """A line's step; infinite if a crash cut it short."""
    try:
        return json.loads(line)["step"]
    except (ValueError, KeyError, TypeError):
        return math.inf
