"""Geometry of protein structures, in `keras.ops` alone.

Everything works eagerly, under XLA and inside tf.data, and takes any number of
leading axes.  Coordinates are in Å unless a name says otherwise.
"""

from tffold.geometry import rigid
from tffold.geometry.atoms import (
    atom14_to_atom37,
    make_atom14_masks,
    make_atom14_positions,
    pseudo_beta,
)
from tffold.geometry.distances import (
    bin_index,
    dgram,
    pairwise_distances,
    pairwise_distances_sq,
)
from tffold.geometry.frames import (
    atom37_to_frames,
    backbone_affine,
    frames_to_atom14_positions,
    torsion_angles_to_frames,
)
from tffold.geometry.lddt import lddt, lddt_per_residue
from tffold.geometry.rigid import QuatAffine, Rigid
from tffold.geometry.superposition import rmsd, superpose, superposed_rmsd
from tffold.geometry.torsions import atom37_to_torsion_angles, chi_angles

__all__ = [
    "QuatAffine",
    "Rigid",
    "atom14_to_atom37",
    "atom37_to_frames",
    "atom37_to_torsion_angles",
    "backbone_affine",
    "bin_index",
    "chi_angles",
    "dgram",
    "frames_to_atom14_positions",
    "lddt",
    "lddt_per_residue",
    "make_atom14_masks",
    "make_atom14_positions",
    "pairwise_distances",
    "pairwise_distances_sq",
    "pseudo_beta",
    "rigid",
    "rmsd",
    "superpose",
    "superposed_rmsd",
    "torsion_angles_to_frames",
]
