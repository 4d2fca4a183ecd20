"""The labels of a crop, from its true atoms (supplement 1.8.4, 1.8.5, 1.9)."""

from __future__ import annotations

from typing import Any

import tensorflow as tf

from tffold import geometry

Tensor = Any


def structure_labels(aatype: Tensor, positions: Tensor, mask: Tensor) -> dict[str, Tensor]:
    """Frames, torsions, atom14 positions and Cβ of the true structure.

    Computed on the cropped residues, so that a torsion that needs a residue
    outside the crop does not exist.

    Args:
        aatype: [R] int32 in 0..20; positions: [R, 37, 3] Å; mask: [R, 37] float32.

    Returns: the label features of ``records.schema`` that depend on atoms.
    """
    torsions = geometry.atom37_to_torsion_angles(aatype, positions, mask)
    frames = geometry.atom37_to_frames(aatype, positions, mask)
    chi, chi_mask = geometry.chi_angles(torsions)
    beta, beta_mask = geometry.pseudo_beta(aatype, positions, mask)
    return {
        "all_atom_positions": positions,
        "all_atom_mask": mask,
        "pseudo_beta": beta,
        "pseudo_beta_mask": beta_mask,
        "backbone_affine_tensor": geometry.backbone_affine(frames["rigidgroups_gt_frames"]),
        "backbone_affine_mask": frames["rigidgroups_gt_exists"][..., 0],
        **frames,
        **geometry.make_atom14_positions(aatype, positions, mask),
        "chi_angles": chi,
        "chi_mask": chi_mask,
    }


def confident_atoms(
    mask: Tensor, confidence: Tensor, is_distillation: Tensor, least: float
) -> Tensor:
    """The atom mask [R, 37] without a predicted structure's uncertain residues (supplement 1.3).

    DISCREPANCY: the paper masks residues by the divergence of the predicted
    distogram from a reference, which no public data set carries; pLDDT above
    ``least`` takes its place, as in OpenFold's and MLPerf's training.
    """
    trusted = (confidence > least) | (tf.cast(is_distillation, tf.int32) == 0)
    return tf.cast(mask, tf.float32) * tf.cast(trusted, tf.float32)[:, None]
