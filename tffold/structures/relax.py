"""Restrained minimisation of a structure in the Amber99SB force field (supplement 1.8.6).

Rounds of minimisation with OpenMM: hydrogens, missing atoms and disulfide bonds are put in,
every heavy atom is held where it was by a harmonic restraint, and each round frees the
residues that the one before left with a violation, until there are none.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cache
from typing import Any

import gemmi
import numpy as np
import tensorflow as tf

from records.chemistry import ATOM_ORDER, ATOM_TYPES, RESTYPE_ATOM37_MASK, UNKNOWN_INDEX
from records.errors import InputError
from tffold.config import LossConfig, RelaxConfig
from tffold.geometry import make_atom14_masks
from tffold.losses.violations import find_violations
from tffold.structures.files import CHAIN_LETTERS, Structure, pdb_text, structures_of
from tffold.structures.minimise import Round, minimise

BOND_REACH = 2.0  # Å between C and N of residues whose numbers do not follow, if they are bonded
_PAD = 128  # residues; violations are compiled for multiples of it
_C, _N, _OXT = (ATOM_ORDER[name] for name in ("C", "N", "OXT"))


@dataclass(frozen=True)
class Relaxation:
    """A relaxed structure: its chains (heavy atoms), a PDB file with hydrogens, and a report.

    The chains have the residues that were given, those of unknown chemistry without atoms.

    The report has energies (kcal/mol, of the force field alone), ``rmsd`` (Å, of the heavy
    atoms of the input, not superposed), violations before and after, rounds, disulfide bonds,
    the residues freed of restraints and the platform.
    """

    structures: tuple[Structure, ...]
    pdb_text: str
    report: dict[str, Any]


def require_openmm() -> None:
    """Raises InputError unless OpenMM and pdbfixer are installed."""
    missing = [name for name in ("openmm", "pdbfixer") if importlib.util.find_spec(name) is None]
    if missing:
        raise InputError(
            f"{' and '.join(missing)} not installed", mend="pip install 'tffold[relax]'"
        )


# --- violations ---------------------------------------------------------------


@cache
def _find_violations() -> Any:
    def find(batch: dict[str, tf.Tensor], positions: tf.Tensor) -> dict[str, tf.Tensor]:
        found = find_violations(batch, positions, LossConfig())
        return {
            "bonds": found["between_residues/connections_per_residue_violation_mask"],
            "clashes": tf.reduce_max(found["between_residues/clashes_per_atom_clash_mask"], -1),
            "within": tf.reduce_max(found["within_residues/per_atom_violations"], -1),
        }

    return tf.function(find, autograph=False, jit_compile=True)


def violations(structures: Sequence[Structure]) -> dict[str, np.ndarray]:
    """Which residues [L] of all chains together have a violation of each kind (supplement 1.9.11).

    ``bonds`` to and angles with their neighbours, ``clashes`` with other residues, ``within``
    the residue.
    """
    pieces = [piece for structure in structures for piece in _segments(structure)]
    aatype = np.concatenate([structure.aatype for structure in structures]).astype(np.int32)
    positions = np.concatenate([structure.atom_positions for structure in structures])
    mask = np.concatenate([structure.atom_mask for structure in structures])
    # Residues of different pieces are no neighbours.
    breaks = np.repeat(np.arange(len(pieces)), [len(piece) for piece in pieces])
    index = np.arange(len(aatype)) + 2 * breaks
    length = len(aatype)
    extra = -length % _PAD
    aatype = np.pad(aatype, (0, extra), constant_values=UNKNOWN_INDEX)
    table = {k: np.asarray(v) for k, v in make_atom14_masks(aatype).items()}
    slots = table["residx_atom14_to_atom37"]
    rows = np.arange(length + extra)[:, None]
    # [L, 37, ...] -> [L, 14, ...]
    positions = np.pad(positions, ((0, extra), (0, 0), (0, 0)))[rows, slots]
    exists = table["atom14_atom_exists"] * np.pad(mask, ((0, extra), (0, 0)))[rows, slots]
    batch = {
        "aatype": tf.constant(aatype),
        "residue_index": tf.constant(np.pad(index, (0, extra)).astype(np.int32)),
        "atom14_atom_exists": tf.constant(exists.astype(np.float32)),
    }
    found = _find_violations()(batch, tf.constant(positions.astype(np.float32)))
    return {name: np.asarray(values)[:length] > 0 for name, values in found.items()}


def _counts(found: dict[str, np.ndarray]) -> dict[str, int]:
    """Residues by kind of violation, and with any."""
    counts = {name: int(values.sum()) for name, values in found.items()}
    return {**counts, "residues": int(np.any(list(found.values()), axis=0).sum())}


# --- pieces of chains ---------------------------------------------------------


def _segments(structure: Structure) -> list[range]:
    """Stretches of residues that are bonded, or should be.

    Residues whose numbers follow are, however far apart; others only if they lie so.
    """
    if not len(structure.aatype):
        return []
    step = np.diff(structure.residue_index)
    carbon, nitrogen = structure.atom_positions[:-1, _C], structure.atom_positions[1:, _N]
    seen = structure.atom_mask[:-1, _C] * structure.atom_mask[1:, _N]
    near = (np.linalg.norm(carbon - nitrogen, axis=-1) < BOND_REACH) & (seen > 0)
    follow = (step == 0) | (step == 1)  # equal numbers differ in their insertion codes
    ends = [*(np.flatnonzero(~(follow | near)) + 1), len(structure.aatype)]
    return [range(a, b) for a, b in zip([0, *ends[:-1]], ends, strict=True)]


def _is_known(structure: Structure) -> np.ndarray:
    """Which residues [L] have chemistry and atoms."""
    return (structure.aatype != UNKNOWN_INDEX) & (structure.atom_mask.sum(-1) > 0)


def _known(structure: Structure) -> Structure:
    """Without the residues that have no chemistry or no atoms."""
    keep = _is_known(structure)
    return replace(
        structure,
        aatype=structure.aatype[keep],
        atom_positions=structure.atom_positions[keep],
        atom_mask=structure.atom_mask[keep],
        residue_index=structure.residue_index[keep],
        b_factors=structure.b_factors[keep],
    )


def _joined_text(structures: Sequence[Structure]) -> str:
    """A PDB file in which every stretch is a chain, so that nothing is bonded across gaps."""
    lines: list[str] = []
    names = iter(CHAIN_LETTERS)
    for structure in structures:
        for piece in _segments(structure):
            part = slice(piece.start, piece.stop)
            name = next(names, None)
            if name is None:
                raise InputError(
                    f"more than {len(CHAIN_LETTERS)} chains and gaps in them",
                    mend="relax parts of it",
                )
            stretch = Structure(
                structure.aatype[part],
                structure.atom_positions[part],
                structure.atom_mask[part],
                np.arange(1, len(piece) + 1),
                structure.b_factors[part],
                name,
            )
            text = pdb_text([stretch])
            lines += [ln for ln in text.splitlines() if ln.startswith(("ATOM", "TER"))]
    return "\n".join([*lines, "END", ""])


# --- the whole ----------------------------------------------------------------


def relax(structures: Sequence[Structure], config: RelaxConfig) -> Relaxation:
    """Minimise chains until nothing is violated, or ``config.max_rounds`` are done.

    Atoms that are missing are added; residue numbers, chain names and B-factors are kept.

    Raises:
      InputError: OpenMM is not installed, or it cannot make sense of the structure.
    """
    require_openmm()
    given = [_known(structure) for structure in structures]
    given = [structure for structure in given if len(structure.aatype)]
    if not given:
        raise InputError("has no residues to relax", mend="give a protein")
    start = violations(given)
    current = given
    free = np.zeros(len(start["bonds"]), bool)
    freed = free
    rounds: list[Round] = []
    found = start
    for _ in range(config.max_rounds):
        free = freed
        rounds.append(minimise(_joined_text(current), free, config))
        current = _taken_over(rounds[-1].text, given)
        found = violations(current)
        freed = free | np.any(list(found.values()), axis=0)
        if not np.any(list(found.values())):
            break
    names = [f"{s.chain_id} {number}" for s in given for number in s.residue_index]
    report = {
        "energy_before": rounds[0].energy_before if np.isfinite(rounds[0].energy_before) else None,
        "energy_after": rounds[-1].energy_after,
        "rmsd": _rmsd(given, current),
        "violations_before": _counts(start),
        "violations_after": _counts(found),
        "violating_residues": _pick(names, np.any(list(found.values()), axis=0)),
        "freed_residues": _pick(names, free),
        "rounds": len(rounds),
        "disulfide_bonds": rounds[-1].disulfides,
        "platform": rounds[-1].platform,
    }
    return Relaxation(
        tuple(_restored(structures, current)), _finished_text(rounds[-1].text, current), report
    )


def _restored(structures: Sequence[Structure], relaxed: Sequence[Structure]) -> list[Structure]:
    """The relaxed atoms in all residues of the structures, of which ``_known`` left some out."""
    left = iter(relaxed)
    result = []
    for structure in structures:
        keep = _is_known(structure)
        arrays = {
            name: np.zeros_like(getattr(structure, name))
            for name in ("atom_positions", "atom_mask", "b_factors")
        }
        if keep.any():
            one = next(left)
            for name, array in arrays.items():
                array[keep] = getattr(one, name)
        result.append(replace(structure, **arrays))
    return result


def _pick(names: Sequence[str], chosen: np.ndarray) -> list[str]:
    return [names[i] for i in np.flatnonzero(chosen)]


def _rmsd(before: Sequence[Structure], after: Sequence[Structure]) -> float:
    """Å, over the atoms of the first, without superposition."""
    squares = [
        np.square(b.atom_positions - a.atom_positions).sum(-1)[(b.atom_mask > 0)]
        for b, a in zip(before, after, strict=True)
    ]
    return float(np.sqrt(np.concatenate(squares).mean()))


def _taken_over(text: str, given: Sequence[Structure]) -> list[Structure]:
    """Heavy atoms of a minimised file in the places of the chains given."""
    pieces = structures_of(text, "minimised structure")
    positions = np.concatenate([piece.atom_positions for piece in pieces])
    mask = np.concatenate([piece.atom_mask for piece in pieces])
    result, start = [], 0
    for structure in given:
        part = slice(start, start + len(structure.aatype))
        start = part.stop
        chain_mask = mask[part].copy()
        # Ends of a stretch that are no ends of the chain got a second oxygen, too.
        allowed = RESTYPE_ATOM37_MASK[structure.aatype].copy()
        allowed[-1, _OXT] = 1.0
        chain_mask *= np.maximum(allowed, structure.atom_mask)
        result.append(
            replace(
                structure,
                atom_positions=positions[part] * chain_mask[..., None],
                atom_mask=chain_mask,
                b_factors=np.broadcast_to(
                    structure.b_factors.max(axis=-1, keepdims=True), structure.b_factors.shape
                ),
            )
        )
    return result


def _finished_text(text: str, structures: Sequence[Structure]) -> str:
    """The minimised file, hydrogens included, with the chains' own names and numbers."""
    parsed = gemmi.read_pdb_string(text)
    residues = [residue for chain in parsed[0] for residue in chain]
    model = gemmi.Model(1)
    start = 0
    for structure in structures:
        chain = gemmi.Chain(structure.chain_id)
        for i, number in enumerate(structure.residue_index):
            residue = residues[start + i]
            residue.seqid = gemmi.SeqId(int(number), " ")
            for atom in list(residue):
                heavy = not atom.is_hydrogen()
                if heavy and not structure.atom_mask[i, ATOM_TYPES.index(atom.name)]:
                    residue.remove_atom(atom.name, "\0", atom.element)
                    continue
                atom.b_iso = float(structure.b_factors[i, 1])
                atom.occ = 1.0
            chain.add_residue(residue)
        start += len(structure.residue_index)
        model.add_chain(chain)
    result = gemmi.Structure()
    result.add_model(model)
    result.setup_entities()
    result.assign_serial_numbers()
    return result.make_pdb_string(gemmi.PdbWriteOptions(minimal=True))
