"""Predictions to learn from: which chains, and which of their residues (supplement 1.3).

Two judges must agree: the network's pLDDT, and how far its distogram is from what it says
of any two residues so far apart in sequence.  The latter is the paper's confidence, a
Kullback-Leibler divergence from a reference that averages the distograms of many sequences.
"""

from __future__ import annotations

import json
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from records import paths
from records.chains import Assembly
from records.errors import InputError
from records.paths import Place
from tffold.config import Config, DistillConfig
from tffold.predict.models import Prediction
from tffold.predict.targets import Target
from tffold.structures.files import Structure, mmcif_text

FOLDER, STRUCTURES, MANIFEST, REFERENCE = (
    "distillation", "structures", "manifest.jsonl", "reference.npz",
)  # fmt: skip
_PAIRS = "distillation.npz"  # in a target's folder
FEW = 100  # sequences; the paper's reference is the mean of 1000


def band(logits: np.ndarray, sizes: Sequence[int], max_separation: int) -> np.ndarray:
    """Distogram logits [L, L, c] of pairs (i, i + d) within chains of these sizes: [pairs, c].

    By chain, then by d = 1, 2, …, then by i.
    """
    d, i = _separations(sizes, max_separation)
    return logits[i, i + d]


def _separations(sizes: Sequence[int], max_separation: int) -> tuple[np.ndarray, np.ndarray]:
    """d and i [pairs] of the pairs in ``band``'s order."""
    d, i = [np.zeros(0, int)], [np.zeros(0, int)]
    start = 0
    for size in sizes:
        for separation in range(1, min(max_separation, size - 1) + 1):
            d.append(np.full(size - separation, separation))
            i.append(start + np.arange(size - separation))
        start += size
    return np.concatenate(d), np.concatenate(i)


def _probabilities(logits: np.ndarray) -> np.ndarray:
    shifted = np.exp(logits.astype(np.float64) - logits.max(axis=-1, keepdims=True))
    return shifted / shifted.sum(axis=-1, keepdims=True)


@dataclass
class Reference:
    """Mean distribution of the distance of two residues by how far they are apart in sequence.

    ``total`` [max_separation + 1, c] sums of probabilities, ``count`` [max_separation + 1]
    pairs that were summed (row 0 is empty), ``sequences`` whose pairs they are: chains.
    """

    total: np.ndarray
    count: np.ndarray
    sequences: int = 0

    @classmethod
    def empty(cls, max_separation: int, num_bins: int) -> Reference:
        return cls(np.zeros((max_separation + 1, num_bins)), np.zeros(max_separation + 1))

    def add(self, pairs: np.ndarray, sizes: Sequence[int]) -> None:
        """Count in the pairs ``band`` of chains of these sizes."""
        d, _ = _separations(sizes, len(self.count) - 1)
        np.add.at(self.total, d, _probabilities(pairs))
        np.add.at(self.count, d, 1.0)
        self.sequences += len(sizes)

    def divergence(self, pairs: np.ndarray, sizes: Sequence[int]) -> np.ndarray:
        """The paper's confidence c_i [L] of chains of these sizes from their pairs ``band``.

        Mean over the residues j of its chain within ``max_separation`` of i of the divergence
        KL(reference || predicted) in nats; separations that the reference never saw do not
        count, and a residue without any pair has 0.
        """
        d, i = _separations(sizes, len(self.count) - 1)
        known = self.count[d] > 0
        d, i, pairs = d[known], i[known], pairs[known]
        reference = (self.total / np.maximum(self.count, 1.0)[:, None])[d]
        floor = np.finfo(np.float64).tiny
        log_ratio = np.log(np.maximum(reference, floor)) - np.log(
            np.maximum(_probabilities(pairs), floor)
        )
        value = (reference * log_ratio).sum(axis=-1)
        total, count = np.zeros(sum(sizes)), np.zeros(sum(sizes))
        for residue in (i, i + d):
            np.add.at(total, residue, value)
            np.add.at(count, residue, 1.0)
        return total / np.maximum(count, 1.0)

    def save(self, path: Place) -> None:
        with paths.whole_file(path) as file:
            np.savez(file, total=self.total, count=self.count, sequences=self.sequences)

    @classmethod
    def load(cls, path: Place, max_separation: int, num_bins: int) -> Reference:
        """A reference that was saved.  Raises InputError if it is none or of another kind."""
        try:
            with paths.open_reading(path) as data, np.load(data, allow_pickle=False) as file:
                found = cls(file["total"], file["count"], int(file["sequences"]))
        except InputError:
            raise
        except (OSError, ValueError, KeyError, zipfile.BadZipFile) as error:
            raise InputError(
                f"no reference distogram ({error})", file=path, mend="check --reference"
            ) from None
        if found.total.shape != (max_separation + 1, num_bins):
            raise InputError(
                f"is for {found.total.shape[0] - 1} residues and {found.total.shape[1]} bins, "
                f"not {max_separation} and {num_bins}",
                file=path,
                mend="make it again with this model",
            )
        return found


def choose(
    plddt: np.ndarray, divergence: np.ndarray, config: DistillConfig, iptm: float | None = None
) -> tuple[str, np.ndarray]:
    """Why a chain or complex is not to be learned from, or ''; and which residues [L] are.

    ``iptm`` is a complex's.
    """
    mask = (plddt > config.min_residue_plddt) & (divergence >= config.min_residue_divergence)
    if plddt.mean() < config.min_mean_plddt:
        return f"mean pLDDT below {config.min_mean_plddt:g}", mask
    if divergence.mean() < config.min_mean_divergence:
        return f"mean divergence below {config.min_mean_divergence:g}", mask
    if iptm is not None and iptm < config.min_iptm:
        return f"ipTM below {config.min_iptm:g}", mask
    return ("" if mask.any() else "no residue is left"), mask


@dataclass
class Distillation:
    """The distillation set of one output folder.

    ``reference`` is None until the run's own is made at its end; then each target's folder
    keeps what is needed to judge it.
    """

    config: DistillConfig
    num_bins: int
    output: Place
    reference: Reference | None

    @classmethod
    def open(cls, config: Config, output: Place, reference: str = "") -> Distillation:
        """With the given reference, else that of an earlier run here.  Raises InputError."""
        settings, bins = config.predict.distill, config.model.heads.distogram_num_bins
        earlier = paths.join(output, FOLDER, REFERENCE)
        found = None
        if reference or paths.exists(earlier):
            found = Reference.load(reference or earlier, settings.max_separation, bins)
        return cls(settings, bins, output, found)

    def write(
        self, folder: Path, target: Target, raw: Assembly, ranked: Sequence[Prediction]
    ) -> None:
        """Keep what is needed of a target's best prediction.

        Raises:
          InputError: a complex without ipTM.
        """
        best = ranked[0]
        if len(best.chains) > 1 and best.iptm is None:
            raise InputError(
                "has no predicted-aligned-error head, by which complexes are chosen",
                item=best.name,
                mend="distil with another model",
            )
        sizes = [len(chain.aatype) for chain in best.chains]
        pairs = band(best.distogram, sizes, self.config.max_separation).astype(np.float16)
        np.savez_compressed(
            folder / _PAIRS,
            pairs=pairs,
            plddt=best.plddt,
            aatype=np.concatenate([chain.aatype for chain in best.chains]),
            positions=np.concatenate([chain.atom_positions for chain in best.chains]),
            mask=np.concatenate([chain.atom_mask for chain in best.chains]),
            sizes=sizes,
            names=[chain.chain_id for chain in best.chains],
            iptm=np.nan if best.iptm is None else best.iptm,
            model=best.name,
        )

    def finish(self, names: Sequence[str]) -> str:
        """Judge these targets, write structures and manifest; a line for people."""
        folder = paths.join(self.output, FOLDER)
        paths.remove(paths.join(folder, STRUCTURES))
        paths.make_folder(paths.join(folder, STRUCTURES))
        names = sorted(names)
        own = self.reference is None
        if self.reference is None:
            self.reference = Reference.empty(self.config.max_separation, self.num_bins)
            for name in names:
                kept = self._kept(name)
                self.reference.add(kept["pairs"], kept["sizes"].tolist())
        if own and self.reference.sequences:
            self.reference.save(paths.join(folder, REFERENCE))
        entries = [self._judge(name, folder) for name in names]
        lines = "".join(json.dumps(entry) + "\n" for entry in entries)
        paths.write_whole(paths.join(folder, MANIFEST), lines)
        selected = sum(entry["status"] == "selected" for entry in entries)
        note = ""
        if self.reference.sequences < FEW:
            note = f"; only {self.reference.sequences} sequences in the reference distogram"
        return f"distillation: {selected} of {len(entries)} targets chosen{note}"

    def _kept(self, name: str) -> dict[str, np.ndarray]:
        place = paths.join(self.output, name, _PAIRS)
        with paths.open_reading(place) as data, np.load(data, allow_pickle=False) as file:
            return dict(file)

    def _judge(self, name: str, folder: Place) -> Mapping[str, Any]:
        kept = self._kept(name)
        plddt, sizes = kept["plddt"], kept["sizes"].tolist()
        divergence = self.reference.divergence(kept["pairs"], sizes)
        iptm = float(kept["iptm"]) if len(sizes) > 1 else None
        reason, mask = choose(plddt, divergence, self.config, iptm)
        entry: dict[str, Any] = {
            "chain": name,
            "status": "rejected" if reason else "selected",
            "model": str(kept["model"]),
            "num_res": len(plddt),
            "num_chains": len(sizes),
            "num_confident": int(mask.sum()),
            "mean_plddt": round(float(plddt.mean()), 3),
            "mean_divergence": round(float(divergence.mean()), 4),
        }
        if iptm is not None:
            entry["iptm"] = round(iptm, 4)
        if reason:
            entry["reason"] = reason
        else:
            entry["structure"] = f"{STRUCTURES}/{name}.cif"
            text = mmcif_text(_chains(kept, np.where(mask, plddt, 0.0)), name, plddt)
            paths.write_whole(paths.join(folder, entry["structure"]), text)
        entry["plddt"] = np.round(plddt.astype(float), 2).tolist()
        entry["divergence"] = np.round(divergence, 4).tolist()
        entry["mask"] = mask.astype(int).tolist()
        return entry


def _chains(kept: Mapping[str, np.ndarray], b_factors: np.ndarray) -> list[Structure]:
    """The chains of a kept prediction with these B-factors [L]."""
    ends = np.cumsum(kept["sizes"])
    parts = [slice(end - size, end) for size, end in zip(kept["sizes"], ends, strict=True)]
    return [
        Structure(
            aatype=kept["aatype"][part],
            atom_positions=kept["positions"][part],
            atom_mask=kept["mask"][part],
            residue_index=np.arange(1, part.stop - part.start + 1),
            b_factors=kept["mask"][part],
            chain_id=str(name),
        ).with_b_factors(b_factors[part])
        for name, part in zip(kept["names"], parts, strict=True)
    ]
