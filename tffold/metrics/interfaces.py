"""How well the chains of a complex are put together: DockQ, contacts, interface lDDT; in NumPy.

Chains correspond by their numbers: copies of one sequence are matched before
(`tffold.train.permutation`). A residue counts if any atom of it is known in truth, an interface if
truth has a contact in it: heavy atoms of two residues of different chains within 5 Å.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import combinations

import numpy as np

from records import chemistry
from tffold.metrics.superposition import superposing_motion

CONTACT = 5.0  # Å between heavy atoms: native contacts (Basu and Wallner 2016)
INTERFACE = 10.0  # Å: residues that the interface's deviation is of
IRMS_SCALE, LRMS_SCALE = 1.5, 8.5  # Å, at which DockQ's two deviations count a half
LDDT_REACH, LDDT_LIMITS = 15.0, (0.5, 1.0, 2.0, 4.0)  # Å
_BACKBONE = [chemistry.ATOM_ORDER[name] for name in ("N", "CA", "C", "O")]
_CA = chemistry.ATOM_ORDER["CA"]
_BLOCK = 1 << 22  # distances at a time


@dataclass(frozen=True)
class Interface:
    """Two chains that touch in truth, numbered as in `chain`, and their `scores`."""

    first: int
    second: int
    scores: dict[str, float]


def interface_scores(
    predicted: np.ndarray,
    predicted_mask: np.ndarray,
    true: np.ndarray,
    true_mask: np.ndarray,
    chain: np.ndarray,
) -> tuple[dict[str, float], list[Interface]]:
    """Scores of the whole complex, and of each interface that truth has.

    Of an interface: `dockq`, its parts `fnat`, `irms` and `lrms` (Å), see `dockq_parts`; `ics`, the
    F1 of its contacts; `interface_lddt`, the lDDT of its Cα pairs within 15 Å; and `contacts`, how
    many truth has. Of the complex the means of the first four, and `ics` and `interface_lddt` over
    all pairs of chains, so that contacts of chains that do not touch in truth are counted wrong.

    Args:
        predicted, true: [R, 37, 3] Å; predicted_mask, true_mask: [R, 37];
        chain: [R], 0 = padding.

    Returns nothing for a complex without an interface.
    """
    chain = np.where(np.asarray(true_mask).any(-1), chain, 0)
    parts = {number: np.flatnonzero(chain == number) for number in np.unique(chain[chain > 0])}
    predicted, true = (np.asarray(x, float) for x in (predicted, true))
    predicted_mask, true_mask = (np.asarray(x) > 0 for x in (predicted_mask, true_mask))
    found: list[Interface] = []
    counts = np.zeros(3)  # contacts of truth, of the prediction, of both
    kept, pairs = 0.0, 0
    for (first, one), (second, other) in combinations(parts.items(), 2):
        near = residue_distances(true[one], true_mask[one], true[other], true_mask[other])
        close = residue_distances(
            predicted[one], predicted_mask[one], predicted[other], predicted_mask[other]
        )
        native, model = near < CONTACT, close < CONTACT
        count = np.array([native.sum(), model.sum(), (native & model).sum()], float)
        preserved, total = _preserved(predicted, true, true_mask, one, other)
        counts, kept, pairs = counts + count, kept + preserved, pairs + total
        if not count[0]:
            continue
        scores = dockq_parts(predicted, predicted_mask, true, true_mask, (one, other), near)
        scores["fnat"] = float(count[2] / count[0])
        scores["dockq"] = dockq(**scores)
        scores["ics"] = _f1(count)
        if total:
            scores["interface_lddt"] = preserved / total
        scores["contacts"] = float(count[0])
        found.append(Interface(int(first), int(second), scores))
    if not found:
        return {}, []
    whole = {
        name: float(np.mean([one.scores[name] for one in found]))
        for name in ("dockq", "fnat", "irms", "lrms")
    }
    whole["ics"] = _f1(counts)
    if pairs:
        whole["interface_lddt"] = kept / pairs
    return whole, found


def dockq(fnat: float, irms: float, lrms: float) -> float:
    """DockQ in 0..1 (Basu and Wallner 2016, equation 1).

        (fnat + 1 / (1 + (irms / 1.5 Å)²) + 1 / (1 + (lrms / 8.5 Å)²)) / 3

    From 0.23 on acceptable, from 0.49 medium, from 0.8 high quality.
    """
    scaled = [1.0 / (1.0 + (irms / IRMS_SCALE) ** 2), 1.0 / (1.0 + (lrms / LRMS_SCALE) ** 2)]
    return float((fnat + sum(scaled)) / 3.0)


def dockq_parts(
    predicted: np.ndarray,
    predicted_mask: np.ndarray,
    true: np.ndarray,
    true_mask: np.ndarray,
    sides: tuple[np.ndarray, np.ndarray],
    near: np.ndarray,
) -> dict[str, float]:
    """`irms` and `lrms` of an interface, Å, by the backbone atoms N, Cα, C and O.

    `irms`: of the residues within 10 Å of the other chain, superposed. `lrms`: of the ligand, the
    chain with fewer residues, when the other one is superposed.

    DISCREPANCY: of chains of one length the DockQ program takes the first as ligand. Here it is
    the one that lies better, so that the order of the chains does not matter.

    Args:
        sides: residues of the two chains; near: [i, j] Å, their `residue_distances`.
    """
    seen = predicted_mask & true_mask

    def atoms(residues: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        slots = np.ix_(residues, _BACKBONE)
        present = seen[slots]
        return predicted[slots][present], true[slots][present]

    def deviation(placed: np.ndarray, moved: np.ndarray) -> float:
        point, target = atoms(moved)
        if not len(point) or not len(atoms(placed)[0]):
            return np.inf  # truth has no backbone there
        rot, trans = superposing_motion(*atoms(placed))
        return float(np.sqrt(np.square(point @ rot.T + trans - target).sum(-1).mean()))

    one, other = sides
    within = near < INTERFACE
    interface = np.concatenate([one[within.any(1)], other[within.any(0)]])
    ligands = [(other, one), (one, other)]  # what is superposed, the ligand
    if len(one) != len(other):
        ligands = [ligands[int(len(one) > len(other))]]
    return {
        "irms": deviation(interface, interface),
        "lrms": min(deviation(*roles) for roles in ligands),
    }


def residue_distances(
    one: np.ndarray, one_mask: np.ndarray, other: np.ndarray, other_mask: np.ndarray
) -> np.ndarray:
    """The least distance [i, j] in Å of any two atoms of residues i and j; infinite without atoms.

    Args:
        one: [i, 37, 3]; one_mask: [i, 37]; other: [j, 37, 3]; other_mask: [j, 37].
    """
    result = np.full((len(one), len(other)), np.inf)
    columns, column_slots = np.nonzero(other_mask)
    if not len(columns):
        return result
    points = other[columns, column_slots]
    held, starts = np.unique(columns, return_index=True)
    step = max(1, _BLOCK // (len(points) * one.shape[1]))
    for start in range(0, len(one), step):
        rows, row_slots = np.nonzero(one_mask[start : start + step])
        if not len(rows):
            continue
        from_points = one[start + rows, row_slots]
        squares = sum((from_points[:, None, x] - points[None, :, x]) ** 2 for x in range(3))
        by_column = np.minimum.reduceat(squares, starts, axis=1)
        present, row_starts = np.unique(rows, return_index=True)
        least = np.minimum.reduceat(by_column, row_starts, axis=0)
        result[np.ix_(start + present, held)] = np.sqrt(least)
    return result


def _preserved(
    predicted: np.ndarray, true: np.ndarray, mask: np.ndarray, one: np.ndarray, other: np.ndarray
) -> tuple[float, int]:
    """Of the Cα pairs of two chains that are within reach in truth: lDDT's points, and how many."""
    one, other = (residues[mask[residues, _CA]] for residues in (one, other))

    def distances(points: np.ndarray) -> np.ndarray:
        # [i, 1, 3] - [1, j, 3] -> [i, j]
        return np.linalg.norm(points[one, None, _CA] - points[None, other, _CA], axis=-1)

    true_distance = distances(true)
    counted = true_distance < LDDT_REACH
    error = np.abs(distances(predicted) - true_distance)[counted]
    points = sum(float((error < limit).sum()) for limit in LDDT_LIMITS) / len(LDDT_LIMITS)
    return points, int(counted.sum())


def _f1(counts: np.ndarray) -> float:
    native, model, both = counts
    return float(2.0 * both / (native + model))
