"""Pictures of alignments, structures and confidence: each function returns a Matplotlib figure.

Figures are made without pyplot: nothing global, nothing to close, no display. Residues count
from 0, lengths are in Å, pLDDT and lDDT along the chain in 0..100.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.cm import ScalarMappable
from matplotlib.colors import ListedColormap, Normalize, to_rgb
from matplotlib.figure import Figure

from records import chemistry

GAP = 21  # in the alignment's order: 20 residue types, X, gap, mask
MASK = 22
CONTACT_DISTANCE = 8.0  # Å
# The bands in which AlphaFold's confidence is commonly shown: lower bound, colour, meaning.
PLDDT_BANDS = (
    (0.0, "#ff7d45", "very low"),
    (50.0, "#ffdb13", "low"),
    (70.0, "#65cbf3", "confident"),
    (90.0, "#0053d6", "very high"),
)
MAX_ROWS = 256  # of an alignment that are drawn
_DPI = 100


def new_figure(
    width: float, height: float, columns: int = 1, title: str = ""
) -> tuple[Figure, list[Axes]]:
    """A figure of so many inches with a row of axes; ready to be drawn without a display."""
    figure = Figure(figsize=(width, height), dpi=_DPI, layout="constrained")
    FigureCanvasAgg(figure)
    axes = list(figure.subplots(1, columns, squeeze=False)[0])
    if title:
        figure.suptitle(title)
    return figure, axes


def to_array(figure: Figure) -> np.ndarray:
    """The drawn figure as uint8 [height, width, 3]."""
    canvas = figure.canvas
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())[..., :3].copy()


def to_png(figure: Figure) -> bytes:
    """The drawn figure as the bytes of a PNG file."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png")
    return buffer.getvalue()


def save_png(figure: Figure, path: str | Path) -> None:
    """Writes the drawn figure to a PNG file."""
    Path(path).write_bytes(to_png(figure))


# --- alignments ---------------------------------------------------------------


def draw_borders(axes: Axes, boundaries: Sequence[int], *, down: bool = True) -> None:
    """Lines before these residues, where chains begin: across the picture and, if wanted, down."""
    for boundary in boundaries:
        axes.axvline(boundary - 0.5, color="black", linewidth=0.8)
        if down:
            axes.axhline(boundary - 0.5, color="black", linewidth=0.8)


def msa_coverage(
    msa: np.ndarray,
    query: np.ndarray | None = None,
    boundaries: Sequence[int] = (),
    title: str = "",
) -> Figure:
    """How many rows of an alignment cover each residue, and how like the query they are.

    Args:
      msa: [N, L] in the batch's order (20 residue types, X = 20, gap = 21), query first;
      query: [L] in the same order; default: the first row;
      boundaries: residues before which a line is drawn.
    """
    msa = np.asarray(msa)
    query = msa[0] if query is None else np.asarray(query)
    covered = msa < GAP
    same = (msa == query) & covered
    identity = same.sum(1) / np.maximum(covered.sum(1), 1)
    order = np.argsort(-identity, kind="stable")
    order = order[:: -(-len(order) // 2048)]  # more rows than this cannot be told apart
    shades = np.where(covered[order], identity[order, None], np.nan)
    figure, (axes,) = new_figure(8, 4, title=title or "MSA coverage")
    image = axes.imshow(
        shades,
        aspect="auto",
        interpolation="nearest",
        cmap="rainbow_r",
        vmin=0.0,
        vmax=1.0,
        extent=(-0.5, msa.shape[1] - 0.5, len(msa), 0),
    )
    figure.colorbar(image, ax=axes, label="sequence identity to query")
    axes.set(xlabel="residue", ylabel="sequences, most similar first")
    draw_borders(axes, boundaries, down=False)
    depth = axes.twinx()
    depth.plot(covered.sum(0), color="black", linewidth=1.0)
    depth.set(ylim=(len(msa), 0), yticks=[])
    return figure


def masked_msa(
    true: np.ndarray,
    masked: np.ndarray,
    predicted: np.ndarray,
    chosen: np.ndarray | None = None,
    title: str = "",
) -> Figure:
    """An alignment, what the network was shown of it, and what it read into the hidden cells.

    Args:
      true, predicted: [S, L] residue types (X = 20, gap = 21, mask = 22);
      masked: [S, L] the same types as shown to the network;
      chosen: [S, L] 1 on cells that the network had to guess; default: where `masked` is a mask.
    """
    true, masked, predicted = (np.asarray(x)[:MAX_ROWS] for x in (true, masked, predicted))
    chosen = (masked == MASK) if chosen is None else np.asarray(chosen)[:MAX_ROWS] > 0
    figure, axes = new_figure(12, 4, columns=3)
    guess = np.where(chosen, predicted, true)
    count = int(chosen.sum())
    right = f"{float((predicted == true)[chosen].mean()):.0%} of {count} right" if count else "none"
    captions = ("alignment", f"as shown, {count} cells chosen", f"guessed: {right}")
    colours = _residue_colours()
    for one, rows, caption in zip(axes, (true, masked, guess), captions, strict=True):
        image = one.imshow(
            rows, aspect="auto", interpolation="nearest", cmap=colours, vmin=-0.5, vmax=22.5
        )
        one.set(xlabel="residue", title=caption)
    wrong = np.argwhere(chosen & (guess != true))
    axes[2].scatter(wrong[:, 1], wrong[:, 0], s=4.0, marker="x", color="red", linewidths=0.5)
    axes[0].set(ylabel="row")
    bar = figure.colorbar(image, ax=axes, ticks=range(23))
    bar.ax.set_yticklabels([*chemistry.RESTYPES_WITH_X, "–", "mask"], fontsize=6)
    if title:
        figure.suptitle(title)
    return figure


def _residue_colours() -> ListedColormap:
    """23 colours: residues by hue in groups of like chemistry, X grey, gap white, mask black."""
    from matplotlib import colormaps

    groups = ("AVLIMC", "FWYH", "STNQ", "KR", "DE", "GP")
    wheel = colormaps["hsv"]
    colours: dict[str, tuple] = {}
    for number, letters in enumerate(groups):
        for index, letter in enumerate(letters):
            red, green, blue, _ = wheel((number + 0.6 * index / len(letters)) / len(groups))
            colours[letter] = (0.85 * red, 0.85 * green, 0.85 * blue)
    return ListedColormap([*(colours[x] for x in chemistry.RESTYPES), "0.6", "white", "black"])


# --- confidence ---------------------------------------------------------------


def plddt_along_chain(
    plddt: np.ndarray,
    true_lddt: np.ndarray | None = None,
    mask: np.ndarray | None = None,
    boundaries: Sequence[int] = (),
    title: str = "",
) -> Figure:
    """pLDDT [L] (0..100) along the chain over the usual bands, and true lDDT-Cα if it is known.

    `true_lddt` is in 0..100 too; `mask` [L] is 1 where it is known; `boundaries`: residues
    before which a line is drawn.
    """
    plddt = np.asarray(plddt, float)
    figure, (axes,) = new_figure(8, 3, title=title or "pLDDT")
    bounds = [*(low for low, _, _ in PLDDT_BANDS), 100.0]
    for (low, colour, name), high in zip(PLDDT_BANDS, bounds[1:], strict=True):
        axes.axhspan(low, high, color=colour, alpha=0.25, linewidth=0.0, label=name)
    axes.plot(plddt, color="black", linewidth=1.2, label=f"pLDDT (mean {plddt.mean():.1f})")
    if true_lddt is not None:
        known = np.ones(len(plddt), bool) if mask is None else np.asarray(mask) > 0
        true = np.where(known, np.asarray(true_lddt, float), np.nan)
        mean = true[known].mean() if known.any() else np.nan
        axes.plot(true, color="crimson", linewidth=1.2, label=f"true lDDT-Cα (mean {mean:.1f})")
    draw_borders(axes, boundaries, down=False)
    axes.set(xlabel="residue", ylabel="0 to 100", xlim=(-0.5, len(plddt) - 0.5), ylim=(0, 100))
    axes.legend(fontsize=7, loc="center left", bbox_to_anchor=(1.0, 0.5))
    return figure


def predicted_aligned_error(
    pae: np.ndarray, max_error: float = 31.75, boundaries: Sequence[int] = (), title: str = ""
) -> Figure:
    """Expected error [L, L] (Å) of residue j (across) when residue i (down) is in place.

    `boundaries`: residues before which a line is drawn.
    """
    figure, (axes,) = new_figure(5, 4.2, title=title or "Predicted aligned error")
    image = axes.imshow(np.asarray(pae), cmap="Greens_r", vmin=0.0, vmax=max_error)
    figure.colorbar(image, ax=axes, label="expected position error, Å")
    draw_borders(axes, boundaries)
    axes.set(xlabel="scored residue", ylabel="aligned residue")
    return figure


# --- distances ----------------------------------------------------------------


def distance_maps(
    true: np.ndarray,
    predicted: np.ndarray,
    mask: np.ndarray | None = None,
    boundaries: Sequence[int] = (),
    max_distance: float = 40.0,
    title: str = "",
) -> Figure:
    """True and predicted Cα distances [L, L] (Å) and their difference, side by side.

    `mask` [L] is 1 where the truth is known; `boundaries`: residues before which lines are drawn.
    """
    true, predicted = np.array(true, float), np.asarray(predicted, float)
    if mask is not None:
        known = np.asarray(mask) > 0
        true[~(known[:, None] & known[None, :])] = np.nan
    figure, axes = new_figure(12.5, 4, columns=3)
    for one, map_, caption in zip(axes, (true, predicted), ("true", "predicted"), strict=False):
        image = one.imshow(map_, cmap="viridis_r", vmin=0.0, vmax=max_distance)
        one.set(title=f"{caption} Cα distances", xlabel="residue")
        figure.colorbar(image, ax=one, label="Å", shrink=0.8)
    image = axes[2].imshow(predicted - true, cmap="RdBu_r", vmin=-10.0, vmax=10.0)
    axes[2].set(title="predicted − true", xlabel="residue")
    figure.colorbar(image, ax=axes[2], label="Å", shrink=0.8)
    axes[0].set(ylabel="residue")
    for one in axes:
        draw_borders(one, boundaries)
    if title:
        figure.suptitle(title)
    return figure


def distogram_expectation(
    expected: np.ndarray,
    true: np.ndarray | None = None,
    boundaries: Sequence[int] = (),
    max_distance: float = 22.0,
    title: str = "",
) -> Figure:
    """The distogram's expected Cβ distances [L, L] (Å, capped by its last bin), and the true ones.

    With `true` the lower triangle holds the truth (NaN where unknown). `boundaries`: residues
    before which lines are drawn.
    """
    expected = np.asarray(expected, float)
    figure, (axes,) = new_figure(5, 4.2, title=title or "Distogram expectation")
    shown, label = expected, "expected Cβ distance, Å"
    if true is not None:
        shown = np.where(np.tri(len(expected), k=-1, dtype=bool), np.asarray(true), expected)
        label = "Cβ distance, Å: expected above, true below"
    image = axes.imshow(shown, cmap="viridis_r", vmin=0.0, vmax=max_distance)
    figure.colorbar(image, ax=axes, label=label)
    draw_borders(axes, boundaries)
    axes.set(xlabel="residue", ylabel="residue")
    return figure


def contact_map(
    probability: np.ndarray,
    true: np.ndarray | None = None,
    boundaries: Sequence[int] = (),
    title: str = "",
) -> Figure:
    """Probability [L, L] of a contact (Cβ within 8 Å) above, true contacts [L, L] below.

    `boundaries`: residues before which lines are drawn.
    """
    probability = np.asarray(probability, float)
    figure, (axes,) = new_figure(5, 4.2, title=title or "Contacts")
    shown, label = probability, "probability of contact"
    if true is not None:
        below = np.tri(len(probability), k=-1, dtype=bool)
        shown = np.where(below, np.asarray(true, float), probability)
        label = "contact: probability above, truth below"
    image = axes.imshow(shown, cmap="Blues", vmin=0.0, vmax=1.0)
    figure.colorbar(image, ax=axes, label=label)
    draw_borders(axes, boundaries)
    axes.set(xlabel="residue", ylabel="residue")
    return figure


# --- structures ---------------------------------------------------------------


def backbone_3d(
    predicted: np.ndarray,
    true: np.ndarray | None = None,
    values: np.ndarray | None = None,
    label: str = "error, Å",
    value_range: tuple[float, float] = (0.0, 8.0),
    chain: np.ndarray | None = None,
    title: str = "",
) -> Figure:
    """Cα traces [L, 3] (Å) in space, already superposed: predicted by colour, true in grey.

    Of several chains each has a colour of its own, in truth its pale shade.

    Args:
      true: [L, 3], NaN where unknown;
      values: [L] what colours the prediction; default: its distance to `true`, else the position
        along the chain;
      chain: [L] numbers of the chains; None = one.
    """
    from mpl_toolkits.mplot3d.art3d import Line3DCollection

    predicted = np.asarray(predicted, float)
    chain = np.ones(len(predicted), int) if chain is None else np.asarray(chain)
    several = len(np.unique(chain)) > 1
    if values is None and true is not None:
        values = np.linalg.norm(predicted - np.asarray(true), axis=-1)
    elif values is None:
        values, label, value_range = np.arange(len(predicted)), "residue", (0, len(predicted))
    figure = Figure(figsize=(6, 5), dpi=_DPI)
    FigureCanvasAgg(figure)
    axes = figure.add_subplot(projection="3d")
    scale = Normalize(*value_range)
    colours = ScalarMappable(scale, "turbo")
    between = 0.5 * (values[1:] + values[:-1])
    shades = colours.to_rgba(np.where(np.isfinite(between), between, value_range[1]))
    if several:
        shades[:, :3] = chain_colours(chain)[1:]
    joined = chain[1:] == chain[:-1]
    segments = np.stack([predicted[:-1], predicted[1:]], axis=1)[joined]
    axes.add_collection3d(Line3DCollection(segments, colors=shades[joined], linewidths=2.5))
    points = predicted
    if true is not None:
        true = np.asarray(true, float)
        for number in np.unique(chain):
            rows = chain == number
            pale = tuple(0.5 + 0.5 * chain_colours(chain)[rows][0])
            axes.plot(*true[rows].T, color=pale if several else "0.35", linewidth=1.2)
        points = np.concatenate([predicted, true[np.isfinite(true).all(-1)]])
    low, high = points.min(0), points.max(0)
    middle, reach = (low + high) / 2, max(float((high - low).max()) / 2, 1.0)
    for name, centre in zip("xyz", middle, strict=True):
        getattr(axes, f"set_{name}lim")(centre - reach, centre + reach)
    axes.set_box_aspect((1, 1, 1))
    axes.set(xlabel="x, Å", ylabel="y, Å", zlabel="z, Å")
    axes.set_title(title or ("predicted (coloured) and true (grey)" if true is not None else ""))
    if several:
        axes.set_title(title or "chains by colour, true ones pale")
    else:
        figure.colorbar(colours, ax=axes, label=label, shrink=0.7, pad=0.12)
    return figure


def chain_colours(chain: np.ndarray) -> np.ndarray:
    """Colours [L, 3] in 0..1 by which chains [L] are told apart; after ten they come again."""
    numbers = np.searchsorted(np.unique(chain), chain)
    return np.array([to_rgb(f"C{number % 10}") for number in numbers])
