"""Trains the toy network in a process of its own, for tests that kill, signal or distribute it.

Usage: python run_fake.py DEVICES OUT [--poison=3,4] [--slow] [--validate=EVERY] [--hang=STEP]
       [--slow-writes] [--flip=5,6] field=value ...

``--hang``: the checkpoint of that step is written to its middle and never on; ``--slow-writes``:
each takes a second.
"""

from __future__ import annotations

import io
import json
import sys
import threading
import time
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf
from fake import (
    FakeNetwork,
    fake_config,
    fake_dataset,
    fake_evaluation,
    fake_loss,
    fake_metrics,
)
from faults import FlipBits

from records.errors import InputError
from tffold import logs
from tffold.train.callbacks import NonFiniteError
from tffold.train.replicas import ReplicasDifferError
from tffold.train.run import train
from tffold.train.task import Task
from tffold.weights import checkpoint


def fake_task(poison: frozenset[int] = frozenset(), dropout: float = 0.3) -> Task:
    def network(config):
        built = FakeNetwork(dropout, config.train.seed)
        built.build()
        return built

    return Task(
        network=network,
        dataset=lambda config: fake_dataset(config, poison),
        loss_fn=lambda config: fake_loss,
        metric_fn=lambda config: fake_metrics,
        load_npz=lambda network, path: None,
        evaluation=fake_evaluation,
        describe_data=lambda factory, evaluation: "made up",
    )


def hinder_writes(hang: int) -> None:
    """Slow writes; that of step ``hang`` stops in the middle of the arrays' file."""
    write_arrays = checkpoint.write_arrays

    def hindered(file, arrays):
        if int(arrays["step"]) != hang:
            time.sleep(0 if hang else 1)
            return write_arrays(file, arrays)
        whole = io.BytesIO()
        write_arrays(whole, arrays)
        file.write(whole.getvalue()[: len(whole.getvalue()) // 2])
        file.flush()
        threading.Event().wait()

    checkpoint.write_arrays = hindered


def main(devices: int, out: str, *rest: str) -> int:
    cpu = tf.config.list_physical_devices("CPU")[0]
    tf.config.set_logical_device_configuration(
        cpu, [tf.config.LogicalDeviceConfiguration()] * devices
    )
    logs.show()
    flags = dict(word[2:].partition("=")[::2] for word in rest if word.startswith("--"))
    fields = dict(word.split("=", 1) for word in rest if not word.startswith("--"))
    values = {name: json.loads(v) if v[:1] in "-0123456789" else v for name, v in fields.items()}
    poison = frozenset(int(step) for step in flags.get("poison", "").split(",") if step)
    callbacks = []
    if "slow" in flags:
        callbacks.append(
            keras.callbacks.LambdaCallback(on_train_batch_end=lambda batch, logs: time.sleep(0.2))
        )
    if "hang" in flags or "slow-writes" in flags:
        hinder_writes(int(flags.get("hang", 0)))
    if "flip" in flags:
        callbacks.append(FlipBits(flags["flip"]))
    config = fake_config(**values)
    if "validate" in flags:
        config.data.validation, config.validation.every = ["made up"], int(flags["validate"])
    try:
        outcome = train(config, fake_task(poison), callbacks=callbacks)
    except (InputError, NonFiniteError, ReplicasDifferError) as error:
        print(f"error: {error}", flush=True)
        return 2
    state = {name: keras.ops.convert_to_numpy(v) for name, v in outcome.trainer.named_state()}
    Path(out).parent.mkdir(parents=True, exist_ok=True)
    np.savez(out, **{name.replace("/", "|"): value for name, value in state.items()})
    return 75 if outcome.signal else 0


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1]), sys.argv[2], *sys.argv[3:]))
