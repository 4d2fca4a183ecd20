"""What a checkpoint of the full network costs: the step's pause, and SIGTERM to complete.

    python benchmarks/checkpoints.py                      # to a store of 100 MB/s, four minutes
    python benchmarks/checkpoints.py --rate 50
    python benchmarks/checkpoints.py --rate 400 --connection 100   # MB/s of all, of one connection

The state of 93 million parameters, their averages and Adam's two moments (1.5 GB) is written to a
folder of this machine through the code that writes to stores, at a given rate: a throttled file
system takes a bucket's place. Steps are waits of half a second. Each case is a process of its own,
which is sent a real SIGTERM, either while nothing is written or while a checkpoint is. The
processor's seconds are those of all that was copied and written. Writing beside training and
writing while training waits (what a run did before) take turns.
"""

from __future__ import annotations

import argparse
import os
import resource
import signal
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("CUDA_VISIBLE_DEVICES", "-1")
STEP, EVERY = 0.5, 8  # seconds of a step, steps from one checkpoint to the next
CASES = [(mode, busy) for busy in (False, True) for mode in ("beside", "waiting")]


class Throttle:
    """Lets ``rate`` bytes a second through (0: any), of all who share it."""

    def __init__(self, rate: float) -> None:
        self._rate, self._free_at, self._lock = rate, time.monotonic(), threading.Lock()

    def wait(self, count: int) -> None:
        if not self._rate:
            return
        with self._lock:
            self._free_at = max(self._free_at, time.monotonic()) + count / self._rate
            free_at = self._free_at
        time.sleep(max(free_at - time.monotonic(), 0.0))


def register_store(rate: float, connection: float) -> None:
    """``throttled://``: this machine's files, written at ``rate`` bytes a second (0: any).

    ``connection``: of each file that is open.
    """
    import fsspec
    from fsspec.implementations.local import LocalFileSystem

    of_all = Throttle(rate)

    class Slow:
        def __init__(self, file: object) -> None:
            self._file, self._own = file, Throttle(connection)

        def write(self, data: object) -> int:
            count = self._file.write(data)
            for throttle in (self._own, of_all):
                throttle.wait(memoryview(data).nbytes)
            return count

        def __getattr__(self, name: str) -> object:
            return getattr(self._file, name)

        def __enter__(self) -> Slow:
            return self

        def __exit__(self, *_: object) -> None:
            self._file.close()

    class Throttled(LocalFileSystem):
        protocol = ("throttled",)

        def __init__(self, **_: object) -> None:
            super().__init__(auto_mkdir=True)

        @classmethod
        def _strip_protocol(cls, path: str) -> str:
            return "/" + str(path).split("://", 1)[-1].strip("/")

        def _open(self, path: str, mode: str = "rb", **more: object) -> object:
            file = super()._open(path, mode, **more)
            return Slow(file) if "w" in mode else file

    fsspec.register_implementation("throttled", Throttled)


def child(folder: str, mode: str, rate: float, connection: float) -> None:
    """Trains, in waits, until SIGTERM; prints what it measured."""
    register_store(rate, connection)
    from tffold import config_file
    from tffold.train.callbacks import StopOnSignal
    from tffold.train.checkpointer import Checkpointer
    from tffold.train.run import build_trainer
    from tffold.train.strategy import build_cluster
    from tffold.train.task import alphafold_task
    from tffold.train.validation import Progress

    config = config_file.load_config("initial_training")
    config.train.batch_size, config.train.keep_checkpoints = 1, 2
    cluster = build_cluster(config.train)
    trainer = build_trainer(config, alphafold_task(), cluster)
    stopper = StopOnSignal()
    saver = Checkpointer(
        trainer, config, f"throttled://{folder.strip('/')}", Progress(),
        lambda: stopper.caught == signal.SIGTERM,
    )  # fmt: skip
    if mode == "waiting":
        start = saver._writer.start
        saver._writer.start = lambda job: (start(job), saver._writer.wait())
    for watcher in (saver, stopper):
        watcher.set_model(trainer)
        watcher.on_train_begin()
    trainer.stop_training, step, pauses, before = False, 0, [], resident()
    worked = time.process_time()
    print("training", flush=True)
    while not trainer.stop_training:
        saver.on_train_batch_begin(step)
        time.sleep(STEP)
        step += 1
        print("step", flush=True)
        trainer.state_variables.step.assign(step)
        saver.on_train_batch_end(step - 1)
        if step % EVERY == 0:
            print("saving", flush=True)
            begun = time.monotonic()
            saver.on_epoch_end(0)
            pauses.append(time.monotonic() - begun)
    saver.on_epoch_end(0)
    saver.on_train_end()
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    worked = time.process_time() - worked
    print("complete", step, pauses[0] if pauses else 0.0, peak - before, worked, flush=True)


def resident() -> float:
    """MiB that this process holds."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20


def run(mode: str, busy: bool, rate: float, connection: float) -> tuple[float, ...]:
    """Seconds from SIGTERM to complete, of pause; MiB more in memory; processor seconds of all."""
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, __file__, "--child", folder, mode, str(rate), str(connection)]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        expect(process, "training")
        if busy:
            expect(process, "saving")
            if mode == "beside":
                expect(process, "step")  # the copy is made, and training goes on
            else:
                time.sleep(1.0)
        else:
            time.sleep(STEP * EVERY / 2)
        begun = time.monotonic()
        process.send_signal(signal.SIGTERM)
        _, step, *measured = expect(process, "complete").split()
        seconds = time.monotonic() - begun
        process.wait()
        (marker,) = Path(folder).glob(f"checkpoints/step-{int(step):08d}/checkpoint.json")
        assert marker.is_file()
    return seconds, *map(float, measured)


def expect(process: subprocess.Popen, word: str) -> str:
    for line in process.stdout:
        if line.startswith(word):
            return line
    raise SystemExit(f"the process ended without '{word}'")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rate", type=float, default=100.0, help="MB a second; 0: any")
    parser.add_argument("--connection", type=float, default=0.0, help="MB a second; 0: any")
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--child", nargs=4, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        folder, mode, *rates = options.child
        child(folder, mode, *map(float, rates))
        return
    print("writing   SIGTERM comes    to complete   pause of a step   more memory   processor")
    for _ in range(options.rounds):
        for mode, busy in CASES:
            rates = (options.rate * 1e6, options.connection * 1e6)
            seconds, pause, more, worked = run(mode, busy, *rates)
            when = "in a writing" if busy else "between"
            shown = f"{pause:11.2f} s" if busy else " " * 13
            line = f"{mode:9} {when:14} {seconds:10.1f} s    {shown}    {more:9.0f} MiB"
            print(f"{line} {worked:9.1f} s", flush=True)


if __name__ == "__main__":
    main()
