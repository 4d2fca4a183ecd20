"""Pictures of runs and of what came of them.

    python -m examples.learning.report learning_output/run --evaluation evaluation.json --output out
    python -m examples.learning.report 100=run_100 1000=run_1000 all=run --output growth

One run: its curves.  Several: how they compare.  With an evaluation: calibration, controls,
and the gallery.  A run is a folder or a ``metrics.jsonl``.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from mpl_toolkits.mplot3d.art3d import Poly3DCollection

from records.errors import InputError
from tffold.pictures import plots, tubes

METRICS = "metrics.jsonl"
HELD, TRAINED = "validation/", "metric/"
_LIGHT = np.array([0.4, 0.5, 0.77])
Series = Mapping[str, np.ndarray]


def read_metrics(path: Path) -> dict[str, np.ndarray]:
    """Every scalar of a run as [n, 2]: samples seen, value.  Raises InputError.

    A step that is there twice, because a run went back to its last checkpoint, counts as it was
    the last time.
    """
    file = path / METRICS if path.is_dir() else path
    rows: dict[str, dict[int, tuple[float, float]]] = {}
    samples: dict[int, float] = {}
    try:
        lines = file.read_text().splitlines()
    except OSError as error:
        raise InputError("cannot be read", file=file, mend="name a run folder") from error
    for number, line in enumerate(lines, 1):
        try:
            row = json.loads(line)
            step = int(row["step"])
        except (ValueError, KeyError, TypeError):
            if number == len(lines):
                continue  # it is being written
            raise InputError(
                "not a line of metrics", file=file, item=f"line {number}", mend="delete the line"
            ) from None
        if "samples" in row:
            samples[step] = float(row["samples"])
        for name, value in row.items():
            if isinstance(value, (int, float)):
                rows.setdefault(name, {})[step] = (step, float(value))
    if not samples:
        raise InputError("holds no step", file=file, mend="train first")
    # Validation says its step alone: a batch has always as many samples.
    batch = max(samples.values()) / max(samples)
    return {
        name: np.array([[step * batch, value] for step, (_, value) in sorted(of_step.items())])
        for name, of_step in rows.items()
    }


def smooth(values: np.ndarray, width: int) -> np.ndarray:
    """Mean over ``width`` neighbours, fewer at the ends."""
    ones = np.ones(width)
    return np.convolve(values, ones, "same") / np.convolve(np.ones(len(values)), ones, "same")


def _line(axes: Axes, series: Series, name: str, label: str, **style: Any) -> None:
    if name in series:
        at, values = series[name].T
        axes.plot(at / 1000, values, label=label, **style)


def curves(series: Series, title: str = "") -> Figure:
    """One run: structure, contacts, confidence and losses, held out and in training."""
    figure, axes = plots.new_figure(15, 3.8, columns=4, title=title)
    if TRAINED + "lddt_ca" in series:
        at, values = series[TRAINED + "lddt_ca"].T
        axes[0].plot(at / 1000, values, color="0.85", linewidth=0.8)
        shown = smooth(values, max(len(values) // 40, 1))
        axes[0].plot(at / 1000, shown, color="0.5", label="lDDT-Cα, training crops")
    for name, label in (("lddt_ca", "lDDT-Cα"), ("gdt_ts", "GDT-TS"), ("tm_score", "TM-score")):
        _line(axes[0], series, HELD + name, f"{label}, held out", marker=".")
    for kind, label, style in (("", "long", "-"), ("medium_", "medium", "--")):
        for top, colour in (("l", "C0"), ("l2", "C1"), ("l5", "C2")):
            name = f"{HELD}{kind}contact_precision_{top}"
            of = {"l": "L", "l2": "L/2", "l5": "L/5"}[top]
            _line(axes[1], series, name, f"{label} range, {of}", color=colour, linestyle=style)
    _line(axes[2], series, HELD + "plddt", "pLDDT, held out", marker=".")
    if HELD + "lddt_ca" in series:
        at, values = series[HELD + "lddt_ca"].T
        axes[2].plot(at / 1000, 100 * values, marker=".", label="100 lDDT-Cα, held out")
    for number, (name, label) in enumerate(
        (("distogram/loss", "distogram"), ("structure_module/backbone_fape", "backbone FAPE"))
    ):
        if "loss/" + name in series:
            at, values = series["loss/" + name].T
            shown = smooth(values, max(len(values) // 40, 1))
            axes[3].plot(at / 1000, shown, color=f"C{number}", label=f"{label}, training")
        held = f"validation_loss/{name}"
        style = {"color": f"C{number}", "linestyle": "--", "marker": "."}
        _line(axes[3], series, held, f"{label}, held out", **style)
    captions = ("structure", "contact precision", "confidence", "losses")
    for one, caption in zip(axes, captions, strict=True):
        one.set(title=caption, xlabel="training samples, thousands")
        one.grid(alpha=0.3)
        if one.lines:
            one.legend(fontsize=7)
    axes[0].set_ylim(0, 1)
    axes[1].set_ylim(0, 1)
    axes[2].set_ylim(0, 100)
    return figure


def comparison(runs: Mapping[str, Series], title: str = "") -> Figure:
    """Several runs: held-out lDDT-Cα and contacts, and how far training is ahead."""
    shown = (
        (HELD + "lddt_ca", "lDDT-Cα, held out"),
        (HELD + "contact_precision_l5", "long-range contacts, L/5, held out"),
        (TRAINED + "lddt_ca", "lDDT-Cα, training crops"),
    )
    figure, axes = plots.new_figure(13, 3.8, columns=3, title=title)
    for one, (name, caption) in zip(axes, shown, strict=True):
        for number, (label, series) in enumerate(runs.items()):
            if name in series:
                at, values = series[name].T
                if name.startswith(TRAINED):
                    values = smooth(values, max(len(values) // 40, 1))
                one.plot(at / 1000, values, label=label, color=f"C{number}", marker=".")
        one.set(title=caption, xlabel="training samples, thousands", ylim=(0, 1))
        one.grid(alpha=0.3)
        if one.lines:
            one.legend(fontsize=8)
    return figure


def calibration(found: Mapping[str, Any]) -> Figure:
    """pLDDT against lDDT-Cα: of residues in bands of ten, and of chains."""
    figure, axes = plots.new_figure(9, 4.2, columns=2, title="What it says and what is so")
    bands = found["calibration"]["bands"]
    said, true = ([band[name] for band in bands] for name in ("plddt", "lddt"))
    size = np.array([band["residues"] for band in bands])
    axes[0].scatter(said, true, s=10 + 250 * size / size.max(), alpha=0.7)
    for x, y, count in zip(said, true, size, strict=True):
        axes[0].annotate(
            f"{count:,}", (x, y), fontsize=7, textcoords="offset points", xytext=(6, -9)
        )
    axes[0].set(title="residues, in bands of ten")
    chains = found["chains"]
    axes[1].scatter(
        [np.mean(chain["plddt"]) for chain in chains],
        [100 * chain["numbers"]["lddt_ca"] for chain in chains],
        s=14,
    )
    r = found["calibration"]["chain_correlation"]
    axes[1].set(title="chains" + ("" if r is None else f", r = {r:.2f}"))
    for one in axes:
        one.plot([0, 100], [0, 100], color="0.6", linewidth=0.8)
        one.set(xlabel="pLDDT", ylabel="lDDT-Cα, 0 to 100", xlim=(0, 100), ylim=(0, 100))
        one.set_aspect("equal")
    return figure


def controls(found: Mapping[str, Any]) -> Figure:
    """Means with standard errors: recycling, altered alignments, baselines."""
    rows = {f"{n} recycling": means for n, means in found["recycles"].items()}
    rows |= {name.replace("_", " "): means for name, means in found["controls"].items()}
    rows |= {f"{name} (baseline)": one["mean"] for name, one in found.get("baselines", {}).items()}
    shown = (
        ("lddt_ca", "lDDT-Cα"),
        ("contact_precision_l5", "long-range contacts, L/5"),
        ("medium_contact_precision_l5", "medium-range contacts, L/5"),
    )
    figure, axes = plots.new_figure(13, 1.2 + 0.3 * len(rows), columns=len(shown))
    for number, (one, (name, caption)) in enumerate(zip(axes, shown, strict=True)):
        places = np.arange(len(rows))[::-1]
        values = [means.get(name, {}).get("mean", np.nan) for means in rows.values()]
        errors = [means.get(name, {}).get("error", 0.0) for means in rows.values()]
        colours = ["C1" if "baseline" in label else "C0" for label in rows]
        one.barh(places, values, xerr=errors, color=colours, alpha=0.8)
        for place, value in zip(places, values, strict=True):
            if np.isfinite(value):
                one.annotate(f" {value:.2f}", (0, place), va="center", fontsize=7)
        one.set(title=caption, yticks=places, xlim=(0, 1))
        one.set_yticklabels(list(rows) if number == 0 else [])
        one.grid(alpha=0.3, axis="x")
    return figure


def gallery(found: Mapping[str, Any]) -> Figure:
    """Best, median and worst chain: predicted tubes by their error, on grey true ones."""
    shown = found["gallery"]
    figure = Figure(figsize=(4.2 * len(shown), 4.6), dpi=110, layout="constrained")
    plots.FigureCanvasAgg(figure)
    for number, one in enumerate(shown, 1):
        axes = figure.add_subplot(1, len(shown), number, projection="3d")
        predicted, true = np.array(one["predicted"]), np.array(one["true"])
        known = np.array(one["known"])
        turn = _widest(true[known > 0])
        mesh = tubes.superposed(predicted @ turn, true @ turn, known)
        _draw_mesh(axes, mesh)
        axes.set_title(
            f"{one['which']}: {one['chain']}, {one['residues']} residues\n"
            f"lDDT-Cα {one['lddt_ca']:.2f}, TM {one['tm_score']:.2f}, "
            f"{one['rmsd_ca']:.1f} Å, {one['rows']} rows",
            fontsize=9,
            y=1.0,
        )
    figure.supxlabel(
        f"held-out chains, predicted (blue: in place, red: {tubes.MAX_ERROR:.0f} Å off) "
        "on true (grey)", fontsize=9,
    )  # fmt: skip
    return figure


def _widest(points: np.ndarray) -> np.ndarray:
    """A rotation [3, 3] that brings a chain's thinnest direction towards the one who looks."""
    axes = np.linalg.svd(points - points.mean(0), full_matrices=False)[2]
    axes[2] *= np.sign(np.linalg.det(axes))
    return axes.T


def _draw_mesh(axes: Axes, mesh: tubes.Mesh) -> None:
    corners = mesh.vertices[mesh.faces]  # [f, 3, xyz]
    normal = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    normal /= np.maximum(np.linalg.norm(normal, axis=-1, keepdims=True), 1e-9)
    shade = 0.55 + 0.45 * np.abs(normal @ _LIGHT)
    colours = np.clip(mesh.colours[mesh.faces[:, 0]] / 255 * shade[:, None], 0, 1)
    axes.add_collection3d(Poly3DCollection(corners, facecolors=colours, edgecolors="none"))
    reach = np.abs(mesh.vertices).max()
    for name in "xyz":
        getattr(axes, f"set_{name}lim")(-reach, reach)
    axes.set_box_aspect((1, 1, 1), zoom=1.5)
    axes.view_init(elev=90, azim=-90)
    axes.set_axis_off()


def _named(words: Sequence[str]) -> dict[str, Path]:
    """'all=run' -> all: run; a run without a label is called after its folder."""
    found: dict[str, Path] = {}
    for word in words:
        label, equals, path = word.partition("=")
        found[label if equals else Path(word).name] = Path(path if equals else word)
    return found


def main(arguments: Sequence[str] | None = None) -> int:
    """Entry point.  0: done; 2: bad input."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    add = parser.add_argument
    add("runs", nargs="*", metavar="[LABEL=]RUN", help="run folders, or their metrics.jsonl")
    add("--evaluation", type=Path, help="what evaluate.py wrote")
    add("--output", type=Path, required=True, help="folder of the pictures")
    options = parser.parse_intermixed_args(arguments)
    try:
        runs = {label: read_metrics(path) for label, path in _named(options.runs).items()}
        drawn = {}
        if len(runs) == 1:
            drawn["curves"] = curves(*runs.values())
        elif runs:
            drawn["comparison"] = comparison(runs)
        if options.evaluation:
            found = _read_evaluation(options.evaluation)
            drawn |= {f.__name__: f(found) for f in (calibration, controls, gallery)}
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    options.output.mkdir(parents=True, exist_ok=True)
    for name, figure in drawn.items():
        plots.save_png(figure, options.output / f"{name}.png")
        print(options.output / f"{name}.png")
    return 0


def _read_evaluation(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise InputError("no evaluation", file=path, mend="run evaluate.py first") from error
    if "gallery" not in found:
        raise InputError("an evaluation without weights", file=path, mend="evaluate a run")
    return found


if __name__ == "__main__":
    sys.exit(main())
