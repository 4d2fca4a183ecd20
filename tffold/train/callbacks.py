"""Keras callbacks that keep a run safe from signals and bad numbers."""

from __future__ import annotations

import logging
import signal
from collections.abc import Callable

import keras

from tffold.config import Config
from tffold.train.feed import Feed
from tffold.train.step import BAD_EXAMPLES

_LOG = logging.getLogger(__name__)
PROBE = "probe/"


class NonFiniteError(RuntimeError):
    """Loss or gradient was not finite for too many steps in a row."""


class StopOnNonFinite(keras.callbacks.Callback):
    """Names the chains behind a skipped update; gives up after N of them in a row."""

    def __init__(self, feed: Feed, config: Config) -> None:
        super().__init__()
        self.feed = feed
        self.limit = config.train.max_non_finite_steps
        self.in_a_row = 0
        self.chains: list[str] = []

    def on_train_batch_end(self, batch: int, logs: dict[str, float] | None = None) -> None:
        if not (logs or {})[BAD_EXAMPLES]:
            self.in_a_row, self.chains = 0, []
            return
        names = self.feed.chains(batch)
        bad = [names[index] for index in self.model.bad_examples]
        self.in_a_row += 1
        self.chains += [name for name in bad if name not in self.chains]
        _LOG.warning(
            "step %d: loss or gradient not finite for %s; update skipped", batch, ", ".join(bad)
        )
        if self.in_a_row >= self.limit:
            raise NonFiniteError(
                f"loss or gradient not finite in {self.in_a_row} steps in a row, the last "
                f"step {batch}; chains: {', '.join(self.chains)}; look at these records, or lower "
                "'train.learning_rate'"
            )


class Probe(keras.callbacks.Callback):
    """Measures the first training steps' batches before and after training (``probe_steps``)."""

    def __init__(
        self, feed: Feed, config: Config, write: Callable[[int, dict[str, float]], None]
    ) -> None:
        super().__init__()
        self.feed = feed
        self.count = config.train.probe_steps
        self.write = write

    def on_train_begin(self, logs: dict[str, float] | None = None) -> None:
        if self.model.step == 0:
            self._measure()

    def on_train_end(self, logs: dict[str, float] | None = None) -> None:
        if logs:  # steps were taken
            self._measure()

    def _measure(self) -> None:
        if not self.count:
            return
        batches = zip(range(self.count), self.feed.batches(0), strict=False)
        with self.feed.errors():
            found = [self.model.measure(batch, step) for step, batch in batches]
        means = {name: sum(one[name] for one in found) / len(found) for name in found[0]}
        self.write(self.model.step, {f"{PROBE}{name}": value for name, value in means.items()})


class StopOnSignal(keras.callbacks.Callback):
    """SIGTERM or SIGINT ends training after the step at hand, on all workers alike.

    ``caught`` is the signal's number then, 0 before. A second SIGINT interrupts at once. Signals
    are caught until ``restore``, so that the last checkpoint can still be written.
    """

    def __init__(self) -> None:
        super().__init__()
        self.caught = 0
        self._before: dict[int, object] = {}

    def on_train_begin(self, logs: dict[str, float] | None = None) -> None:
        for number in (signal.SIGTERM, signal.SIGINT):
            self._before[number] = signal.signal(number, self._handle)

    def restore(self) -> None:
        """Leaves signals to whoever had them before."""
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _handle(self, number: int, frame: object) -> None:
        self.caught = number
        self.model.stop_training = True
        signal.signal(signal.SIGINT, signal.default_int_handler)
        _LOG.info("%s: saving and stopping after this step", signal.Signals(number).name)
