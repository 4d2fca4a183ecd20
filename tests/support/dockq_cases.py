"""Predicted complexes of known kinds, and what the DockQ program says of them.

``python tests/support/dockq_cases.py DOCKQ`` writes the program's answers anew: ``DOCKQ`` is the
command of the PyPI package of that name (2.1.3), in an environment of its own.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
from points import rotation

from records.assembly import read_assembly
from records.chemistry import RESTYPES_WITH_X
from records.mmcif import Entry
from tffold.structures.files import Structure, pdb_text

STRUCTURES = Path(__file__).resolve().parents[2] / "examples/demo/mmcif"
ANSWERS = Path(__file__).resolve().parents[1] / "metrics/dockq_answers.json"
# Entry, turn (degrees) and shift (Å) of the second chain, noise of every atom (Å).
CASES = {
    "near": ("1a7g", 3.0, 0.5, 0.2),
    "apart": ("1a7g", 10.0, 3.0, 0.5),
    "elsewhere": ("1a7g", 120.0, 25.0, 0.5),
    "peptide": ("4zhl", 8.0, 1.5, 0.3),
    "gaps": ("4cup", 6.0, 1.0, 0.4),
    "small": ("1a8o", 5.0, 2.0, 0.3),
}


def complex_of(name: str) -> dict[str, np.ndarray]:
    """``predicted``, ``true`` [R, 37, 3], their masks, ``aatype`` and ``chain`` [R], numbered.

    Truth lacks some residues of ``gaps``, and side chains of others.
    """
    entry, turn, shift, noise = CASES[name]
    rng = np.random.default_rng(len(name))
    placed = read_assembly(Entry(STRUCTURES / f"{entry}.cif.gz"), "1", 2)
    true = np.concatenate([one.chain.positions for one in placed]).astype(float)
    mask = np.concatenate([one.chain.mask for one in placed]).astype(float)
    chain = np.repeat([1, 2], [one.chain.num_res for one in placed])
    aatype = np.concatenate([one.chain.aatype for one in placed])
    keep = mask.any(-1)
    true, mask, chain, aatype = true[keep], mask[keep], chain[keep], aatype[keep]
    second = chain == 2
    predicted = true + noise * rng.standard_normal(true.shape)
    middle = true[second, 1].mean(0)
    turned = (predicted[second] - middle) @ _turn(rng, turn).T + middle
    predicted[second] = turned + shift * np.array([0.6, 0.0, 0.8])
    # Nothing may depend on where the prediction lies.
    predicted = predicted @ rotation(rng).T + 10.0 * rng.standard_normal(3)
    seen = mask.copy()
    if name == "gaps":
        seen[30:37] = 0.0
        seen[200:204] = 0.0
        seen[50:80, 5:] = 0.0
    return {
        "predicted": predicted.round(3), "predicted_mask": mask,
        "true": (true * seen[..., None]).round(3), "true_mask": seen,
        "chain": chain, "aatype": aatype,
    }  # fmt: skip


def _turn(rng: np.random.Generator, degrees: float) -> np.ndarray:
    """A rotation by so much about an axis drawn."""
    axis = rng.standard_normal(3)
    x, y, z = axis / np.linalg.norm(axis)
    cross = np.array([[0, -z, y], [z, 0, -x], [-y, x, 0]])
    angle = np.radians(degrees)
    return np.eye(3) + np.sin(angle) * cross + (1 - np.cos(angle)) * cross @ cross


def pdb_file(case: dict[str, np.ndarray], which: str, order: tuple[int, int]) -> str:
    """A PDB file of ``predicted`` or ``true``, its chains in this order, named A and B."""
    chains = []
    for name, number in zip("AB", order, strict=True):
        rows = (case["chain"] == number) & case[f"{which}_mask"].any(-1)
        mask = case[f"{which}_mask"][rows]
        index = np.flatnonzero(rows) + 1
        chains.append(
            Structure(case["aatype"][rows], case[which][rows], mask, index, mask * 0.0, name)
        )
    assert "X" not in {RESTYPES_WITH_X[t] for t in case["aatype"]}
    return pdb_text(chains)


def answers(command: str) -> dict[str, list[dict[str, float]]]:
    """What the program says of each case, with the chains in either order."""
    found: dict[str, list[dict[str, float]]] = {}
    for name in CASES:
        case = complex_of(name)
        for order in ((1, 2), (2, 1)):
            with tempfile.TemporaryDirectory() as folder:
                model, native, out = (Path(folder, x) for x in ("m.pdb", "n.pdb", "out.json"))
                model.write_text(pdb_file(case, "predicted", order))
                native.write_text(pdb_file(case, "true", order))
                subprocess.run(
                    [command, model, native, "--json", out, "--mapping", "AB:AB", "--no_align"],
                    check=True,
                    stdout=subprocess.DEVNULL,
                )
                (best,) = json.loads(out.read_text())["best_result"].values()
            keys = ("DockQ", "F1", "iRMSD", "LRMSD", "fnat", "nat_total")
            found.setdefault(name, []).append({key: best[key] for key in keys})
    return found


if __name__ == "__main__":
    ANSWERS.write_text(json.dumps(answers(sys.argv[1]), indent=1) + "\n")
