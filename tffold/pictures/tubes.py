"""Backbones as triangle meshes: a tube along the Cα trace, coloured residue by residue."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from matplotlib import colormaps

from tffold.pictures.plots import chain_colours

_SIDES = 8
_SMOOTH = 4  # rings from one residue to the next
_TRUE_COLOUR = (150, 150, 150)
MAX_ERROR = 8.0  # Å, where the colours end


class Mesh(NamedTuple):
    """``vertices`` [v, 3], ``faces`` [f, 3] (indices of vertices), ``colours`` [v, 3] 0..255."""

    vertices: np.ndarray
    faces: np.ndarray
    colours: np.ndarray


def superposed(
    predicted: np.ndarray, true: np.ndarray, known: np.ndarray, chain: np.ndarray | None = None
) -> Mesh:
    """Predicted Cα [i, 3] coloured by their distance (Å) to the true ones, which are grey.

    Blue is right, red is ``MAX_ERROR`` or more; where the truth is not ``known`` [i] the
    prediction is white and the true tube broken. Of several chains [i] each has a colour of its
    own instead, and truth its pale shade. Both are already superposed; the whole is moved to the
    origin, about which the browser turns it.
    """
    known = np.asarray(known) > 0
    chain = np.ones(len(known), int) if chain is None else np.asarray(chain)
    error = np.linalg.norm(predicted - true, axis=-1)
    colours = np.array(colormaps["turbo"](np.clip(error / MAX_ERROR, 0.0, 1.0)))[:, :3] * 255
    colours[~known] = 255.0
    true_colours = np.tile(np.array(_TRUE_COLOUR, float), (len(true), 1))
    if len(np.unique(chain)) > 1:
        colours = chain_colours(chain) * 255.0
        true_colours = 0.5 * colours + 127.5
    parts = [
        tube(predicted[rows], colours[rows], radius=0.5)
        for rows in _runs(np.ones(len(chain)), chain)
    ]
    parts += [tube(true[rows], true_colours[rows], radius=0.3) for rows in _runs(known, chain)]
    sizes = np.cumsum([0, *(len(part.vertices) for part in parts)])
    vertices = np.concatenate([part.vertices for part in parts])
    return Mesh(
        vertices - (vertices.min(0) + vertices.max(0)) / 2,
        np.concatenate([part.faces + size for part, size in zip(parts, sizes, strict=False)]),
        np.concatenate([part.colours for part in parts]),
    )


def _runs(known: np.ndarray, chain: np.ndarray) -> list[slice]:
    """Stretches of two known residues or more within a chain."""
    edges = np.flatnonzero(np.diff(np.where(known, chain, 0), prepend=0, append=0))
    runs = [slice(a, b) for a, b in zip(edges[:-1], edges[1:], strict=True)]
    return [run for run in runs if known[run.start] and run.stop - run.start > 1]


def tube(points: np.ndarray, colours: np.ndarray, radius: float) -> Mesh:
    """A closed tube of ``radius`` Å through points [i, 3] with colours [i, 3] (0..255)."""
    at = np.linspace(0, len(points) - 1, (len(points) - 1) * _SMOOTH + 1)
    path = _catmull_rom(np.asarray(points, float), at)
    along = np.gradient(path, axis=0)
    along /= np.maximum(np.linalg.norm(along, axis=-1, keepdims=True), 1e-6)
    side = np.empty_like(along)
    # Carried along the path, so that the tube does not twist.
    last = np.eye(3)[np.abs(along[0]).argmin()]
    for i, direction in enumerate(along):
        last = last - direction * (last @ direction)
        last = last / max(float(np.linalg.norm(last)), 1e-6)
        side[i] = last
    other = np.cross(along, side)
    angle = np.linspace(0.0, 2 * np.pi, _SIDES, endpoint=False)
    ring = np.cos(angle)[:, None] * side[:, None] + np.sin(angle)[:, None] * other[:, None]
    # [r, s, 3] -> [r s, 3], and a vertex for each end
    vertices = np.concatenate([(path[:, None] + radius * ring).reshape(-1, 3), path[[0, -1]]])
    shade = colours[at.round().astype(int)]
    shades = np.concatenate([np.repeat(shade, _SIDES, axis=0), shade[[0, -1]]])

    here = np.arange(len(path) - 1)[:, None] * _SIDES
    a, b = here + np.arange(_SIDES), here + (np.arange(_SIDES) + 1) % _SIDES
    walls = [np.stack([a, b, a + _SIDES], -1), np.stack([b, b + _SIDES, a + _SIDES], -1)]
    start, end = len(vertices) - 2, len(vertices) - 1
    first, after = np.arange(_SIDES), (np.arange(_SIDES) + 1) % _SIDES
    final = (len(path) - 1) * _SIDES
    caps = [
        np.stack([np.full(_SIDES, start), after, first], -1),
        np.stack([np.full(_SIDES, end), first + final, after + final], -1),
    ]
    faces = np.concatenate([x.reshape(-1, 3) for x in (*walls, *caps)])
    return Mesh(vertices, faces, shades)


def _catmull_rom(points: np.ndarray, at: np.ndarray) -> np.ndarray:
    """A smooth curve through points [i, 3], at the fractional indices ``at``."""
    padded = np.concatenate([2 * points[:1] - points[1:2], points, 2 * points[-1:] - points[-2:-1]])
    index = np.minimum(at.astype(int), len(points) - 2)
    t = (at - index)[:, None]
    p0, p1, p2, p3 = (padded[index + k] for k in range(4))
    return 0.5 * (
        2 * p1
        + (p2 - p0) * t
        + (2 * p0 - 5 * p1 + 4 * p2 - p3) * t**2
        + (3 * p1 - p0 - 3 * p2 + p3) * t**3
    )
