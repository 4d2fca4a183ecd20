"""Validation: every so many steps all metrics of whole chains, the best weights, early stopping."""

from __future__ import annotations

import csv
import io
import json
import logging
import math
import time
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from pathlib import Path

import keras
import numpy as np

from records import paths
from records.durable import write_whole
from tffold.config import Config
from tffold.pictures.board import BestEffort, Board
from tffold.train import gallery
from tffold.train.evaluation import ChainResult, Evaluation
from tffold.train.monitor import Monitor
from tffold.train.run_folder import RunFolder
from tffold.train.trainer import AlphaFoldTrainer

_LOG = logging.getLogger(__name__)
FOLDER = "validation"  # in a run folder
BEST_FOLDER = "best"  # in a run folder: a checkpoint that no later one pushes out
TABLE, RECORD = "chains.csv", "validation.json"
INTERFACES = "interfaces.csv"  # of complexes
SCORE = "lddt_ca"  # what decides which weights are best
PREFIX = "validation"


@dataclass
class Progress:
    """What validation remembers; every checkpoint holds it, so that a resumed run goes on alike."""

    step: int = 0  # of the last evaluation
    best: float = -math.inf
    best_step: int = 0
    since_best: int = 0  # evaluations

    def to_json(self) -> dict[str, object]:
        """With null for the best of no evaluation."""
        return asdict(self) | {"best": self.best if math.isfinite(self.best) else None}

    @classmethod
    def from_json(cls, values: dict | None) -> Progress:
        values = values or {}
        best = values.get("best")
        return cls(**{**values, "best": -math.inf if best is None else best})


@dataclass
class Summary:
    """One evaluation: means over the chains, on how many each rests, and the chains."""

    step: int
    means: dict[str, float]
    counts: dict[str, int]
    chains: list[ChainResult]
    seconds: float


def mean_over_chains(step: int, chains: Iterable[ChainResult], seconds: float) -> Summary:
    """Means of whatever each chain has; what is not finite is no number, and left out."""
    chains = list(chains)
    means: dict[str, keras.metrics.Mean] = {}
    counts: dict[str, int] = {}
    for chain in chains:
        for name, value in chain.numbers.items():
            if math.isfinite(value):
                means.setdefault(name, keras.metrics.Mean(name=name)).update_state(value)
                counts[name] = counts.get(name, 0) + 1
    found = {name: float(mean.result()) for name, mean in means.items()}
    return Summary(step, found, counts, chains, seconds)


def evaluate(
    evaluation: Evaluation,
    trainer: AlphaFoldTrainer,
    draw: bool = True,
    stopped: Callable[[], bool] = lambda: False,
) -> Summary | None:
    """All chains, shared among the processes; None if any of them was asked to stop meanwhile.

    Every process must call it, and gets the same numbers. The chief alone has the drawings.
    """
    start = time.perf_counter()
    cluster = trainer.cluster
    chains = range(len(evaluation.chain_ids))
    others = [i for i in chains if i not in evaluation.drawn]
    own = others[cluster.process :: cluster.num_processes]
    if cluster.is_chief:
        own += evaluation.drawn
    found = []
    for result in evaluation.evaluate(sorted(own), draw):
        found.append(result)
        if stopped():
            break
    drawings = {result.chain_id: result.drawing for result in found}
    told = [asdict(result) | {"drawing": None} for result in found]
    gathered = cluster.gather_json([stopped(), told])
    if any(stop for stop, _ in gathered):
        return None
    order = {name: i for i, name in enumerate(evaluation.chain_ids)}
    results = [ChainResult(**values) for _, part in gathered for values in part]
    results.sort(key=lambda result: order[result.chain_id])
    for result in results:
        result.drawing = drawings.get(result.chain_id)
    return mean_over_chains(trainer.step, results, time.perf_counter() - start)


class Validator(keras.callbacks.Callback):
    """Evaluates every ``validation.every`` steps, before the checkpoint of that step is written.

    Args:
      evaluation: what is measured.
      config: ``validation`` says how often, and when to give up.
      progress: as the checkpoint that training goes on from has it; changed in place.
      save_best: saves a checkpoint that stays.
      report: is given each evaluation.
    """

    def __init__(
        self,
        evaluation: Evaluation,
        config: Config,
        progress: Progress,
        save_best: Callable[[], object],
        report: Callable[[Summary], None],
    ) -> None:
        super().__init__()
        self.evaluation, self.settings, self.progress = evaluation, config.validation, progress
        self.save_best, self.report = save_best, report

    def on_train_begin(self, logs: dict[str, float] | None = None) -> None:
        step = self.model.step
        if step % self.settings.every == 0 and self.progress.step < step:
            self._evaluate(step)  # the run was stopped before it could
        self._stop_if_exhausted()

    def on_train_batch_end(self, batch: int, logs: dict[str, float] | None = None) -> None:
        step = batch + 1
        if step % self.settings.every == 0 and not self.model.stop_training:
            self._evaluate(step)
            self._stop_if_exhausted()

    def _evaluate(self, step: int) -> None:
        summary = evaluate(
            self.evaluation, self.model, stopped=lambda: bool(self.model.stop_training)
        )
        if summary is None:
            return
        progress, score = self.progress, summary.means.get(SCORE, -math.inf)
        progress.step = step
        better = score > progress.best
        if better:
            progress.best, progress.best_step, progress.since_best = score, step, 0
        else:
            progress.since_best += 1
        self.report(summary)
        _LOG.info(summary_line(summary, progress))
        if better:
            self.save_best()

    def _stop_if_exhausted(self) -> None:
        if self.settings.patience and self.progress.since_best >= self.settings.patience:
            _LOG.info(
                "stopping early: lDDT-Cα has not risen in %d evaluations since step %d",
                self.progress.since_best,
                self.progress.best_step,
            )
            self.model.stop_training = True


class Reporter:
    """Writes each evaluation: tables, structures, ``metrics.jsonl`` and TensorBoard."""

    def __init__(
        self, run: RunFolder, best_effort: BestEffort, monitor: Monitor | None = None
    ) -> None:
        self.run, self.best_effort, self.monitor = run, best_effort, monitor

    def __call__(self, summary: Summary) -> str:
        """Returns the evaluation's folder, as a user finds it."""
        name = f"step-{summary.step:08d}"
        folder = self.run.here / FOLDER / name
        self.best_effort("validation cannot be written", lambda: write_tables(folder, summary))
        drawn = [result for result in summary.chains if result.drawing is not None]
        for result in drawn:
            self.best_effort(
                "a structure cannot be written",
                lambda result=result: gallery.write_structures(folder, summary.step, result),
            )
        if self.monitor is not None:
            scalars = {metric_name(name): value for name, value in summary.means.items()}
            scalars |= convergence(summary.chains)
            scalars |= {
                f"{PREFIX}_interfaces/{k}": x for k, x in calibration(summary.chains).items()
            }
            scalars["perf/validation_seconds"] = summary.seconds
            self.monitor.record(summary.step, scalars)
            _show(self.monitor.board, summary, drawn)
        return paths.join(self.run.place, FOLDER, name)


def _show(board: Board, summary: Summary, drawn: list[ChainResult]) -> None:
    step, chains = summary.step, summary.chains
    plddt = [value for chain in chains for value in chain.plddt]
    if plddt:
        board.histogram(step, f"{PREFIX}_residues/plddt", np.array(plddt))
    last = [chain.changes[-1] for chain in chains if chain.changes]
    if last:
        board.histogram(step, f"{PREFIX}_recycling/last_change", np.array(last))
    scores = [one["dockq"] for chain in chains for one in chain.interfaces]
    if scores:
        board.histogram(step, f"{PREFIX}_interfaces/dockq", np.array(scores))
    for result in drawn:
        gallery.show_chain(board, step, result)
    board.flush()


def metric_name(name: str) -> str:
    """The scalar's name in the logs: losses stand in a group of their own."""
    return f"{PREFIX}_{name}" if name.startswith("loss/") else f"{PREFIX}/{name}"


def convergence(chains: list[ChainResult]) -> dict[str, float]:
    """By how much (Å, mean over chains) each recycling pass still changed the structures."""
    passes = max((len(chain.changes) for chain in chains), default=0)
    return {
        f"{PREFIX}_recycling/change_{index + 1}": float(
            np.mean([chain.changes[index] for chain in chains if len(chain.changes) > index])
        )
        for index in range(passes)
    }


def calibration(chains: list[ChainResult]) -> dict[str, float]:
    """How ipTM follows what it foretells, over the interfaces of all complexes together.

    ``iptm_error``, the mean absolute difference from the interface TM-score, and Pearson's
    correlation of ipTM with it, ``iptm_correlation``, and with DockQ, ``iptm_dockq_correlation``,
    unless one of them is constant.
    """
    said = [one for chain in chains for one in chain.interfaces if "iptm_error" in one]
    if not said:
        return {}
    columns = ("predicted_iptm", "interface_tm", "dockq", "iptm_error")
    iptm, tm, dockq, error = (np.array([one[name] for one in said]) for name in columns)
    found = {"iptm_error": float(error.mean())}
    for name, values in (("iptm_correlation", tm), ("iptm_dockq_correlation", dockq)):
        if iptm.std() > 0.0 and values.std() > 0.0:
            found[name] = float(np.corrcoef(iptm, values)[0, 1])
    return found


def _interface_table(chains: list[ChainResult]) -> str:
    """A row for each interface of the complexes."""
    rows = [(chain.chain_id, one) for chain in chains for one in chain.interfaces]
    names = sorted({name for _, one in rows for name in one} - {"chains"})
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["complex", "first", "second", *names])
    for chain_id, one in rows:
        values = (one.get(name, math.nan) for name in names)
        shown = (repr(x) if math.isfinite(x) else "" for x in values)
        writer.writerow([chain_id, *one["chains"], *shown])
    return text.getvalue()


def write_tables(folder: Path, summary: Summary) -> None:
    """``chains.csv``, a row for each chain, and ``validation.json``, which has the means too.

    Where there are complexes ``interfaces.csv`` has a row for every two chains that touch.
    """
    folder.mkdir(parents=True, exist_ok=True)
    names = sorted(summary.counts)
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["chain", "residues", *names])
    for chain in summary.chains:
        values = (chain.numbers.get(name, math.nan) for name in names)
        shown = (repr(x) if math.isfinite(x) else "" for x in values)
        writer.writerow([chain.chain_id, chain.num_res, *shown])
    chains = [
        {"chain": c.chain_id, "residues": c.num_res, "recycling_changes": c.changes}
        | {name: x if math.isfinite(x) else None for name, x in c.numbers.items()}
        | ({"interfaces": [_finite(one) for one in c.interfaces]} if c.interfaces else {})
        for c in summary.chains
    ]
    record = {
        "step": summary.step,
        "seconds": round(summary.seconds, 3),
        "mean": dict(sorted(summary.means.items())),
        "count": dict(sorted(summary.counts.items())),
        "chains": chains,
    }
    found = calibration(summary.chains)
    if found:
        record["interfaces"] = found
    files = {TABLE: text.getvalue(), RECORD: json.dumps(record, indent=1) + "\n"}
    if any(chain.interfaces for chain in summary.chains):
        files[INTERFACES] = _interface_table(summary.chains)
    for name, body in files.items():
        write_whole(folder / name, body)


def _finite(scores: dict) -> dict:
    """The scores of an interface; what is not finite is null."""
    return {
        name: None if isinstance(x, float) and not math.isfinite(x) else x
        for name, x in scores.items()
    }


_SHOWN = {
    "lddt_ca": "lDDT-Cα {:.3f}",
    "tm_score": "TM {:.3f}",
    "gdt_ts": "GDT-TS {:.3f}",
    "rmsd_ca": "RMSD {:.1f} Å",
    "plddt": "pLDDT {:.0f}",
    "dockq": "DockQ {:.2f}",
    "predicted_iptm": "ipTM {:.2f}",
}


def summary_line(summary: Summary, progress: Progress | None = None) -> str:
    """An evaluation in a line."""
    parts = [f"validation at step {summary.step}: {len(summary.chains)} chains"]
    parts += [shape.format(summary.means[k]) for k, shape in _SHOWN.items() if k in summary.means]
    parts.append(f"{summary.seconds:.1f} s")
    if progress is not None and progress.best_step == summary.step:
        parts.append("the best so far")
    return "  ".join(parts)


def table_lines(summary: Summary) -> list[str]:
    """Every mean, one in a line, for people."""
    width = max(map(len, summary.means), default=0)
    total = len(summary.chains)
    lines = []
    for name, value in summary.means.items():
        count = summary.counts[name]
        partly = "" if count == total else f"  (of {count} chains)"
        lines.append(f"{name:<{width}}  {value:10.4f}{partly}")
    return lines
