"""Faults of hardware, made on purpose.

Run as a script it makes two devices of the processor and prints what the check's strategy part
says when one of them flips a bit on the way.
"""

from __future__ import annotations

import keras
import numpy as np


def flip_bit(variable: keras.Variable, replica: int, bit: int = 30) -> None:
    """Flips a bit of the first number in one replica's copy of a variable."""
    copy = variable.value.values
    value = copy[replica].numpy()
    value.reshape(-1).view(np.int32)[0] ^= np.int32(1 << bit)
    copy[replica].assign(value)


class FlipBits(keras.callbacks.Callback):
    """Flips a bit of a weight on the last replica.

    Args:
      steps: after the first visit to each of these; "always": after every step.
    """

    def __init__(self, steps: str) -> None:
        super().__init__()
        self.always = steps == "always"
        self.steps = set() if self.always else {int(step) for step in steps.split(",")}

    def on_train_batch_end(self, batch, logs=None):
        if self.always or batch + 1 in self.steps:
            self.steps.discard(batch + 1)
            flip_bit(self.model.network.trainable_variables[0], -1)


def main() -> None:
    from tffold.check import strategy
    from tffold.check.child import make_cpu_devices
    from tffold.check.toy import toy_config, toy_trainer
    from tffold.config import Config
    from tffold.train.strategy import build_cluster

    make_cpu_devices(2)
    config = Config()
    config.train.strategy = "mirrored"
    cluster = build_cluster(config.train)
    config = toy_config(config, 2, 2)
    trainer = toy_trainer(config, cluster)
    run_step, steps = trainer.run_step, []

    def faulty(batch):
        logs = run_step(batch)
        steps.append(logs)
        if len(steps) == strategy.STEPS:  # nothing but the last comparison can see it
            flip_bit(trainer.network.trainable_variables[0], 1, bit=1)
        return logs

    trainer.run_step = faulty
    for line in strategy.ten_steps(config, cluster, trainer):
        print(line)


if __name__ == "__main__":
    main()
