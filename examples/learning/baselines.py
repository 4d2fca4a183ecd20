"""Predictions without a network, for the same chains: what a trained one has to be better than.

`Separations`: one constant for each separation along the chain, from the training set.
`covariation`: contacts from the alignment alone.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from records.chemistry import ATOM_ORDER
from tffold import geometry, metrics
from tffold.metrics.contacts import CONTACT_DISTANCE

Raw = Mapping[str, Any]
MAX_SEPARATION = 256
_GAP = 20  # X and gaps are one letter
_NUM_LETTERS = 21
_SAME = 0.8  # share of equal letters from which two rows count as one
_SHRINKAGE = 4.5
_DRAWS = 20  # of the order in which pairs of equal score come
_ROUNDS = 200  # of the embedding


def labels(raw: Raw) -> dict[str, np.ndarray]:
    """True Cα and Cβ (Cα of glycines) [i, 3] Å, which are known [i], and residue numbers [i]."""
    positions, mask = raw["all_atom_positions"], np.asarray(raw["all_atom_mask"], np.float32)
    beta, beta_mask = geometry.pseudo_beta(np.asarray(raw["aatype"], np.int32), positions, mask)
    ca = ATOM_ORDER["CA"]
    return {
        "ca": np.asarray(positions[:, ca], float),
        "ca_mask": mask[:, ca],
        "beta": np.asarray(beta, float),
        "beta_mask": np.asarray(beta_mask),
        "residue_index": np.asarray(raw["residue_index"]),
    }


def _distances(points: np.ndarray) -> np.ndarray:
    return np.linalg.norm(points[:, None] - points[None], axis=-1)


@dataclass
class Separations:
    """By separation along the chain [s]: mean Cα distance (Å), and the share of contacts."""

    distance: np.ndarray
    contact: np.ndarray

    @classmethod
    def of(cls, chains: Iterable[Raw]) -> Separations:
        """Means over all pairs of all chains; beyond what occurs, as at the largest that does."""
        sums = np.zeros((4, MAX_SEPARATION))
        for raw in chains:
            true = labels(raw)
            index = true["residue_index"]
            apart = np.minimum(np.abs(index[:, None] - index[None]), MAX_SEPARATION - 1)
            near = _distances(true["beta"]) < CONTACT_DISTANCE
            for row, (mask, values) in enumerate(
                ((true["ca_mask"], _distances(true["ca"])), (true["beta_mask"], near))
            ):
                both = (mask[:, None] * mask[None]) > 0
                np.add.at(sums[2 * row], apart[both], values[both])
                np.add.at(sums[2 * row + 1], apart[both], 1.0)
        means = []
        for total, count in (sums[:2], sums[2:]):
            seen = np.flatnonzero(count)
            at = np.interp(np.arange(MAX_SEPARATION), seen, total[seen] / count[seen])
            means.append(at)
        return cls(*means)

    def scores(self, raw: Raw) -> dict[str, float]:
        """Contact precision, lDDT-Cα, and GDT-TS and TM-score of the better of two hands.

        Pairs as far apart have the same score: precisions are means over random orders of them.
        The structure is the one in space whose distances fit these means best.
        """
        true = labels(raw)
        index = true["residue_index"]
        apart = np.minimum(np.abs(index[:, None] - index[None]), MAX_SEPARATION - 1)
        rng = np.random.default_rng(0)
        drawn = [
            precisions(self.contact[apart] + 1e-9 * rng.random(apart.shape), true)
            for _ in range(_DRAWS)
        ]
        result = {name: float(np.mean([one[name] for one in drawn])) for name in drawn[0]}
        placed = embed(self.distance[apart])
        result["lddt_ca"] = float(geometry.lddt(placed, true["ca"], true["ca_mask"]))
        hands = [
            metrics.superposition_scores(hand, true["ca"], true["ca_mask"])
            for hand in (placed, placed * [1.0, 1.0, -1.0])
        ]
        best = max(hands, key=lambda scores: scores["tm_score"])
        return result | {name: best[name] for name in ("tm_score", "gdt_ts")}


def precisions(score: np.ndarray, true: Mapping[str, np.ndarray]) -> dict[str, float]:
    """Precision of the likeliest contacts, of a score [i, j] that grows with their likelihood."""
    return metrics.contact_precisions(score, true["beta"], true["beta_mask"], true["residue_index"])


def embed(distances: np.ndarray) -> np.ndarray:
    """Points [i, 3] whose distances come near to ``distances`` [i, j], near ones above all.

    Classical scaling, then majorisation of the stress with weights 1 / d² (de Leeuw 1977).
    """
    num = len(distances)
    centre = np.eye(num) - 1.0 / num
    values, vectors = np.linalg.eigh(-0.5 * centre @ distances**2 @ centre)
    points = vectors[:, -3:] * np.sqrt(np.maximum(values[-3:], 0.0))
    weight = 1.0 / np.maximum(distances, 1.0) ** 2
    np.fill_diagonal(weight, 0.0)
    inverse = np.linalg.pinv(np.diag(weight.sum(1)) - weight)
    for _ in range(_ROUNDS):
        ratio = weight * distances / np.maximum(_distances(points), 1e-6)
        points = inverse @ (np.diag(ratio.sum(1)) - ratio) @ points
    return points


def row_weights(msa: np.ndarray) -> np.ndarray:
    """Of each row [n] of letters [n, i]: one over the number of rows that are 80 % alike."""
    alike = np.array([(msa == row).mean(axis=1) >= _SAME for row in msa])
    return 1.0 / alike.sum(axis=1)


def covariation(msa: np.ndarray) -> np.ndarray:
    """A score [i, j] of contact: coupling of columns in the weighted alignment [n, i].

    The inverse of the letters' covariance [i 21, j 21], shrunk by 4.5 / √(sum of weights) on its
    diagonal (Dauparas et al. 2019, arXiv:1906.02598); of each pair of columns the Frobenius norm
    over the 20 residues, without the gap; less the average product of its row and column (APC,
    Dunn et al. 2008).  ``msa`` in any order of the 20 residues, with X = 20 and gap = 21.
    """
    letters = np.minimum(np.asarray(msa), _GAP)
    weight = row_weights(letters)
    total, num = weight.sum(), letters.shape[1]
    # [n, i, a] -> [n, i a]
    hot = (letters[..., None] == np.arange(_NUM_LETTERS)).reshape(len(letters), -1).astype(float)
    hot -= weight @ hot / total
    covariance = (hot * weight[:, None]).T @ hot / total
    covariance[np.diag_indices(len(covariance))] += _SHRINKAGE / np.sqrt(total)
    # [i a, j b] -> [i, a, j, b]
    inverse = np.linalg.inv(covariance).reshape(num, _NUM_LETTERS, num, _NUM_LETTERS)
    strength = np.sqrt((inverse[:, :_GAP, :, :_GAP] ** 2).sum(axis=(1, 3)))
    np.fill_diagonal(strength, 0.0)
    mean = strength.sum(0) / max(num - 1, 1)
    corrected = strength - mean[:, None] * mean[None] / max(mean.mean(), 1e-9)
    np.fill_diagonal(corrected, 0.0)
    return corrected


def covariation_scores(raw: Raw) -> dict[str, float]:
    """Contact precision of ``covariation`` on a chain's whole alignment."""
    return precisions(covariation(raw["msa"]), labels(raw))
