"""What monitoring costs of a training step, outside validation.

    python benchmarks/monitoring.py            # the demo's network, about two minutes

The demo's own step on one bundled chain, against what is done to watch it: norms by module in
logged steps, the callbacks in every step, writing every `train.log_every` steps. Each part is
timed by itself, in processor time of the whole process, because two per cent of a step are less
than its noise. The demo is the worst case: its step is a tenth of a second, and a network of 93
million parameters on an accelerator takes seconds.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

ROOT = Path(__file__).parents[1]
DEMO = ROOT / "examples" / "demo"
LIMIT = 0.02


def median(action: Callable[[int], object], count: int) -> float:
    """Seconds of processor time, all threads together."""
    seconds = []
    for number in range(count):
        start = time.process_time()
        action(number)
        seconds.append(time.process_time() - start)
    return statistics.median(seconds)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=60)
    options = parser.parse_args()

    import tensorflow as tf

    from tffold import config_file
    from tffold.pictures.board import BestEffort
    from tffold.train.feed import Feed
    from tffold.train.loop import SECONDS, WAIT
    from tffold.train.monitor import Monitor
    from tffold.train.norms import is_logged
    from tffold.train.profiler import Profiler
    from tffold.train.run import build_trainer
    from tffold.train.run_folder import RunFolder
    from tffold.train.strategy import build_cluster
    from tffold.train.task import alphafold_task
    from tffold.train.trainer import STOP

    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "records.cli", "--output", f"{folder}/records"]
        command += ["--mmcif", str(DEMO / "mmcif"), "--alignments", str(DEMO / "alignments")]
        subprocess.run(command, check=True, capture_output=True)
        overrides = [f"data.train=[{folder}/records/train]", "train.steps=1000000"]
        config = config_file.load_config(ROOT / "configs" / "demo.yaml", overrides)
        every, task = config.train.log_every, alphafold_task()
        cluster = build_cluster(config.train)
        trainer = build_trainer(config, task, cluster)
        batch = next(iter(Feed(task.dataset(config), cluster).batches(0)))
        for _ in range(2):
            logs = trainer.run_step(batch)
        logs.pop(STOP)
        logs |= {SECONDS: 1.0, WAIT: 0.0}

        def step(number: int) -> None:
            while is_logged(trainer.step + 1, config.train):
                trainer.run_step(batch)
            trainer.run_step(batch)

        whole = median(step, options.steps)

        state = tf.nest.map_structure(
            lambda variable: tf.convert_to_tensor(variable.value), trainer.state_variables
        )
        sums, gradients = trainer._summed(state.parameters, batch, state.step)

        def update(logged: bool) -> Callable[[int], object]:
            def one(number: int) -> None:
                trainer.state_variables.step.assign(every - 1 if logged else every)
                trainer._update_in_place(gradients, sums)

            return one

        plain, with_norms = (median(update(logged), 4 * options.steps) for logged in (False, True))

        scalars = [tf.constant(1.0)] * sum(name.startswith("optim/") for name in logs)
        read = median(lambda number: [float(x) for x in scalars], options.steps)

        best_effort = BestEffort()
        monitor = Monitor(RunFolder(folder, best_effort), config, best_effort)
        watchers = [monitor, Profiler(Path(folder), range(0), best_effort)]
        for watcher in watchers:
            watcher.set_model(trainer)
            watcher.on_train_begin()

        def watch(number: int) -> None:
            for index in range(number * every, (number + 1) * every):
                for watcher in watchers:
                    watcher.on_train_batch_begin(index)
                    watcher.on_train_batch_end(index, dict(logs))

        watch(0)
        watching = median(watch, options.steps) / every
        monitor.close()

    norms = max(with_norms - plain, 0.0) / every
    total = norms + read + watching
    print(f"a step: {1e3 * whole:.1f} ms of processor time; log_every={every}")
    for name, seconds in (
        ("norms by module", norms),
        ("reading its scalars", read),
        ("callbacks and writing", watching),
        ("together", total),
    ):
        print(f"{name:<22} {1e3 * seconds:7.3f} ms a step  {seconds / whole:7.2%}")
    if total / whole > LIMIT:
        sys.exit(f"monitoring costs more than {LIMIT:.0%} of a step")


if __name__ == "__main__":
    main()
