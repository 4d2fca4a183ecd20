"""Violations of bond lengths, bond angles and van der Waals radii (supplement 1.9.11)."""

from __future__ import annotations

from typing import Any

import numpy as np
from keras import ops

from records import chemistry
from records.chemistry import MeanStd
from tffold.config import HeadsConfig, LossConfig
from tffold.geometry.atoms import lookup
from tffold.losses.common import Tensors, masked_mean

Tensor = Any

_N, _CA, _C = 0, 1, 2  # slots of every residue's atom14
_SG = chemistry.ATOM14_NAMES["CYS"].index("SG")
_MAX_CA_CA_EXCESS = 1.5  # Å
_RADIUS = (
    chemistry.ATOM37_VDW_RADIUS[chemistry.RESTYPE_ATOM14_TO_ATOM37] * chemistry.RESTYPE_ATOM14_MASK
)


def _consecutive(batch: Tensors, config: LossConfig) -> Tensor:
    """1 where residues i and i+1 are neighbours in the chain: [R-1].

    DISCREPANCY: DeepMind's multimer code, and so `violations_as_released`, takes the last residue
    of a chain and the first one of the next for neighbours if their numbers follow on each other,
    as they may in a crop.
    """
    index = batch["residue_index"]
    consecutive = ops.equal(index[1:] - index[:-1], 1)
    if config.by_chain and not config.violations_as_released:
        chain = batch["asym_id"]
        consecutive = ops.logical_and(consecutive, ops.equal(chain[1:], chain[:-1]))
    return ops.cast(consecutive, "float32")


def _deviation(value: Tensor, mean: Tensor | float) -> Tensor:
    return ops.sqrt(1e-6 + ops.square(value - mean))


def connection_violations(
    batch: Tensors, positions: Tensor, config: LossConfig
) -> dict[str, Tensor]:
    """Length and angles of the peptide bonds (equations 44 and 45).

    Flat-bottomed: free within `violation_tolerance_factor` standard deviations.
    DISCREPANCY: for the cosine of CA-C-N DeepMind's monomer code took the bond
    length's deviation, 0.014, until 2025, so the released weights predate the
    mend; here as in its present code it is the angle's own, 0.0311. Its multimer
    code has no such mend, nor have `violations_as_released`.

    Args:
        positions: [R, 14, 3] Å; batch: `atom14_atom_exists`, `residue_index`, `aatype`.
    """
    mask = batch["atom14_atom_exists"]
    near = _consecutive(batch, config)
    ca, c = positions[:-1, _CA], positions[:-1, _C]
    n_next, ca_next = positions[1:, _N], positions[1:, _CA]
    ca_seen, c_seen = mask[:-1, _CA], mask[:-1, _C]
    n_next_seen, ca_next_seen = mask[1:, _N], mask[1:, _CA]

    def length(vector: Tensor) -> Tensor:
        return ops.sqrt(1e-6 + ops.sum(ops.square(vector), axis=-1))

    proline = ops.equal(batch["aatype"][1:], chemistry.RESTYPE_ORDER["P"])
    usual, before_proline = chemistry.PEPTIDE_BOND_LENGTH, chemistry.PEPTIDE_BOND_LENGTH_PROLINE
    bond = length(n_next - c)
    to_ca = (ca - c) / length(ca - c)[:, None]
    to_n = (n_next - c) / bond[:, None]
    from_n = (ca_next - n_next) / length(ca_next - n_next)[:, None]

    ca_c_n = chemistry.COS_CA_C_N
    if config.by_chain and config.violations_as_released:
        ca_c_n = MeanStd(ca_c_n.mean, usual.std)

    terms = {
        "bonds_c_n": (
            bond,
            MeanStd(
                ops.where(proline, before_proline.mean, usual.mean),
                ops.where(proline, before_proline.std, usual.std),
            ),
            c_seen * n_next_seen * near,
        ),
        "angles_ca_c_n": (
            ops.sum(to_ca * to_n, axis=-1),
            ca_c_n,
            ca_seen * c_seen * n_next_seen * near,
        ),
        "angles_c_n_ca": (
            -ops.sum(to_n * from_n, axis=-1),
            chemistry.COS_C_N_CA,
            c_seen * n_next_seen * ca_next_seen * near,
        ),
    }
    result = {}
    per_pair, violated = [], []
    for name, (value, literature, seen) in terms.items():
        allowed = config.violation_tolerance_factor * literature.std
        excess = _deviation(value, literature.mean) - allowed
        loss = ops.relu(excess)
        result[f"{name}_loss_mean"] = masked_mean(loss, seen, 1e-6)
        per_pair.append(loss)
        violated.append(seen * ops.cast(excess > 0.0, "float32"))
        result[f"{name}_violations"] = violated[-1]

    def left_and_right(values: Tensor) -> tuple[Tensor, Tensor]:
        # Each bond belongs to the residue before and to the one after it: [R]
        return ops.pad(values, [[0, 1]]), ops.pad(values, [[1, 0]])

    left, right = left_and_right(sum(per_pair))
    result["connections_per_residue_loss_sum"] = 0.5 * (left + right)
    left, right = left_and_right(ops.max(ops.stack(violated), axis=0))
    result["connections_per_residue_violation_mask"] = ops.maximum(left, right)
    return result


def clash_violations(batch: Tensors, positions: Tensor, config: LossConfig) -> dict[str, Tensor]:
    """Overlaps (Å) of atoms in different residues (equation 46).

    The spheres may overlap by `clash_overlap_tolerance`; the peptide bond is exempt.
    DISCREPANCY: as in DeepMind's code so is every pair of atoms in the slot of
    cysteine's SG, whatever the residue types.

    DISCREPANCY: DeepMind's code, and so `violations_as_released`, takes residues of equal number
    in two chains for one residue: it does not see them clash, as they do where copies of a
    chain touch each other on their axis.

    Args:
        positions: [R, 14, 3] Å; batch: `atom14_atom_exists`, `residue_index`, `aatype`, with
        `by_chain` also `asym_id`.
    """
    num_res = positions.shape[0]
    exists = ops.reshape(batch["atom14_atom_exists"], (-1,))
    radius = ops.reshape(lookup(_RADIUS, batch["aatype"]), (-1,))
    residue = ops.repeat(batch["residue_index"], 14)
    flat = ops.reshape(positions, (-1, 3))  # [R, 14, 3] -> [R 14, 3]
    is_c, is_n, is_sg = (
        ops.convert_to_tensor(np.tile(np.arange(14) == slot, num_res)) for slot in (_C, _N, _SG)
    )

    # All arrays below are [p, q] over the R 14 atoms, symmetric, and made of vectors
    # in the graph, so that XLA fuses them into the sums.
    def both(row: Tensor, column: Tensor) -> Tensor:
        return ops.logical_and(row[:, None], column[None, :])

    step = residue[None, :] - residue[:, None]
    same_residue = ops.equal(step, 0)
    bonded = ops.logical_or(
        ops.logical_and(ops.equal(step, 1), both(is_c, is_n)),
        ops.logical_and(ops.equal(step, -1), both(is_n, is_c)),
    )
    if config.by_chain:
        chain = ops.repeat(batch["asym_id"], 14)
        same_chain = ops.equal(chain[None, :], chain[:, None])
        bonded = ops.logical_and(bonded, same_chain)
        if not config.violations_as_released:
            same_residue = ops.logical_and(same_residue, same_chain)
    exempt = ops.logical_or(ops.logical_or(same_residue, bonded), both(is_sg, is_sg))
    counted = ops.where(exempt, 0.0, exists[:, None] * exists[None, :])

    distance_sq = 1e-10
    for x in range(3):
        distance_sq += ops.square(flat[:, None, x] - flat[None, :, x])
    allowed = radius[:, None] + radius[None, :] - config.clash_overlap_tolerance
    overlap = counted * ops.relu(allowed - ops.sqrt(distance_sq))
    per_atom = ops.sum(overlap, axis=-1)
    clashing = ops.max(ops.cast(overlap > 0.0, "float32"), axis=-1)
    return {
        "clashes_mean_loss": ops.sum(per_atom) / (2e-6 + ops.sum(counted)),
        "clashes_per_atom_loss_sum": ops.reshape(per_atom, (num_res, 14)),
        "clashes_per_atom_clash_mask": ops.reshape(clashing, (num_res, 14)),
    }


def within_residue_violations(
    batch: Tensors, positions: Tensor, config: LossConfig
) -> dict[str, Tensor]:
    """Distances (Å) out of bounds within residues: bonds, angles and clashes.

    Args:
        positions: [R, 14, 3] Å; batch: `atom14_atom_exists`, `aatype`.
    """
    bounds = chemistry.make_atom14_dists_bounds(
        config.clash_overlap_tolerance, config.violation_tolerance_factor
    )
    lower = lookup(bounds["lower_bound"], batch["aatype"])
    upper = lookup(bounds["upper_bound"], batch["aatype"])
    exists = batch["atom14_atom_exists"]
    counted = exists[:, :, None] * exists[:, None, :] * (1.0 - np.eye(14, dtype=np.float32))
    offset = positions[:, :, None] - positions[:, None]
    distance = ops.sqrt(1e-10 + ops.sum(ops.square(offset), axis=-1))
    loss = counted * (ops.relu(lower - distance) + ops.relu(distance - upper))
    return {
        # A pair counts for either atom, and twice: (i, j) and (j, i).
        "per_atom_loss_sum": 2.0 * ops.sum(loss, axis=-1),
        "per_atom_violations": ops.max(ops.cast(loss > 0.0, "float32"), axis=-1),
    }


def find_violations(batch: Tensors, positions: Tensor, config: LossConfig) -> dict[str, Tensor]:
    """All violations of predicted positions [R, 14, 3] in Å.

    Returns `between_residues/…`, `within_residues/…` and
    `total_per_residue_violations_mask` [R].
    """
    connections = connection_violations(batch, positions, config)
    clashes = clash_violations(batch, positions, config)
    within = within_residue_violations(batch, positions, config)
    total = ops.maximum(
        connections["connections_per_residue_violation_mask"],
        ops.max(
            ops.maximum(clashes["clashes_per_atom_clash_mask"], within["per_atom_violations"]),
            axis=-1,
        ),
    )
    result = {f"between_residues/{k}": v for k, v in {**connections, **clashes}.items()}
    result |= {f"within_residues/{k}": v for k, v in within.items()}
    result["total_per_residue_violations_mask"] = total
    return result


def violation_metrics(
    batch: Tensors, positions: Tensor, violations: Tensors, config: LossConfig
) -> dict[str, Tensor]:
    """Shares (0..1) of residues with a violation of each kind.

    Of neighbouring residues: those whose peptide bond, or an angle at it, is out of
    bounds, and Cα-Cα breaks.
    """
    seen = batch["atom14_atom_exists"]
    step = positions[1:, _CA] - positions[:-1, _CA]
    distance = ops.sqrt(1e-6 + ops.sum(ops.square(step), axis=-1))
    broken = ops.cast(distance - chemistry.CA_CA_DISTANCE > _MAX_CA_CA_EXCESS, "float32")
    neighbours = seen[:-1, _CA] * seen[1:, _CA] * _consecutive(batch, config)
    residues = {
        "between_residue_bond": violations[
            "between_residues/connections_per_residue_violation_mask"
        ],
        "between_residue_clash": ops.max(
            violations["between_residues/clashes_per_atom_clash_mask"], axis=-1
        ),
        "within_residue": ops.max(violations["within_residues/per_atom_violations"], axis=-1),
        "per_residue": violations["total_per_residue_violations_mask"],
    }
    result = {
        f"violations_{name}": masked_mean(values, batch["seq_mask"], 1e-10)
        for name, values in residues.items()
    }
    angles = [violations[f"between_residues/angles_{x}_violations"] for x in ("ca_c_n", "c_n_ca")]
    pairs = {
        "extreme_ca_ca_distance": broken,
        "bond_length": violations["between_residues/bonds_c_n_violations"],
        "bond_angle": ops.maximum(*angles),
    }
    return result | {
        f"violations_{name}": masked_mean(values, neighbours, 1e-10)
        for name, values in pairs.items()
    }


def violation_loss(
    outputs: Tensors, batch: Tensors, config: LossConfig, heads: HeadsConfig
) -> dict[str, Tensor]:
    """Bond, angle and clash losses of the final structure (equation 47).

    DISCREPANCY: as in DeepMind's code clashes are summed and divided by the
    number of atoms, and within-residue bounds count as clashes.
    """
    positions = outputs["structure_module"]["sidechains"]["atom_pos"][-1]
    found = find_violations(batch, positions, config)
    clashes = ops.sum(
        found["between_residues/clashes_per_atom_loss_sum"]
        + found["within_residues/per_atom_loss_sum"]
    ) / (1e-6 + ops.sum(batch["atom14_atom_exists"]))
    bonds = [
        found[f"between_residues/{name}_loss_mean"]
        for name in ("bonds_c_n", "angles_ca_c_n", "angles_c_n_ca")
    ]
    metrics = violation_metrics(batch, positions, found, config)
    return {
        "loss": sum(bonds) + clashes,
        **{f"violations/{k}": v for k, v in found.items() if len(v.shape) == 0},
        **{f"metrics/{k}": v for k, v in metrics.items()},
    }
