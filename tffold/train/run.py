"""One training run: made, resumed or started from another's weights, trained, summed up."""

from __future__ import annotations

import contextlib
import json
import logging
import math
import signal
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import keras

from records import paths
from records.durable import write_whole
from records.errors import InputError
from tffold import config_file
from tffold.config import Config
from tffold.pictures.board import BestEffort
from tffold.rules import rules
from tffold.train import describe
from tffold.train.apart import Compilation
from tffold.train.callbacks import Probe, StopOnNonFinite, StopOnSignal
from tffold.train.checkpointer import Checkpointer
from tffold.train.feed import Feed
from tffold.train.loop import fit
from tffold.train.monitor import (
    METRICS_FILE,
    TENSORBOARD_FOLDER,
    Monitor,
    keep_lines,
    read_metrics,
)
from tffold.train.profiler import Profiler
from tffold.train.replicas import StepBack
from tffold.train.run_folder import RunFolder
from tffold.train.saving import VALIDATION, restore, start_from
from tffold.train.strategy import Cluster, build_cluster, has_accelerators
from tffold.train.summary import run_summary
from tffold.train.task import Task
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

_LOG = logging.getLogger(__name__)


@dataclass
class Outcome:
    """How a run ended; ``signal`` is that which stopped it early, or 0."""

    trainer: AlphaFoldTrainer
    summary: dict[str, object]
    signal: int


def train(
    config: Config,
    task: Task,
    allow_config_change: bool = False,
    callbacks: Sequence[keras.callbacks.Callback] = (),
    compile_apart: bool = False,
) -> Outcome:
    """Trains as ``config`` says, from the run folder's last whole checkpoint if it holds one.

    ``compile_apart``: another process compiles the step (see ``apart``), which must be that of
    ``alphafold_task``; on one CPU alone, since an accelerator would not serve both.

    Raises:
      InputError: bad configuration, data or checkpoint.
      NonFiniteError: see ``StopOnNonFinite``.
      ReplicasDifferError: see ``StepBack``.
    """
    cluster = build_cluster(config.train)
    run_dir = paths.tidy(config.train.run_dir)
    latest = _latest(cluster, paths.join(run_dir, checkpoint.FOLDER))
    if latest is not None:
        check_same_config(latest, config, allow_config_change)
    start_step = latest.step if latest is not None else 0
    with contextlib.ExitStack() as stack:
        compilation = None
        alone = cluster.is_one_device and not has_accelerators()
        if compile_apart and alone and start_step < config.train.steps:
            compilation = stack.enter_context(Compilation(config, start_step))
        feed, trainer = prepare(config, task, cluster, start_step)
        if compilation is not None:
            compilation.wait()
    step = trainer.training_step
    if step.frozen:
        sizes = [sum(math.prod(v.shape) for v in group) for group in (step.trained, step.frozen)]
        _LOG.info("training {:,} parameters; {:,} are frozen".format(*sizes))
    progress = Progress()
    if latest is not None:
        restore(trainer, latest)
        progress = Progress.from_json(latest.description.get(VALIDATION))
        _LOG.info("resuming %s at step %d", run_dir, trainer.step)
    elif config.train.init_from:
        start_from(trainer, config.train.init_from, task)
    resumed = latest is not None
    del latest  # as large as the state itself
    best_effort = BestEffort()
    evaluation = task.evaluation(config, trainer)
    with contextlib.ExitStack() as stack:
        stopper = StopOnSignal()
        watchers = [StopOnNonFinite(feed, config), *callbacks, stopper]
        folder = saver = None
        record, save_best, report = (lambda *_: None for _ in range(3))
        if cluster.is_chief:  # it alone writes
            folder = stack.enter_context(RunFolder(run_dir, best_effort))
            monitor = Monitor(folder, config, best_effort)
            saver = Checkpointer(
                trainer, config, run_dir, progress, lambda: stopper.caught == signal.SIGTERM
            )
            record, save_best = monitor.record, saver.save_best
            report = Reporter(folder, best_effort, monitor)
        watchers = [Probe(feed, config, record), *watchers]
        if config.train.check_replicas_every:

            def step_back() -> int:
                if saver:
                    saver.wait()
                saved = _latest(cluster, paths.join(run_dir, checkpoint.FOLDER))
                restore(trainer, saved)
                before = Progress.from_json(saved.description.get(VALIDATION))
                vars(progress).update(vars(before))
                if saver:
                    saver.set_back()
                    keep_lines(folder.here / METRICS_FILE, saved.step)
                return saved.step

            save_first = saver.save_first if saver and not resumed else lambda: None
            watchers.append(StepBack(config, step_back, save_first))
        if evaluation is not None:
            watchers.append(Validator(evaluation, config, progress, save_best, report))
        if saver:
            _write(folder.here / CONFIG_FILE, config_file.to_yaml(config), best_effort)
            monitor.texts = {
                "config": describe.settings(config),
                "data": task.describe_data(feed.factory, evaluation),
                "environment": describe.environment(cluster),
                "model": describe.model_table(trainer.network),
            }
            steps = config_file.profiled_steps(config.train.profile)
            profiler = Profiler(folder.here / TENSORBOARD_FOLDER, steps, best_effort)
            watchers = [monitor, *watchers, saver, profiler]
        with contextlib.ExitStack() as training:
            training.callback(stopper.restore)
            if saver:
                training.enter_context(contextlib.closing(monitor))
                training.enter_context(saver)
            fit(trainer, feed, config, watchers)
        metrics = read_metrics(folder.here if folder else run_dir)
        summary = run_summary(run_dir, metrics, trainer.step)
        if progress.best_step:
            best = checkpoint.folder_name(progress.best_step)
            summary["best"] = {
                "step": progress.best_step,
                SCORE: progress.best,
                "checkpoint": paths.join(run_dir, BEST_FOLDER, best),
            }
        if skipped := feed.factory.skipped:
            summary["skipped_records"] = skipped
            _LOG.warning("%d damaged records were skipped; convert them again", skipped)
        if folder:
            _write(folder.here / SUMMARY_FILE, json.dumps(summary, indent=1) + "\n", best_effort)
    return Outcome(trainer, summary, stopper.caught)


def _latest(cluster: Cluster, folder: str) -> checkpoint.Checkpoint | None:
    """The newest whole checkpoint as the chief sees it: a store may list others to others.

    Raises:
      CheckpointError: see ``load_latest``; to all processes.
    """
    latest, problem = None, ""
    if cluster.is_chief:
        try:
            latest = checkpoint.load_latest(folder)
        except InputError as error:
            problem = str(error)
    step, problem = cluster.gather_json([latest.step if latest else None, problem])[0]
    if problem:
        raise checkpoint.CheckpointError(problem)
    if cluster.is_chief or step is None:
        return latest
    return checkpoint.load(paths.join(folder, checkpoint.folder_name(step)))


def _write(path: Path, content: str, best_effort: BestEffort) -> None:
    def action() -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_whole(path, content)

    best_effort(f"{path.name} cannot be written", action)


def validate(config: Config, task: Task, source: str) -> Summary:
    """Evaluates the averaged weights of a checkpoint, a run's newest one, or an ``.npz``.

    Writes tables and structures under the run folder's ``validation/``.

    Raises:
      InputError: no data to validate on, or no such weights.
    """
    cluster = build_cluster(config.train)
    trainer = build_trainer(config, task, cluster)
    evaluation = task.evaluation(config, trainer)
    if evaluation is None:
        raise InputError("there is nothing to validate on", mend="set data.validation")
    step, missing = start_from(trainer, source, task)
    if missing:
        raise InputError(f"{source}: holds no weights for {missing[0]}; choose its configuration")
    trainer.state_variables.step.assign(step)
    summary = evaluate(evaluation, trainer)
    if cluster.is_chief:
        for line in table_lines(summary):
            _LOG.info(line)
        _LOG.info(summary_line(summary))
        best_effort = BestEffort()
        with RunFolder(config.train.run_dir, best_effort) as folder:
            _LOG.info("written to %s", Reporter(folder, best_effort)(summary))
    return summary


def prepare(
    config: Config, task: Task, cluster: Cluster, start_step: int
) -> tuple[Feed, AlphaFoldTrainer]:
    """The data from ``start_step`` on, and the trainer.

    The step is traced where one replica is, if there is one to take.
    """
    feed = Feed(task.dataset(config), cluster)
    trainer = build_trainer(config, task, cluster)
    if cluster.is_one_device and start_step < config.train.steps:
        trainer.trace(feed.spec(start_step))
    return feed, trainer


def build_trainer(config: Config, task: Task, cluster: Cluster) -> AlphaFoldTrainer:
    """The network and all that training it needs, on the cluster's devices."""
    with cluster.strategy.scope():
        network = task.network(config)
        return AlphaFoldTrainer(
            network, config, cluster, task.loss_fn(config), task.metric_fn(config)
        )


def _as_written_now(tree: dict[str, object]) -> dict[str, object]:
    """A saved configuration with the settings of today: those that came since have their default.

    One that today's version cannot read stays as it is, and differs where it does.
    """
    try:
        return config_file.to_dict(config_file.from_dict(tree, "the checkpoint"))
    except InputError:
        return tree


def check_same_config(saved: checkpoint.Checkpoint, config: Config, allowed: bool) -> None:
    """Refuses to go on under settings that would make it another run, unless allowed."""
    before = config_file.flatten(_as_written_now(saved.description["config"]))
    now = config_file.flatten(config_file.to_dict(config))
    free = {key for key, rule in rules(Config).items() if rule.free_on_resume}
    changed = [
        f"{key}: {before.get(key)!r} -> {now.get(key)!r}"
        for key in sorted((before.keys() | now.keys()) - free)
        if before.get(key) != now.get(key)
    ]
    if changed and not allowed:
        raise InputError(
            f"{config.train.run_dir}: the configuration differs from that of the run's last "
            f"checkpoint: {'; '.join(changed)}; undo that, choose another 'train.run_dir', or pass "
            "--allow-config-change"
        )
