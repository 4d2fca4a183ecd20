"""One training run: made, resumed or started from another's weights, trained, summed up."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import keras
import tensorflow as tf

from records.errors import InputError
from tffold import config_file
from tffold.config import Config
from tffold.pictures.board import Guard
from tffold.train import describe
from tffold.train.callbacks import PROBE, Checkpointer, NonFiniteGuard, Probe, StopOnSignal
from tffold.train.evaluation import Evaluation
from tffold.train.feed import DatasetFactory, Feed
from tffold.train.loop import SECONDS, fit
from tffold.train.monitor import LDDT, TENSORBOARD_FOLDER, Monitor, read_metrics
from tffold.train.profiler import Profiler
from tffold.train.step import TOTAL, LossFunction, MetricFunction
from tffold.train.strategy import build_strategy, is_chief
from tffold.train.trainer import AlphaFoldTrainer
from tffold.train.validation import (
    BEST_FOLDER,
    SCORE,
    Progress,
    Reporter,
    Summary,
    Validator,
    evaluate,
    summary_line,
    table_lines,
)
from tffold.weights import checkpoint

CONFIG_FILE, SUMMARY_FILE = "config.yaml", "summary.json"
VALIDATION = "validation"  # in a checkpoint: how far it has come
# Settings that may change between one part of a run and the next: none changes the numbers.
FREE_ON_RESUME = frozenset(
    {
        "data.mask_msa_in_inference",
        "data.num_parallel",
        "data.prefetch",
        "data.size_buckets",
        "data.validation",
        "train.checkpoint_every",
        "train.init_from",
        "train.keep_checkpoints",
        "train.log_every",
        "train.max_non_finite_steps",
        "train.probe_steps",
        "train.profile",
        "train.run_dir",
        "train.steps",
        "train.tpu",
    }
)

FREE_SECTIONS = ("predict.", "validation.")  # nor does anything in these

Say = Callable[[str], None]


@dataclass(frozen=True)
class Parts:
    """What training joins: the real ones are in ``tffold.train.parts``, tests bring toys."""

    network: Callable[[Config], keras.layers.Layer]
    dataset: Callable[[Config], DatasetFactory]
    loss_fn: Callable[[Config], LossFunction]
    metric_fn: Callable[[Config], MetricFunction]
    load_npz: Callable[[keras.layers.Layer, Path], None]
    # None: there is nothing to validate.
    evaluation: Callable[[Config, AlphaFoldTrainer, Say], Evaluation | None]
    describe_data: Callable[[DatasetFactory, Evaluation | None], str]  # Markdown


@dataclass
class Outcome:
    """How a run ended; ``signal`` is that which stopped it early, or 0."""

    trainer: AlphaFoldTrainer
    summary: dict[str, object]
    signal: int


def train(
    config: Config,
    parts: Parts,
    allow_config_change: bool = False,
    callbacks: Sequence[keras.callbacks.Callback] = (),
    say: Say = print,
) -> Outcome:
    """Trains as ``config`` says, from the run folder's last whole checkpoint if it holds one.

    Raises:
      InputError: bad configuration, data or checkpoint.
      NonFiniteError: see ``NonFiniteGuard``.
    """
    strategy = build_strategy(config.train)
    chief = is_chief(strategy)
    say = say if chief else lambda line: None
    run_dir = Path(config.train.run_dir)
    feed = Feed(parts.dataset(config), strategy)
    trainer = build_trainer(config, parts, strategy)
    folder = run_dir / checkpoint.FOLDER
    latest = checkpoint.load_latest(folder, say)
    progress = Progress()
    if latest is not None:
        check_same_config(latest, config, allow_config_change)
        restore(trainer, latest)
        progress = Progress.from_json(latest.description.get(VALIDATION))
        say(f"resuming {run_dir} at step {trainer.step}")
    elif config.train.init_from:
        start_from(trainer, config.train.init_from, parts, say)
    guard = Guard(say)
    evaluation = parts.evaluation(config, trainer, say)
    monitor = Monitor(run_dir, config, say, guard=guard) if chief else None

    def save_last() -> None:
        if chief:
            save(trainer, config, folder, config.train.keep_checkpoints, progress)

    def save_best() -> None:
        if chief:
            # A later one may lie there, from before the run went back to this step's past.
            checkpoint.remove_others(save(trainer, config, run_dir / BEST_FOLDER, 1, progress))

    stopper = StopOnSignal(say)
    watchers = [
        Probe(feed, config, monitor.record if chief else lambda step, scalars: None),
        NonFiniteGuard(feed, config, say),
        *callbacks,
        stopper,
    ]
    if evaluation is not None:
        report = Reporter(run_dir, guard, monitor) if chief else lambda summary: None
        watchers.append(Validator(evaluation, config, progress, save_best, report, say))
    watchers.append(Checkpointer(save_last, trainer.step))
    if chief:
        run_dir.mkdir(parents=True, exist_ok=True)
        (run_dir / CONFIG_FILE).write_text(config_file.to_yaml(config))
        monitor.texts = {
            "config": describe.settings(config),
            "data": parts.describe_data(feed.factory, evaluation),
            "environment": describe.environment(strategy),
            "model": describe.model_table(trainer.network),
        }
        steps = config_file.profiled_steps(config.train.profile)
        watchers = [monitor, *watchers, Profiler(run_dir / TENSORBOARD_FOLDER, steps, guard)]
        with contextlib.closing(monitor):
            fit(trainer, feed, config, watchers)
    else:
        fit(trainer, feed, config, watchers)
    summary = summarise(run_dir, trainer.step)
    if progress.best_step:
        summary["best"] = {
            "step": progress.best_step,
            SCORE: progress.best,
            "checkpoint": str(run_dir / BEST_FOLDER / checkpoint.folder_name(progress.best_step)),
        }
    if feed.factory.skipped:
        summary["skipped_records"] = feed.factory.skipped
        say(f"warning: {feed.factory.skipped} damaged records were skipped; convert them again")
    if chief:
        (run_dir / SUMMARY_FILE).write_text(json.dumps(summary, indent=1) + "\n")
    return Outcome(trainer, summary, stopper.caught)


def validate(config: Config, parts: Parts, source: str, say: Say = print) -> Summary:
    """Evaluates the averaged weights of a checkpoint, a run's newest one, or an ``.npz``.

    Writes tables and structures under the run folder's ``validation/``.

    Raises:
      InputError: no data to validate on, or no such weights.
    """
    strategy = build_strategy(config.train)
    chief = is_chief(strategy)
    say = say if chief else lambda line: None
    trainer = build_trainer(config, parts, strategy)
    evaluation = parts.evaluation(config, trainer, say)
    if evaluation is None:
        raise InputError("there is nothing to validate on", mend="set data.validation")
    step, missing = start_from(trainer, source, parts, say)
    if missing:
        raise InputError(f"{source}: holds no weights for {missing[0]}; choose its configuration")
    trainer.state_variables.step.assign(step)
    summary = evaluate(evaluation, trainer)
    if chief:
        for line in table_lines(summary):
            say(line)
        say(summary_line(summary))
        say(f"written to {Reporter(Path(config.train.run_dir), Guard(say))(summary)}")
    return summary


def build_trainer(
    config: Config, parts: Parts, strategy: tf.distribute.Strategy
) -> AlphaFoldTrainer:
    """The network and all that training it needs, on the strategy's devices."""
    with strategy.scope():
        network = parts.network(config)
        return AlphaFoldTrainer(
            network, config, strategy, parts.loss_fn(config), parts.metric_fn(config)
        )


def save(
    trainer: AlphaFoldTrainer, config: Config, folder: Path, keep: int, progress: Progress
) -> Path:
    """Writes the trainer's whole state to a folder of checkpoints."""
    step = trainer.step
    arrays = {
        name: keras.ops.convert_to_numpy(variable) for name, variable in trainer.named_state()
    }
    description = {
        "samples": step * config.train.batch_size,
        "seed": config.train.seed,
        "config": config_file.to_dict(config),
        VALIDATION: progress.to_json(),
    }
    return checkpoint.save(folder, step, arrays, description, keep)


def restore(trainer: AlphaFoldTrainer, saved: checkpoint.Checkpoint) -> None:
    """Puts a checkpoint's every array back.

    Raises:
      CheckpointError: it does not hold exactly this model's state.
    """
    state = dict(trainer.named_state())
    odd = sorted(state.keys() ^ saved.arrays.keys())
    if odd:
        raise checkpoint.CheckpointError(f"{saved.path}: does not fit the model: '{odd[0]}'")
    for name, variable in state.items():
        _assign(variable, saved.arrays[name], f"{saved.path}: '{name}'")


def start_from(
    trainer: AlphaFoldTrainer, source: str, parts: Parts, say: Say
) -> tuple[int, list[str]]:
    """Weights, and nothing else, from DeepMind's ``.npz``, a checkpoint or a run folder.

    Of a checkpoint both the weights and their average are taken; new modules keep their
    initial values, and ``say`` names them.

    Returns the step they were saved at (0 if that is unknown), and the new modules' parameters.
    """
    path = Path(source)
    state = trainer.state_variables
    if path.suffix == ".npz":
        parts.load_npz(trainer.network, path)
        for parameter, average in zip(state.parameters, state.average, strict=True):
            average.assign(parameter)
        say(f"starting from the parameters in {path}")
        return 0, []
    saved = checkpoint.load_any(path, say)
    if saved is None:
        raise InputError(f"{path}: neither a checkpoint nor a run with one (train.init_from)")
    kept = []
    for name, variable in trainer.named_state():
        if not name.startswith(("parameters/", "average/")):
            continue
        if name in saved.arrays:
            _assign(variable, saved.arrays[name], f"{saved.path}: '{name}'")
        elif name.startswith("parameters/"):
            kept.append(name.removeprefix("parameters/"))
    say(f"starting from the weights in {saved.path}")
    if kept:
        say(f"not there, so newly drawn: {', '.join(kept)}")
    return saved.step, kept


def _assign(variable: keras.Variable, value: object, item: str) -> None:
    if tuple(variable.shape) != value.shape:
        raise checkpoint.CheckpointError(
            f"{item} has shape {value.shape}, the model wants {tuple(variable.shape)}"
        )
    variable.assign(value)


def check_same_config(saved: checkpoint.Checkpoint, config: Config, allowed: bool) -> None:
    """Refuses to go on under settings that would make it another run, unless allowed."""
    before = config_file.flatten(saved.description["config"])
    now = config_file.flatten(config_file.to_dict(config))
    changed = [
        f"{key}: {before.get(key)!r} -> {now.get(key)!r}"
        for key in sorted(before.keys() | now.keys())
        if before.get(key) != now.get(key)
        and key not in FREE_ON_RESUME
        and not key.startswith(FREE_SECTIONS)
    ]
    if changed and not allowed:
        raise InputError(
            f"{config.train.run_dir}: the configuration differs from that of the run's last "
            f"checkpoint: {'; '.join(changed)}; undo that, choose another 'train.run_dir', or pass "
            "--allow-config-change"
        )


def summarise(run_dir: Path, step: int) -> dict[str, object]:
    """What a finished run is remembered by; first and last are means of a logging window."""
    metrics = read_metrics(run_dir)
    windows = [line for line in metrics if TOTAL in line]
    probes = [line for line in metrics if PROBE + LDDT in line]
    summary: dict[str, object] = {"step": step}
    if windows:
        summary["loss"] = [windows[0][TOTAL], windows[-1][TOTAL]]
        seconds = sorted(line[SECONDS] for line in windows[1:] or windows)
        summary["seconds_per_step"] = seconds[len(seconds) // 2]
    if len(probes) > 1:
        summary["lddt_ca"] = [probes[0][PROBE + LDDT], probes[-1][PROBE + LDDT]]
    folder = run_dir / checkpoint.FOLDER
    steps = checkpoint.steps_in(folder)
    summary["checkpoint"] = str(folder / checkpoint.folder_name(steps[-1])) if steps else None
    summary["tensorboard"] = str(run_dir / TENSORBOARD_FOLDER)
    return summary


def summary_lines(summary: dict[str, object]) -> list[str]:
    """A summary for people."""
    lines = [f"trained to step {summary['step']}"]
    if "loss" in summary:
        lines.append("loss: first {}, last {}".format(*map(_number, summary["loss"])))
    if "lddt_ca" in summary:
        lines.append(
            "lDDT-Cα of the training crops: before {}, after {}".format(
                *map(_number, summary["lddt_ca"])
            )
        )
    if "best" in summary:
        lines.append(
            "best lDDT-Cα of the validation chains: {} at step {}, kept as {}".format(
                _number(summary["best"][SCORE]),
                summary["best"]["step"],
                summary["best"]["checkpoint"],
            )
        )
    if "seconds_per_step" in summary:
        lines.append(f"seconds per step: {summary['seconds_per_step']:.2f}")
    lines.append(f"checkpoint: {summary['checkpoint']}")
    lines.append(f"to see it: tensorboard --logdir {summary['tensorboard']}")
    return lines


def _number(value: float | None) -> str:
    return "not finite" if value is None else f"{value:.4g}"
