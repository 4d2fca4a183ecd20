"""Frame aligned point error (supplement 1.9.2, Algorithm 28)."""

from __future__ import annotations

from typing import Any

from keras import ops

from tffold.config import HeadsConfig, LossConfig
from tffold.geometry import Rigid, rigid
from tffold.losses.common import Tensors
from tffold.losses.renaming import rename_ground_truth

Tensor = Any


def _local_distance_sq(
    frames: Rigid, positions: Tensor, true_frames: Rigid, true_positions: Tensor
) -> Tensor:
    """Squared distances [..., i, p] in Å² between points as their frames see them.

    The distance between T_i^-1 x_p and T*_i^-1 x*_p is that between x_p and
    T_i T*_i^-1 x*_p, which costs half the arithmetic.  Written by coordinate, so
    that XLA fuses it with what follows and never holds an array [..., i, p, 3];
    and without a matrix product (see `tffold.geometry.rigid`).
    """
    motion = rigid.compose(frames, rigid.invert(true_frames))
    total = 0.0
    for x in range(3):
        difference = positions[..., None, :, x] - motion.trans[..., :, None, x]
        for y in range(3):
            difference -= motion.rot[..., :, None, x, y] * true_positions[..., None, :, y]
        total += ops.square(difference)
    return total


def frame_aligned_point_error(
    frames: Rigid,
    positions: Tensor,
    true_frames: Rigid,
    true_positions: Tensor,
    frames_mask: Tensor,
    positions_mask: Tensor,
    length_scale: float,
    clamp_distance: float,
    clamped: Tensor | float = 1.0,
    epsilon: float = 1e-4,
    pair_mask: Tensor | None = None,
    floor: bool = False,
) -> Tensor:
    """FAPE [...] of frames [..., i] and positions [..., p, 3], without unit (Algorithm 28).

        x_ij = T_i^-1 x_j                                               (1)
        x_ij^true = T_i^true^-1 x_j^true                                (2)
        d_ij = sqrt(|x_ij - x_ij^true|² + ε)                            (3)
        L = 1 / Z mean_ij(min(d_clamp, d_ij))                           (4)

    j counts the positions p; lines 1 and 2 are joined (see `_local_distance_sq`).

    Args:
        frames_mask: [i]; positions_mask: [p]; length_scale: Å per unit of loss;
        clamp_distance: Å, where errors are cut off;
        clamped: share of the clamped error in the result, the rest is unclamped;
        epsilon: Å² under the root, and beside the number of pairs;
        pair_mask: [i, p], which pairs count beside the masks; without any the result is 0;
        floor: line 3 is max(ε Å, |x_ij - x_ij^true|) instead, as in DeepMind's multimer code.
    """
    distance_sq = _local_distance_sq(frames, positions, true_frames, true_positions)
    if floor:
        distance = ops.sqrt(ops.maximum(distance_sq, epsilon**2))
    else:
        distance = ops.sqrt(distance_sq + epsilon)
    error = ops.minimum(distance, clamp_distance)
    if not isinstance(clamped, float):
        error = clamped * error + (1.0 - clamped) * distance
    elif clamped != 1.0:
        raise ValueError(f"clamped must be 1.0 or a tensor, not {clamped}")
    if pair_mask is not None:
        counted = frames_mask[:, None] * positions_mask[None, :] * pair_mask
        total = ops.sum(error * counted, axis=(-2, -1)) / length_scale
        return total / (epsilon + ops.sum(counted))
    total = ops.sum(error * positions_mask, axis=-1)  # [..., i]
    total = ops.sum(total * frames_mask, axis=-1) / length_scale
    return total / (epsilon + ops.sum(frames_mask) * ops.sum(positions_mask))


def backbone_fape(
    outputs: Tensors, batch: Tensors, config: LossConfig, heads: HeadsConfig
) -> dict[str, Tensor]:
    """FAPE of every layer's backbone frames and Cα (Algorithm 20, lines 17 and 23).

    Clamped in a share of the examples (supplement 1.11.5). `loss` is the mean over the
    layers, `fape` the last layer's value.

    With `by_chain` the sum of two means, over the pairs within chains and over those between
    chains, each with its own clamp and unit; both are always clamped (Evans et al. 2021).
    Returned beside the sum: `intra_chain_…` and `interface_…`.
    """
    frames = outputs["structure_module"]["backbone"]  # [layers, R]
    true_frames = rigid.from_tensor_7(batch["backbone_affine_tensor"])
    mask = batch["backbone_affine_mask"]
    compared = (frames, frames.trans, true_frames, true_frames.trans, mask, mask)
    if not config.by_chain:
        fape = frame_aligned_point_error(
            *compared,
            length_scale=config.fape_loss_unit_distance,
            clamp_distance=config.fape_clamp_distance,
            clamped=batch["use_clamped_fape"],
        )
        return {"loss": ops.mean(fape), "fape": fape[-1]}
    chain = batch["asym_id"]
    same_chain = ops.cast(ops.equal(chain[:, None], chain[None, :]), "float32")
    intra_chain = frame_aligned_point_error(
        *compared,
        length_scale=config.fape_loss_unit_distance,
        clamp_distance=config.fape_clamp_distance,
        pair_mask=same_chain,
        floor=True,
    )
    interface = frame_aligned_point_error(
        *compared,
        length_scale=config.interface_fape_loss_unit_distance,
        clamp_distance=config.interface_fape_clamp_distance,
        pair_mask=1.0 - same_chain,
        floor=True,
    )
    return {
        "loss": ops.mean(intra_chain + interface),
        "fape": intra_chain[-1] + interface[-1],
        "intra_chain_backbone_fape": ops.mean(intra_chain),
        "intra_chain_fape": intra_chain[-1],
        "interface_backbone_fape": ops.mean(interface),
        "interface_fape": interface[-1],
    }


def sidechain_fape(
    outputs: Tensors, batch: Tensors, config: LossConfig, heads: HeadsConfig
) -> dict[str, Tensor]:
    """Clamped FAPE of all rigid groups and atoms (Algorithm 20, line 28; Algorithm 26, line 7).

    Of the last layer's, whatever chains they are in.
    """
    structure = outputs["structure_module"]["sidechains"]
    frames, positions = structure["frames"], structure["atom_pos"]
    renamed = rename_ground_truth(batch, positions[-1])
    swap = renamed["alt_naming_is_better"][:, None, None]
    true_frames = rigid.from_tensor_12(
        (1.0 - swap) * batch["rigidgroups_gt_frames"] + swap * batch["rigidgroups_alt_gt_frames"]
    )

    def flat(r: Rigid) -> Rigid:
        # [R, 8, ...] -> [8 R, ...]
        return Rigid(ops.reshape(r.rot, (-1, 3, 3)), ops.reshape(r.trans, (-1, 3)))

    fape = frame_aligned_point_error(
        flat(Rigid(frames.rot[-1], frames.trans[-1])),
        ops.reshape(positions[-1], (-1, 3)),  # [R, 14, 3] -> [14 R, 3]
        flat(true_frames),
        ops.reshape(renamed["renamed_atom14_gt_positions"], (-1, 3)),
        ops.reshape(batch["rigidgroups_gt_exists"], (-1,)),
        ops.reshape(renamed["renamed_atom14_gt_exists"], (-1,)),
        length_scale=config.sidechain_fape_length_scale,
        clamp_distance=config.sidechain_fape_clamp_distance,
        floor=config.by_chain,
    )
    return {"loss": fape}
