"""What a finished run is remembered by, and told in lines."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from records import paths
from records.paths import Place
from tffold.train.callbacks import PROBE
from tffold.train.loop import SECONDS
from tffold.train.monitor import LDDT, TENSORBOARD_FOLDER
from tffold.train.step import TOTAL
from tffold.train.validation import SCORE
from tffold.weights import checkpoint


def run_summary(run_dir: Place, metrics: Sequence[Mapping], step: int) -> dict[str, object]:
    """First and last are means of a logging window; ``metrics`` as ``read_metrics`` has them."""
    windows = [line for line in metrics if TOTAL in line]
    probes = [line for line in metrics if PROBE + LDDT in line]
    summary: dict[str, object] = {"step": step}
    if windows:
        summary["loss"] = [windows[0][TOTAL], windows[-1][TOTAL]]
        seconds = sorted(line[SECONDS] for line in windows[1:] or windows)
        summary["seconds_per_step"] = seconds[len(seconds) // 2]
    if len(probes) > 1:
        summary["lddt_ca"] = [probes[0][PROBE + LDDT], probes[-1][PROBE + LDDT]]
    folder = paths.join(run_dir, checkpoint.FOLDER)
    steps = checkpoint.steps_in(folder)
    newest = paths.join(folder, checkpoint.folder_name(steps[-1])) if steps else None
    summary["checkpoint"] = newest
    summary["tensorboard"] = paths.join(run_dir, TENSORBOARD_FOLDER)
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
