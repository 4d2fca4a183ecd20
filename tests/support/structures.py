"""A small batch of labels and the outputs of a perfect or disturbed prediction of it."""

from __future__ import annotations

from typing import Any

import numpy as np
import tensorflow as tf

from tffold import geometry
from tffold.config import HeadsConfig
from tffold.geometry import rigid


def labels(
    aatype: np.ndarray, positions: np.ndarray, mask: np.ndarray, residue_index: np.ndarray
) -> dict[str, Any]:
    """A batch without cycle axis and MSA: all labels of atom37 positions [R, 37, 3]."""
    batch: dict[str, Any] = {
        "aatype": aatype,
        "residue_index": residue_index,
        "seq_mask": np.ones(len(aatype), "float32"),
        "all_atom_positions": positions,
        "all_atom_mask": mask,
        "resolution": np.float32(2.0),
        "use_clamped_fape": np.float32(1.0),
    }
    batch |= geometry.make_atom14_masks(aatype)
    batch |= geometry.make_atom14_positions(aatype, positions, mask)
    batch |= geometry.atom37_to_frames(aatype, positions, mask)
    torsions = geometry.atom37_to_torsion_angles(aatype, positions, mask)
    batch["torsion_angles_sin_cos"] = torsions["torsion_angles_sin_cos"]
    batch["chi_angles"], batch["chi_mask"] = geometry.chi_angles(torsions)
    batch["backbone_affine_tensor"] = geometry.backbone_affine(batch["rigidgroups_gt_frames"])
    batch["backbone_affine_mask"] = batch["rigidgroups_gt_exists"][..., 0]
    batch["pseudo_beta"], batch["pseudo_beta_mask"] = geometry.pseudo_beta(aatype, positions, mask)
    return {name: tf.convert_to_tensor(value) for name, value in batch.items()}


def structure_outputs(
    batch: dict[str, Any], traj: Any, angles: Any, raw_angles: Any = None
) -> dict[str, Any]:
    """The structure module's outputs for backbones [L, R, 7] and torsions [L, R, 7, 2]."""
    aatype = batch["aatype"]
    backbone = rigid.from_tensor_7(traj)
    frames = geometry.torsion_angles_to_frames(aatype, backbone, angles)
    atom14 = geometry.frames_to_atom14_positions(aatype, frames)
    return {
        "traj": traj,
        "backbone": backbone,
        "final_affines": traj[-1],
        "final_atom14_positions": atom14[-1],
        "final_atom_positions": geometry.atom14_to_atom37(atom14[-1], batch),
        "sidechains": {
            "angles_sin_cos": angles,
            "unnormalized_angles_sin_cos": angles if raw_angles is None else raw_angles,
            "frames": frames,
            "atom_pos": atom14,
        },
    }


def random_protein(seed: int = 0, num_res: int = 12, aatype: Any = None) -> dict[str, Any]:
    """A batch whose truth was built from backbone frames on a loose helix and random torsions.

    Also holds `true_traj` [1, R, 7] and `true_angles` [1, R, 7, 2], which build it.
    """
    rng = np.random.default_rng(seed)
    if aatype is None:
        aatype = rng.permutation(np.arange(num_res) % 20).astype(np.int32)
    aatype = np.asarray(aatype, np.int32)
    num_res = len(aatype)
    quat = rng.standard_normal((num_res, 4)).astype("float32")
    quat /= np.linalg.norm(quat, axis=-1, keepdims=True)
    turn = np.arange(num_res)
    trans = np.stack([6 * np.cos(turn), 6 * np.sin(turn), 3.0 * turn], axis=-1).astype("float32")
    traj = tf.constant(np.concatenate([quat, trans], axis=-1)[None])
    angle = rng.uniform(-np.pi, np.pi, (1, num_res, 7)).astype("float32")
    angles = tf.constant(np.stack([np.sin(angle), np.cos(angle)], axis=-1))
    masks = geometry.make_atom14_masks(aatype)
    built = structure_outputs({"aatype": aatype, **masks}, traj, angles)
    batch = labels(
        aatype,
        np.asarray(built["final_atom_positions"]),
        np.asarray(masks["atom37_atom_exists"]),
        np.arange(num_res, dtype=np.int32),
    )
    return batch | {"true_traj": traj, "true_angles": angles}


def add_heads(
    outputs: dict[str, Any], batch: dict[str, Any], seed: int = 0, num_rows: int = 3
) -> None:
    """Give `outputs` random logits of every other head, and `batch` masked MSA labels."""
    rng = np.random.default_rng(seed)
    heads = HeadsConfig()
    num_res = batch["aatype"].shape[0]
    shapes = {
        "distogram": (num_res, num_res, heads.distogram_num_bins),
        "masked_msa": (num_rows, num_res, heads.masked_msa_num_output),
        "predicted_lddt": (num_res, heads.predicted_lddt_num_bins),
        "predicted_aligned_error": (
            num_res,
            num_res,
            heads.predicted_aligned_error_num_bins,
        ),
        "experimentally_resolved": (num_res, 37),
    }
    for name, shape in shapes.items():
        outputs[name] = {"logits": tf.constant(rng.standard_normal(shape).astype("float32"))}
    batch["true_msa"] = tf.constant(rng.integers(0, 22, (num_rows, num_res)).astype("int32"))
    masked = rng.random((num_rows, num_res)) < 0.5
    batch["bert_mask"] = tf.constant(masked.astype("float32"))
