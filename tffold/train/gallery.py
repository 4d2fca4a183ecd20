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
    """All pictures of one drawn chain or complex."""
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
                arrays["chain"],
            ),
        )


def pictures(result: ChainResult) -> dict[str, Callable[[], Figure]]:
    """By name, what draws each picture of a chain."""
    a = result.drawing
    about = f"{result.chain_id}, lDDT-Cα {result.numbers['lddt_ca']:.2f}"
    if "dockq" in result.numbers:
        about += f", DockQ {result.numbers['dockq']:.2f}"
    borders = np.flatnonzero(np.diff(a["chain"])) + 1
    known = a["true_mask"][:, CA]
    true_ca = np.where(known[:, None] > 0, a["true_positions"][:, CA], np.nan)
    true_beta = np.where(a["pseudo_beta_mask"][:, None] > 0, a["pseudo_beta"], np.nan)

    def distances(points: np.ndarray) -> np.ndarray:
        return np.linalg.norm(points[:, None] - points[None], axis=-1)

    drawn = {
        "distances": lambda: plots.distance_maps(
            distances(true_ca), distances(a["positions"][:, CA]), known, borders, title=about
        ),
        "distogram": lambda: plots.distogram_expectation(
            a["distogram"], distances(true_beta), borders, title=f"Distogram, {result.chain_id}"
        ),
        "contacts": lambda: plots.contact_map(
            a["contacts"],
            distances(true_beta) < plots.CONTACT_DISTANCE,
            borders,
            title=f"Contacts, {result.chain_id}",
        ),
        "plddt": lambda: plots.plddt_along_chain(
            a["plddt"], a["lddt"], known, borders, title=about
        ),
        "masked_msa": lambda: plots.masked_msa(
            a["msa"], a["msa_shown"], a["msa_guess"], a["msa_chosen"]
        ),
        "backbone": lambda: plots.backbone_3d(
            a["positions"][:, CA], true_ca, chain=a["chain"], title=about
        ),
    }
    if "pae" in a:
        drawn["pae"] = lambda: plots.predicted_aligned_error(
            a["pae"], boundaries=borders, title=f"Predicted aligned error, {result.chain_id}"
        )
    return drawn


def write_structures(folder: Path, step: int, result: ChainResult) -> None:
    """``<chain>.predicted.pdb`` with pLDDT as B-factor, and ``<chain>.true.pdb``, superposed.

    Chains of a complex are named A, B, C, ...; of more than the PDB format can name it is mmCIF.
    """
    arrays = result.drawing
    folder.mkdir(parents=True, exist_ok=True)
    known = arrays["true_mask"][:, CA] > 0
    both = {
        "predicted": (arrays["positions"], arrays["atom_exists"], arrays["plddt"]),
        # The true lDDT, 0 where it cannot be known.
        "true": (arrays["true_positions"], arrays["true_mask"], arrays["lddt"] * known),
    }
    for kind, (positions, mask, b_factors) in both.items():
        chains = _chains(arrays, positions, mask, b_factors)
        title = f"{result.chain_id} {kind} step {step}"
        if len(chains) <= len(structure_files.CHAIN_LETTERS):
            text, suffix = structure_files.pdb_text(chains, title), "pdb"
        else:
            text, suffix = structure_files.mmcif_text(chains, result.chain_id, title=title), "cif"
        (folder / f"{result.chain_id}.{kind}.{suffix}").write_text(text)


def _chains(
    arrays: Arrays, positions: np.ndarray, mask: np.ndarray, b_factors: np.ndarray
) -> list[structure_files.Structure]:
    every = np.repeat(b_factors[:, None], len(chemistry.ATOM_TYPES), axis=1)
    numbers = np.unique(arrays["chain"])
    names = structure_files.chain_names(len(numbers))
    found = []
    for name, number in zip(names, numbers, strict=True):
        rows = arrays["chain"] == number
        found.append(
            structure_files.Structure(
                aatype=arrays["aatype"][rows],
                atom_positions=positions[rows],
                atom_mask=mask[rows],
                residue_index=arrays["residue_index"][rows] + 1,
                b_factors=every[rows],
                chain_id=name,
            )
        )
    return found
