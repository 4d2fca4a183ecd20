"""TM-score and GDT: searches for the superposition that suits each best, in NumPy."""

from __future__ import annotations

import numpy as np

GDT_TS_CUTOFFS = (1.0, 2.0, 4.0, 8.0)  # Å
GDT_HA_CUTOFFS = (0.5, 1.0, 2.0, 4.0)


def tm_d0(length: int) -> float:
    """The TM-score's distance scale in Å for a chain of `length` residues."""
    return max(1.24 * np.cbrt(length - 15.0) - 1.8, 0.5)


def superposing_motion(
    mobile: np.ndarray, target: np.ndarray, weight: np.ndarray | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Rotations [..., 3, 3] and translations [..., 3] that move `mobile` closest to `target`.

    By Kabsch's method: points [i, 3] go to R x + t. `weight`: [..., i]; None = all alike.
    """
    weight = np.ones(len(mobile)) if weight is None else weight
    share = weight / weight.sum(axis=-1, keepdims=True)
    from_middle, to_middle = share @ mobile, share @ target
    from_centre = mobile - from_middle[..., None, :]  # [..., i, 3]
    to_centre = target - to_middle[..., None, :]
    covariance = np.swapaxes(from_centre * share[..., None], -1, -2) @ to_centre
    u, _, vt = np.linalg.svd(covariance)
    handed = np.sign(np.linalg.det(u) * np.linalg.det(vt))
    u[..., -1] *= np.where(handed == 0.0, 1.0, handed)[..., None]
    rot = np.swapaxes(u @ vt, -1, -2)
    return rot, to_middle - (rot @ from_middle[..., None])[..., 0]


def _superposed_distances(
    predicted: np.ndarray, true: np.ndarray, weight: np.ndarray
) -> np.ndarray:
    """Distances [s, i] after superposing points [i, 3] on weights [s, i], by Kabsch's method."""
    rot, trans = superposing_motion(predicted, true, weight)
    moved = predicted @ np.swapaxes(rot, -1, -2) + trans[:, None]
    return np.linalg.norm(moved - true, axis=-1)


def _seeds(num: int, max_starts: int) -> np.ndarray:
    """Weights [s, i]: the whole chain, and fragments of it, halving down to four residues."""
    rows = []
    length = num
    while True:
        starts = np.arange(num - length + 1)
        if len(starts) > max_starts:
            starts = np.linspace(0, num - length, max_starts).round().astype(int)
        rows += [(np.arange(num) >= s) & (np.arange(num) < s + length) for s in starts]
        if length <= 4:
            return np.array(rows, float)
        length = max(length // 2, 4)


def superposition_scores(
    predicted: np.ndarray,
    true: np.ndarray,
    mask: np.ndarray,
    max_starts: int = 64,
    num_rounds: int = 20,
) -> dict[str, float]:
    """`tm_score`, `gdt_ts` and `gdt_ha`, each at the superposition that suits it best.

    Searched as the TM-score program does (Zhang and Skolnick 2004): superpose on
    fragments of several lengths, then again and again on the residues that came
    near.  Residues correspond by position; the scores are shares of those whose
    truth is known, of which there must be at least one.

    Args:
        predicted, true: [i, 3] Å; mask: [i];
        max_starts: fragments tried of each length; num_rounds: refinements at most.
    """
    known = np.asarray(mask) > 0
    num = int(known.sum())
    if num == 0:
        raise ValueError("no residue's true position is known: there is nothing to score")
    predicted, true = (np.asarray(x, float)[known] for x in (predicted, true))
    d0 = tm_d0(num)
    reach = float(np.clip(d0, 4.5, 8.0))
    cutoffs = sorted({*GDT_TS_CUTOFFS, *GDT_HA_CUTOFFS})
    best_tm, best_within = 0.0, dict.fromkeys(cutoffs, 0.0)
    weight = _seeds(num, max_starts)
    for round_number in range(num_rounds + 1):
        distance = _superposed_distances(predicted, true, weight)
        best_tm = max(best_tm, (1.0 / (1.0 + (distance / d0) ** 2)).mean(axis=-1).max())
        for cutoff in cutoffs:
            within = (distance <= cutoff).mean(axis=-1).max()
            best_within[cutoff] = max(best_within[cutoff], within)
        # Near residues, but never fewer than the three nearest.
        limit = reach - 1.0 if round_number == 0 else reach + 1.0
        third = np.sort(distance, axis=-1)[:, min(2, num - 1), None]
        near = (distance <= np.maximum(limit, third)).astype(float)
        moving = (near != weight).any(axis=-1)
        weight = np.unique(near[moving], axis=0)
        if len(weight) == 0:
            break
    return {
        "tm_score": float(best_tm),
        "gdt_ts": float(np.mean([best_within[cutoff] for cutoff in GDT_TS_CUTOFFS])),
        "gdt_ha": float(np.mean([best_within[cutoff] for cutoff in GDT_HA_CUTOFFS])),
    }
