"""TensorBoard's event files; trouble in writing or drawing is told once and training goes on."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import tensorflow as tf
from matplotlib.figure import Figure
from tensorboard.plugins.hparams import api as hparams_api
from tensorboard.plugins.mesh import summary_v2 as mesh_plugin

from tffold.pictures import plots
from tffold.pictures.tubes import Mesh

_LOG = logging.getLogger(__name__)
CANNOT_WRITE = "logs cannot be written"
_CAMERA = {"camera": {"cls": "PerspectiveCamera", "fov": 45}}


class BestEffort:
    """Runs what may fail without harm: the first failure of each kind is told, none is raised."""

    def __init__(self) -> None:
        self.failed: set[str] = set()

    def __call__(self, what: str, action: Callable[[], object]) -> None:
        """``action()``; if it fails, tells that ``what`` cannot be done."""
        try:
            action()
        except Exception as error:  # whatever it is, hours of training are worth more
            if what not in self.failed:
                reason = " ".join(str(error).split()) or type(error).__name__
                _LOG.warning("%s (%s); training goes on", what, reason)
            self.failed.add(what)


class Board:
    """Writes scalars, text, histograms, pictures and meshes of one run.

    Args:
      folder: of the event files; None writes nothing.
      best_effort: what failures go through.
      largest: bytes of an event file after which another is begun; None = any.
    """

    def __init__(
        self, folder: Path | None, best_effort: BestEffort, largest: int | None = None
    ) -> None:
        self.best_effort = best_effort
        self._folder, self._largest = folder, largest
        self._writer: tf.summary.SummaryWriter | None = None
        if folder is not None:
            self._try(self._begin)

    def _begin(self) -> None:
        self._writer = tf.summary.create_file_writer(str(self._folder))

    def scalars(self, step: int, values: Mapping[str, float]) -> None:
        self._write(step, lambda: [tf.summary.scalar(name, x) for name, x in values.items()])

    def text(self, step: int, name: str, markdown: str) -> None:
        self._write(step, lambda: tf.summary.text(name, markdown))

    def histogram(self, step: int, name: str, values: np.ndarray) -> None:
        self._write(step, lambda: tf.summary.histogram(name, values))

    def picture(self, step: int, name: str, draw: Callable[[], Figure]) -> None:
        """What ``draw`` draws."""

        def action() -> None:
            figure = draw()
            self._write(step, lambda: tf.summary.image(name, plots.to_array(figure)[None]))

        self.best_effort(f"'{name.rpartition('/')[2]}' cannot be drawn", action)

    def mesh(self, step: int, name: str, make: Callable[[], Mesh]) -> None:
        """Coloured triangles, to be turned about in the browser."""

        def action() -> None:
            vertices, faces, colours = make()
            self._write(
                step,
                lambda: mesh_plugin.mesh(
                    name,
                    vertices=vertices[None].astype(np.float32),
                    faces=faces[None].astype(np.int32),
                    colors=colours[None].astype(np.uint8),
                    config_dict=_CAMERA,
                ),
            )

        self.best_effort(f"'{name.rpartition('/')[2]}' cannot be drawn", action)

    def hparams(self, values: Mapping[str, bool | int | float | str]) -> None:
        self._write(0, lambda: hparams_api.hparams(dict(values)))

    def flush(self) -> None:
        if self._writer is not None:
            self._try(self._writer.flush)
            if self._largest is not None:
                self._try(self._begin_another)

    def _begin_another(self) -> None:
        files = sorted(self._folder.glob("events.out.*"), key=lambda path: path.stat().st_mtime_ns)
        if files and files[-1].stat().st_size > self._largest:
            self._writer.close()
            self._begin()

    def close(self) -> None:
        if self._writer is not None:
            self._try(self._writer.close)

    def _write(self, step: int, action: Callable[[], object]) -> None:
        if self._writer is None:
            return

        def write() -> None:
            with self._writer.as_default(step=step):
                action()

        self._try(write)

    def _try(self, action: Callable[[], object]) -> None:
        self.best_effort(CANNOT_WRITE, action)
