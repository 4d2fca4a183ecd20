"""What people look at after each validation: pictures, a view in space, structure files."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from records import chemistry
from tffold.pictures import plots
from tffold.pictures.board import Board
from tffold.pictures.tubes import superposed
from tffold.structures import files as structure_files
from tffold.train.drawing import CA, Arrays
from tffold.train.evaluation import ChainResult


def show_chain(board: Board, step: int, result: ChainResult) -> None:
    """All pictures of one drawn chain."""
    chain_id, arrays = result.chain_id, result.drawing
    for name, draw in pictures(result).items():
        board.picture(step, f"{chain_id}/{name}", draw)
    if arrays["true_mask"][:, CA].any():
        board.mesh(
            step,
            f"{chain_id}/backbone",
            lambda: superposed(
                arrays["positions"][:, CA],
                arrays["true_positions"][:, CA],
                arrays["true_mask"][:, CA],
            ),
        )


def pictures(result: ChainResult) -> dict[str, Callable[[], Figure]]:
    """By name, what draws each picture of a chain."""
    a = result.drawing
    about = f"{result.chain_id}, lDDT-Cα {result.numbers['lddt_ca']:.2f}"
    known = a["true_mask"][:, CA]
    true_ca = np.where(known[:, None] > 0, a["true_positions"][:, CA], np.nan)
    true_beta = np.where(a["pseudo_beta_mask"][:, None] > 0, a["pseudo_beta"], np.nan)

    def distances(points: np.ndarray) -> np.ndarray:
        return np.linalg.norm(points[:, None] - points[None], axis=-1)

    drawn = {
        "distances": lambda: plots.distance_maps(
            distances(true_ca), distances(a["positions"][:, CA]), known, title=about
        ),
        "distogram": lambda: plots.distogram_expectation(
            a["distogram"], distances(true_beta), title=f"Distogram, {result.chain_id}"
        ),
        "contacts": lambda: plots.contact_map(
            a["contacts"],
            distances(true_beta) < plots.CONTACT_DISTANCE,
            title=f"Contacts, {result.chain_id}",
        ),
        "plddt": lambda: plots.plddt_along_chain(a["plddt"], a["lddt"], known, title=about),
        "masked_msa": lambda: plots.masked_msa(
            a["msa"], a["msa_shown"], a["msa_guess"], a["msa_chosen"]
        ),
        "backbone": lambda: plots.backbone_3d(a["positions"][:, CA], true_ca, title=about),
    }
    if "pae" in a:
        drawn["pae"] = lambda: plots.predicted_aligned_error(
            a["pae"], title=f"Predicted aligned error, {result.chain_id}"
        )
    return drawn


def write_structures(folder: Path, step: int, result: ChainResult) -> None:
    """``<chain>.predicted.pdb`` with pLDDT as B-factor, and ``<chain>.true.pdb``, superposed."""
    arrays = result.drawing
    folder.mkdir(parents=True, exist_ok=True)
    known = arrays["true_mask"][:, CA] > 0
    both = {
        "predicted": (arrays["positions"], arrays["atom_exists"], arrays["plddt"]),
        # The true lDDT, 0 where it cannot be known.
        "true": (arrays["true_positions"], arrays["true_mask"], arrays["lddt"] * known),
    }
    for kind, (positions, mask, b_factors) in both.items():
        structure = _structure(arrays, positions, mask, b_factors)
        title = f"{result.chain_id} {kind} step {step}"
        path = folder / f"{result.chain_id}.{kind}.pdb"
        path.write_text(structure_files.pdb_text([structure], title))


def _structure(
    arrays: Arrays, positions: np.ndarray, mask: np.ndarray, b_factors: np.ndarray
) -> structure_files.Structure:
    num_atoms = len(chemistry.ATOM_TYPES)
    return structure_files.Structure(
        aatype=arrays["aatype"],
        atom_positions=positions,
        atom_mask=mask,
        residue_index=arrays["residue_index"] + 1,
        b_factors=np.repeat(b_factors[:, None], num_atoms, axis=1),
    )
