"""Part 5: whether this host feeds the device, and keeps checkpoints, fast enough."""

from __future__ import annotations

import os
import shutil
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import keras
import numpy as np

from records import paths
from records.errors import InputError
from records.shards import find_shards, read_index
from tffold.check.child import Request
from tffold.check.places import one_each
from tffold.check.report import FAIL, Line, judge, left_out, measured
from tffold.config import Config
from tffold.train.feed import DatasetFactory, next_element
from tffold.train.run import build_trainer
from tffold.train.saving import restore
from tffold.train.task import alphafold_task
from tffold.train.trainer import AlphaFoldTrainer
from tffold.weights import checkpoint

PART = "input"
SECONDS = 5.0  # of measuring the pipeline, after the first batch
READ_BYTES = 1 << 28  # of shards that are read to measure the store
ENOUGH = 1.1  # times what the device eats
_BATCH_EXAMPLES = 4  # a batch for measuring; threads work on more than one


def check(request: Request) -> Iterator[Line]:
    """The data set, the store that holds it, and checkpoints where ``train.run_dir`` lies."""
    if request.config.data.train:
        try:
            factory = alphafold_task().dataset(loading_config(request))
            yield from data_lines(factory, request)
        except InputError as error:
            yield Line(PART, "data", FAIL, str(error))
    else:
        yield left_out(PART, "data", "no data set is named: data.train=FOLDER")
    yield from checkpoint_lines(request.config)


def loading_config(request: Request) -> Config:
    """The configuration with a batch small enough to be measured soon."""
    _, config = one_each(request.config)
    config.train.batch_size = _BATCH_EXAMPLES
    return config


def data_lines(factory: DatasetFactory, request: Request) -> Iterator[Line]:
    """Examples a second of this host against what its replicas eat, and which part is short."""
    seconds = request.options.get("seconds", SECONDS)
    rate, first, count = example_rate(factory, _BATCH_EXAMPLES, seconds)
    text = f"{rate:.3g} examples a second over {count} examples; the first took {first:.2f} s"
    yield measured(PART, "pipeline", text, examples_per_second=rate, first_seconds=first)
    read, each = store_rate(request.config.data.train)
    yield measured(
        PART,
        "store",
        f"{read / 1e6:.3g} MB/s read from the shards, {each / 1e6:.3g} MB a record",
        bytes_per_second=read,
        bytes_per_record=each,
    )
    yield _enough(request, rate, read / each)


def _enough(request: Request, rate: float, readable: float) -> Line:
    """Whether the host's rate is what its replicas eat."""
    found, name = request.found, "feeds the device"
    eaten = found.get("speed.step.samples_per_second")
    if not eaten:
        return left_out(PART, name, "part 'speed' measured no step to hold it against")
    eaten /= found.get("strategy.cluster.processes", 1)
    text = f"{rate:.3g} examples a second, {eaten:.3g} are eaten"
    if rate >= ENOUGH * eaten:
        return judge(PART, name, True, f"{text}: {rate / eaten:.3g} times as many", eaten=eaten)
    cores = len(os.sched_getaffinity(0))
    short = (
        f"the store is short ({readable:.3g} records a second): a nearer or faster disk"
        if readable < 1.5 * rate
        else f"preparing is short on {cores} cores (the store gives {readable:.3g} records a "
        "second): more cores, fewer rows (data.max_extra_msa)"
    )
    return judge(PART, name, False, f"{text}; {short}", eaten=eaten)


def example_rate(factory: DatasetFactory, batch: int, seconds: float) -> tuple[float, float, int]:
    """Examples a second, seconds to the first batch, and how many examples were counted."""
    start = time.perf_counter()
    batches = iter(factory(start_step=0))
    next_element(batches)
    began = time.perf_counter()
    count, now = 0, began
    while not count or now - began < seconds:
        next_element(batches)
        count += batch
        now = time.perf_counter()
    return count / (now - began), began - start, count


def store_rate(sources: Sequence[str]) -> tuple[float, float]:
    """Bytes a second of the shards, read past the system's cache, and bytes a record."""
    total, seconds = 0, 0.0
    size = records = 0
    for shard in find_shards(sources):
        entries = read_index(shard)
        records += len(entries)
        size += sum(entry.get("length", 0) for entry in entries)
        if total < READ_BYTES:
            _forget(shard)
            with paths.open_reading(shard) as file:
                start = time.perf_counter()
                while total < READ_BYTES and (block := file.read(1 << 22)):
                    total += len(block)
                seconds += time.perf_counter() - start
    return total / max(seconds, 1e-9), size / max(records, 1)


def _forget(shard: paths.Place) -> None:
    """Lets the system drop a local file from its cache."""
    if not paths.is_url(shard):
        with open(shard, "rb") as file:
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def checkpoint_lines(config: Config) -> Iterator[Line]:
    """Writes and reads a checkpoint of this configuration where the run folder will be."""
    run_dir = config.train.run_dir
    if paths.is_url(run_dir):
        yield left_out(PART, "checkpoint", f"{run_dir} is not a folder of this machine")
        return
    place = nearest_folder(Path(run_dir))
    cluster, config = one_each(config)
    trainer = build_trainer(config, alphafold_task(), cluster)
    yield from keep_and_load(trainer, config, place)


def nearest_folder(path: Path) -> Path:
    """The folder itself, or the first one above it that is there."""
    path = path.absolute()
    while not path.is_dir():
        path = path.parent
    return path


def keep_and_load(trainer: AlphaFoldTrainer, config: Config, place: Path) -> Iterator[Line]:
    """Room for the checkpoints that are kept; seconds to write one and to read it back."""
    size = sum(4 * int(np.prod(v.shape)) for _, v in trainer.named_state())
    free = shutil.disk_usage(place).free
    wanted = (config.train.keep_checkpoints + 2) * size  # the best one, and one being written
    text = f"{free / 1e9:.2f} GB free at {place}, {wanted / 1e9:.2f} GB wanted"
    if free < wanted:
        text += ": free some, fewer train.keep_checkpoints, or another train.run_dir"
    yield judge(PART, "room for checkpoints", free >= wanted, text, free=free, wanted=wanted)
    before = _arrays(trainer)
    try:
        with tempfile.TemporaryDirectory(prefix=".tffold-check-", dir=place) as folder:
            start = time.perf_counter()
            arrays = _arrays(trainer)
            path = checkpoint.save(Path(folder), 1, arrays, {}, keep=1)
            middle = time.perf_counter()
            restore(trainer, checkpoint.load(path))
            end = time.perf_counter()
    except (InputError, OSError) as error:
        yield Line(PART, "checkpoint", FAIL, str(error))
        return
    after = _arrays(trainer)
    same = all(before[name].tobytes() == after[name].tobytes() for name in before)
    save, load = middle - start, end - middle
    text = f"{size / 1e9:.2f} GB saved in {save:.2f} s, loaded in {load:.2f} s"
    if not same:
        text += ", and what was loaded is not what was saved"
    yield judge(PART, "checkpoint", same, text, save_seconds=save, load_seconds=load, bytes=size)


def _arrays(trainer: AlphaFoldTrainer) -> dict[str, np.ndarray]:
    return {name: keras.ops.convert_to_numpy(v) for name, v in trainer.named_state()}
