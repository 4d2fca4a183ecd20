"""The loop: Keras callbacks around one distributed step after another.

Keras' own ``fit`` is not used: with Keras 3 it fails under several strategies. Its callbacks work:
a batch is a step, an epoch ends with each checkpoint.
"""

from __future__ import annotations

import time
from collections.abc import Sequence

import keras

from tffold.config import Config
from tffold.train.feed import Feed
from tffold.train.trainer import STOP, AlphaFoldTrainer

WAIT, SECONDS = "perf/data_wait_seconds", "perf/step_seconds"


def fit(
    trainer: AlphaFoldTrainer,
    feed: Feed,
    config: Config,
    callbacks: Sequence[keras.callbacks.Callback],
) -> None:
    """Trains from where ``trainer`` stands to ``train.steps``, or until something stops it.

    A callback ends training with ``trainer.stop_training = True``: after this step, or, where
    several processes must agree on it, after the next. It may set the trainer's state back to that
    of an earlier step (on all processes alike); training goes on from there.
    """
    train = config.train
    trainer.stop_training = False
    watchers = keras.callbacks.CallbackList(list(callbacks), model=trainer, add_history=False)
    watchers.on_train_begin()
    alone = trainer.cluster.num_processes == 1
    step = trainer.step
    batches = feed.batches(step)
    stopped = step >= train.steps or (alone and trainer.stop_training)
    logs: dict[str, float] = {}
    while not stopped:
        watchers.on_epoch_begin(step // train.checkpoint_every)
        epoch_ends = False
        while not (stopped or epoch_ends):
            watchers.on_train_batch_begin(step)
            start = time.perf_counter()
            batch = next(batches)
            with feed.errors():
                logs = trainer.run_step(batch, stop=trainer.stop_training)
            feed.report(trainer.damaged)
            seconds = time.perf_counter() - start
            asked = logs.pop(STOP) > 0
            logs |= {
                SECONDS: seconds,
                "perf/samples_per_second": train.batch_size / seconds,
                "perf/residues_per_second": train.batch_size * config.data.crop_size / seconds,
            }
            if feed.wait_seconds is not None:
                logs[WAIT] = feed.wait_seconds
            watchers.on_train_batch_end(step, logs)
            step += 1
            if trainer.step != step:  # it was set back
                step = trainer.step
                batches = feed.batches(step)
            epoch_ends = step % train.checkpoint_every == 0
            asked = asked or (alone and trainer.stop_training)
            stopped = asked or step >= train.steps
        watchers.on_epoch_end((step - 1) // train.checkpoint_every, logs)
        stopped = stopped or (alone and trainer.stop_training)
    watchers.on_train_end(logs)
