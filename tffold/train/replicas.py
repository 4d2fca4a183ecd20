"""Whether every replica still holds the same weights.

Replicas compute the same update from the same sum, so their copies must agree to the last bit. A
copy that does not was changed by the hardware (silent data corruption) or by a faulty sum.
"""

from __future__ import annotations

import logging
import zlib
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass

import keras
import numpy as np
import tensorflow as tf

from tffold.config import Config
from tffold.train.trainer import AlphaFoldTrainer

_LOG = logging.getLogger(__name__)
MAX_IN_A_ROW = 3  # set back so often without a good check between, the hardware is given up


class ReplicasDifferError(RuntimeError):
    """The replicas' weights differ again and again."""


@dataclass(frozen=True)
class Disagreement:
    """Replicas, by number over all processes, whose state is not that of most others.

    ``variables``: the names of the state that differs.
    """

    replicas: list[int]
    num_replicas: int
    variables: list[str]

    def __str__(self) -> str:
        who = ", ".join(map(str, self.replicas))
        more = f" and {len(self.variables) - 1} more" if len(self.variables) > 1 else ""
        if 2 * len(self.replicas) >= self.num_replicas:
            who = f"{who}, or the others,"
        return f"replica {who} of {self.num_replicas} differs in {self.variables[0]}{more}"


def checksum(value: tf.Tensor) -> tf.Tensor:
    """[] int32: the sum of an array's bits as integers, modulo 2^32; any flipped bit changes it."""
    return tf.reduce_sum(tf.bitcast(value, tf.int32))


class ReplicaCheck:
    """Compares checksums of the whole training state over the replicas of all processes."""

    def __init__(self, trainer: AlphaFoldTrainer) -> None:
        self.cluster = trainer.cluster
        named = list(trainer.named_state())
        self.names = [name for name, _ in named]
        variables = [variable for _, variable in named]
        # Compiled: outside XLA, TensorFlow's GPUs leave integers to the processor.
        sums = tf.function(
            lambda values: tf.stack([checksum(value) for value in values]),
            autograph=False,
            jit_compile=True,
        )

        def of_replica() -> tf.Tensor:
            return sums([_local(variable) for variable in variables])

        strategy = trainer.cluster.strategy
        self._sums = tf.function(lambda: strategy.run(of_replica), autograph=False)

    def checksums(self) -> list[np.ndarray]:
        """[variables] int32 of each replica of this process."""
        return [sums.numpy() for sums in self.cluster.from_replicas(self._sums())]

    def disagreement(self) -> Disagreement | None:
        """Who differs; every process must ask, and all get the same answer."""
        sums = self.checksums()
        digests = _joined(self.cluster.gather_json([zlib.crc32(one.tobytes()) for one in sums]))
        (common, _), *others = Counter(digests).most_common()
        if not others:
            return None
        # Rare, so only now are they all sent around.
        table = np.array(_joined(self.cluster.gather_json([one.tolist() for one in sums])))
        odd = [number for number, digest in enumerate(digests) if digest != common]
        differ = (table != table[digests.index(common)]).any(axis=0)
        names = [name for name, bad in zip(self.names, differ, strict=True) if bad]
        return Disagreement(odd, len(digests), names)


def _local(variable: keras.Variable) -> tf.Tensor:
    return tf.convert_to_tensor(variable.value)


def _joined(lists: list[list]) -> list:
    return [item for one in lists for item in one]


class StepBack(keras.callbacks.Callback):
    """Sets training back to the last checkpoint where replicas differ (``check_replicas_every``).

    Compares also before each checkpoint and each validation, so that neither has such weights.

    Args:
      restore: puts the last checkpoint's state back, on every process; returns its step.
      save: writes a checkpoint of the state at the start, for there to be one.
    """

    def __init__(
        self, config: Config, restore: Callable[[], int], save: Callable[[], object]
    ) -> None:
        super().__init__()
        train = config.train
        self.every = (train.check_replicas_every, train.checkpoint_every, config.validation.every)
        self.last = train.steps
        self.restore, self.save = restore, save
        self.compared = 0  # at this step
        self.in_a_row = 0

    def on_train_begin(self, logs: dict[str, float] | None = None) -> None:
        self.check = ReplicaCheck(self.model)
        if self.model.cluster.num_replicas == 1:
            _LOG.warning("train.check_replicas_every: there is one replica and nothing to compare")
        self.save()

    def on_train_batch_end(self, batch: int, logs: dict[str, float] | None = None) -> None:
        step = batch + 1
        if step == self.last or any(step % every == 0 for every in self.every):
            self._compare(step)

    def on_epoch_end(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        step = self.model.step
        if step != self.compared:  # training ends early, and the state will be saved
            self._compare(step)

    def _compare(self, step: int) -> None:
        self.compared = step
        found = self.check.disagreement()
        if found is None:
            self.in_a_row = 0
            return
        self.in_a_row += 1
        if self.in_a_row >= MAX_IN_A_ROW:
            raise ReplicasDifferError(
                f"step {step}: {found}, {self.in_a_row} times in a row; take that device out of "
                "the run, then start it again: it goes on from its last checkpoint"
            )
        self.compared = self.restore()
        _LOG.warning(
            "step %d: %s; its memory or arithmetic failed. Back to the checkpoint of step %d",
            step,
            found,
            self.compared,
        )
