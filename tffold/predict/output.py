"""The files of a predicted target, as AlphaFold and AlphaFold DB name and fill them."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from tffold.pictures import plots
from tffold.pictures.plots import PLDDT_BANDS
from tffold.predict.models import Prediction
from tffold.structures.files import Structure, entity_numbers, mmcif_text, pdb_text

_LOG = logging.getLogger(__name__)
RECORD = "prediction.json"  # what was predicted with what: there only when all else is
# Letters of AlphaFold DB for the bands of pLDDT, lowest first.
_CATEGORIES = ("D", "L", "M", "H")
_BOUNDS = tuple(low for low, _, _ in PLDDT_BANDS)[1:]


def write_json(path: Path, content: Any) -> None:
    path.write_text(json.dumps(content, indent=1) + "\n")


def confidence_json(plddt: np.ndarray, chains: Sequence[Structure]) -> dict[str, list[Any]]:
    """pLDDT [L] as AlphaFold DB's ``confidence.json`` has it; of several chains also their names.

    Residues are numbered within their chain.
    """
    names = [one.chain_id for one in chains for _ in one.aatype]
    return {
        **({"chainId": names} if len(chains) > 1 else {}),
        "residueNumber": [i for one in chains for i in range(1, len(one.aatype) + 1)],
        "confidenceScore": [round(float(value), 2) for value in plddt],
        "confidenceCategory": [_CATEGORIES[i] for i in np.digitize(plddt, _BOUNDS)],
    }


def pae_json(pae: np.ndarray, largest: float) -> str:
    """Predicted aligned error [L, L] (Å) as AlphaFold DB has it: whole Ångströms, in one list."""
    rows = np.rint(pae).astype(int).tolist()
    content = {"predicted_aligned_error": rows, "max_predicted_aligned_error": largest}
    return json.dumps([content], separators=(",", ":"))


def ranking_json(ranked: Sequence[Prediction]) -> dict[str, Any]:
    """``ranking_debug.json``: scores by model, and the models' order."""
    content: dict[str, Any] = {"plddts": {p.name: p.mean_plddt for p in ranked}}
    if all(p.ptm is not None for p in ranked):
        content["ptms"] = {p.name: p.ptm for p in ranked}
    if all(p.iptm is not None for p in ranked):
        content["iptms"] = {p.name: p.iptm for p in ranked}
        content["iptm+ptm"] = {p.name: p.ranking_score for p in ranked}
    content["order"] = [p.name for p in ranked]
    return content


def pair_json(one: Prediction) -> list[dict[str, Any]]:
    """Of every two chains ipTM as if they were the whole, and the mean aligned error in Å.

    The error is of the second chain's residues in the first one's frames, and the other way round.
    """
    ends = [0, *one.borders, len(one.plddt)]
    rows = {chain.chain_id: slice(*ends[i : i + 2]) for i, chain in enumerate(one.chains)}
    return [
        {
            "chains": [first, second],
            "iptm": round(iptm, 4),
            "mean_pae": [
                round(float(one.pae[rows[a], rows[b]].mean()), 2)
                for a, b in ((first, second), (second, first))
            ],
        }
        for (first, second), iptm in one.pair_iptm.items()
    ]


def write_predictions(
    folder: Path,
    target: str,
    ranked: Sequence[Prediction],
    relaxed: Mapping[str, Any],
    msa: np.ndarray | None,
) -> None:
    """All files of a target but ``prediction.json`` and ``timings.json``.

    A complex of more chains than the PDB format has letters is in the mmCIF files alone.

    Args:
      ranked: best first;
      relaxed: ``tffold.structures.relax.Relaxation`` of those that were relaxed, by name.
      msa: alignment [N, L] in the batch's letters, drawn with the confidence; None: no plots.
    """
    lettered = all(len(chain.chain_id) == 1 for chain in ranked[0].chains)
    if not lettered:
        _LOG.info(
            "%s: %d chains, more than the PDB format has letters: written as mmCIF alone",
            target,
            len(ranked[0].chains),
        )
    for rank, one in enumerate(ranked):
        structures: Sequence[Structure] = one.chains
        if lettered:
            text = pdb_text(one.chains, target)
            (folder / f"unrelaxed_{one.name}.pdb").write_text(text)
        if one.name in relaxed:
            structures, text = relaxed[one.name].structures, relaxed[one.name].pdb_text
            (folder / f"relaxed_{one.name}.pdb").write_text(text)
        if lettered:
            (folder / f"ranked_{rank}.pdb").write_text(text)
        title = f"{target} {one.name}"
        cif = mmcif_text(structures, target, one.plddt, title)
        (folder / f"ranked_{rank}.cif").write_text(cif)
        confidence = confidence_json(one.plddt, one.chains)
        if one.pair_iptm is not None:
            confidence |= {"ptm": one.ptm, "iptm": one.iptm, "chainPairs": pair_json(one)}
        write_json(folder / f"confidence_{one.name}.json", confidence)
        if one.pae is not None:
            (folder / f"pae_{one.name}.json").write_text(pae_json(one.pae, one.max_pae))
        if msa is not None:
            figure = plots.plddt_along_chain(
                one.plddt, boundaries=one.borders, title=f"pLDDT, {title}"
            )
            plots.save_png(figure, folder / f"ranked_{rank}_plddt.png")
            if one.pae is not None:
                figure = plots.predicted_aligned_error(
                    one.pae, one.max_pae, one.borders, title=title
                )
                plots.save_png(figure, folder / f"ranked_{rank}_pae.png")
    if msa is not None:
        figure = plots.msa_coverage(
            msa, boundaries=ranked[0].borders, title=f"{target}, {len(msa)} rows"
        )
        plots.save_png(figure, folder / "msa_coverage.png")
    write_json(folder / "ranking_debug.json", ranking_json(ranked))
    if relaxed:
        metrics = {name: one.report for name, one in relaxed.items()}
        write_json(folder / "relax_metrics.json", metrics)
    write_json(folder / "confidence.json", _summary(ranked))


def chains_json(chains: Sequence[Structure]) -> list[dict[str, Any]]:
    """Name, entity and length of each chain."""
    return [
        {"chain": one.chain_id, "entity": number, "residues": len(one.aatype)}
        for one, number in zip(chains, entity_numbers(chains), strict=True)
    ]


def _summary(ranked: Sequence[Prediction]) -> dict[str, Any]:
    """The best prediction's confidence per residue, and a line for every prediction."""
    lines = [
        {
            "rank": rank,
            "model": one.name,
            "mean_plddt": round(one.mean_plddt, 3),
            "ptm": None if one.ptm is None else round(one.ptm, 4),
            "passes": len(one.changes),
            "change_of_last_pass": round(one.changes[-1], 4),
            **_of_complex(one),
        }
        for rank, one in enumerate(ranked)
    ]
    best = ranked[0]
    return {**confidence_json(best.plddt, best.chains), "models": lines}


def _of_complex(one: Prediction) -> dict[str, Any]:
    if one.pair_iptm is None:
        return {}
    return {
        "iptm": round(one.iptm, 4),
        "ranking_score": round(one.ranking_score, 4),
        "chain_pairs": pair_json(one),
    }
