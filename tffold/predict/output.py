"""The files of a predicted target, as AlphaFold and AlphaFold DB name and fill them."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from tffold.pictures import plots
from tffold.pictures.plots import PLDDT_BANDS
from tffold.predict.models import Prediction
from tffold.structures.files import mmcif_text, pdb_text

RECORD = "prediction.json"  # what was predicted with what: there only when all else is
# Letters of AlphaFold DB for the bands of pLDDT, lowest first.
_CATEGORIES = ("D", "L", "M", "H")
_BOUNDS = tuple(low for low, _, _ in PLDDT_BANDS)[1:]


def write_json(path: Path, content: Any) -> None:
    path.write_text(json.dumps(content, indent=1) + "\n")


def confidence_json(plddt: np.ndarray) -> dict[str, list[Any]]:
    """pLDDT [L] as AlphaFold DB's ``confidence.json`` has it."""
    return {
        "residueNumber": list(range(1, len(plddt) + 1)),
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
    content["order"] = [p.name for p in ranked]
    return content


def write_predictions(
    folder: Path,
    target: str,
    ranked: Sequence[Prediction],
    relaxed: Mapping[str, Any],
    msa: np.ndarray | None,
) -> None:
    """All files of a target but ``prediction.json`` and ``timings.json``.

    Args:
      ranked: best first;
      relaxed: ``tffold.structures.relax.Relaxation`` of those that were relaxed, by name.
      msa: alignment [N, L] in the batch's letters, drawn with the confidence; None: no plots.
    """
    for rank, one in enumerate(ranked):
        (folder / f"unrelaxed_{one.name}.pdb").write_text(pdb_text([one.structure], target))
        structure, text = one.structure, pdb_text([one.structure], target)
        if one.name in relaxed:
            structure, text = relaxed[one.name].structure, relaxed[one.name].pdb_text
            (folder / f"relaxed_{one.name}.pdb").write_text(text)
        (folder / f"ranked_{rank}.pdb").write_text(text)
        title = f"{target} {one.name}"
        cif = mmcif_text([structure], target, one.plddt, title)
        (folder / f"ranked_{rank}.cif").write_text(cif)
        write_json(folder / f"confidence_{one.name}.json", confidence_json(one.plddt))
        if one.pae is not None:
            (folder / f"pae_{one.name}.json").write_text(pae_json(one.pae, one.max_pae))
        if msa is not None:
            figure = plots.plddt_along_chain(one.plddt, title=f"pLDDT, {title}")
            plots.save_png(figure, folder / f"ranked_{rank}_plddt.png")
            if one.pae is not None:
                figure = plots.predicted_aligned_error(one.pae, one.max_pae, title=title)
                plots.save_png(figure, folder / f"ranked_{rank}_pae.png")
    if msa is not None:
        figure = plots.msa_coverage(msa, title=f"{target}, {len(msa)} rows")
        plots.save_png(figure, folder / "msa_coverage.png")
    write_json(folder / "ranking_debug.json", ranking_json(ranked))
    if relaxed:
        metrics = {name: one.report for name, one in relaxed.items()}
        write_json(folder / "relax_metrics.json", metrics)
    write_json(folder / "confidence.json", _summary(ranked))


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
        }
        for rank, one in enumerate(ranked)
    ]
    return {**confidence_json(ranked[0].plddt), "models": lines}
