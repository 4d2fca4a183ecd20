"""What a run writes about itself: TensorBoard, JSON lines, and one line on the terminal."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Callable, Iterable
from pathlib import Path

import keras
import tensorflow as tf

from tffold import config_file
from tffold.config import Config
from tffold.train.loop import SECONDS, WAIT
from tffold.train.step import BAD_EXAMPLES, TOTAL

METRICS_FILE, TENSORBOARD_FOLDER = "metrics.jsonl", "tensorboard"
LDDT = "metric/lddt_ca"


class Monitor(keras.callbacks.Callback):
    """Means over each ``log_every`` steps (and the very first step), everywhere at once.

    Trouble in writing is told once and training goes on.
    """

    def __init__(self, run_dir: Path, config: Config, say: Callable[[str], None]) -> None:
        super().__init__()
        self.run_dir = Path(run_dir)
        self.config = config
        self.say = say
        self.window: list[dict[str, float]] = []
        self.writer: tf.summary.SummaryWriter | None = None
        self.broken = False

    def on_train_begin(self, logs: dict[str, float] | None = None) -> None:
        self._guarded(self._start)

    def on_train_batch_end(self, batch: int, logs: dict[str, float] | None = None) -> None:
        self.window.append(dict(logs or {}))
        step, train = batch + 1, self.config.train
        if step == 1 or step % train.log_every == 0 or step >= train.steps:
            self._flush(step)

    def close(self) -> None:
        """Writes what is left; to be called however training ended."""
        if self.window:
            self._flush(self.model.step)
        if self.writer is not None:
            self._guarded(self.writer.close)

    def _start(self) -> None:
        keep_lines(self.run_dir / METRICS_FILE, self.model.step)
        self.writer = tf.summary.create_file_writer(str(self.run_dir / TENSORBOARD_FOLDER))
        with self.writer.as_default(step=self.model.step):
            tf.summary.text("config", f"```yaml\n{config_file.to_yaml(self.config)}```")

    def record(self, step: int, scalars: dict[str, float]) -> None:
        """Writes scalars everywhere but to the terminal."""
        record = {"step": step, "samples": step * self.config.train.batch_size, **scalars}
        self._guarded(lambda: self._write(step, record))

    def _flush(self, step: int) -> None:
        scalars = window_means(self.window)
        self.window = []
        self.record(step, scalars)
        self.say(progress_line(step, self.config.train.steps, scalars))

    def _write(self, step: int, record: dict[str, float]) -> None:
        with open(self.run_dir / METRICS_FILE, "a") as file:
            # JSON has no NaN; null is what it has for "no number".
            line = {name: x if math.isfinite(x) else None for name, x in record.items()}
            file.write(json.dumps(line) + "\n")
        if self.writer is not None:
            with self.writer.as_default(step=step):
                for name, value in record.items():
                    if name != "step":
                        tf.summary.scalar(tag(name), value)
            self.writer.flush()

    def _guarded(self, action: Callable[[], None]) -> None:
        try:
            action()
        except (OSError, tf.errors.OpError) as error:
            if not self.broken:
                self.say(f"warning: logs cannot be written ({error}); training goes on")
            self.broken = True


def tag(name: str) -> str:
    """TensorBoard groups by what stands before the slash."""
    if name == TOTAL:
        return "loss/total"
    return name if "/" in name else f"train/{name}"


def window_means(window: Iterable[dict[str, float]]) -> dict[str, float]:
    """Mean of each scalar; skipped examples are counted, and left out of no mean."""
    window = list(window)
    means = {name: sum(logs[name] for logs in window) / len(window) for name in window[0]}
    means[BAD_EXAMPLES] *= len(window)
    return means


def progress_line(step: int, steps: int, scalars: dict[str, float]) -> str:
    """What a person wants to see of a window of steps."""
    parts = [f"step {step}/{steps}", f"loss {scalars[TOTAL]:.4g}"]
    if LDDT in scalars:
        parts.append(f"lDDT-Cα {scalars[LDDT]:.3f}")
    parts.append(f"{scalars[SECONDS]:.2f} s/step")
    if scalars[WAIT] > 0.1 * scalars[SECONDS]:
        parts.append(f"{scalars[WAIT]:.2f} s waiting for data")
    return "  ".join(parts)


def keep_lines(path: Path, last_step: int) -> None:
    """Drops what a run wrote after the checkpoint from which it now goes on."""
    if not path.exists():
        return
    kept = [line for line in path.read_text().splitlines() if _step_of(line) <= last_step]
    temporary = path.with_suffix(".tmp")
    temporary.write_text("".join(line + "\n" for line in kept))
    os.replace(temporary, path)


def read_metrics(run_dir: str | Path) -> list[dict[str, float]]:
    """The records of a run's ``metrics.jsonl``, oldest first."""
    path = Path(run_dir) / METRICS_FILE
    if not path.is_file():
        return []
    lines = path.read_text().splitlines()
    return [json.loads(line) for line in lines if _step_of(line) < math.inf]


def _step_of(line: str) -> float:
    """A line's step; infinite if a crash cut it short."""
    try:
        return json.loads(line)["step"]
    except (ValueError, KeyError, TypeError):
        return math.inf
