"""The supplement's geometry in plain NumPy (Algorithms 21, 23 to 25, 32)."""

from __future__ import annotations

import numpy as np

from records import chemistry

einsum = np.einsum


def rigid_from_3_points(x1, x2, x3):
    """Algorithm 21."""
    v1, v2 = x3 - x2, x1 - x2  # 1, 2
    e1 = v1 / np.sqrt((v1**2).sum(-1, keepdims=True) + 1e-8)  # 3
    u2 = v2 - e1 * (e1 * v2).sum(-1, keepdims=True)  # 4
    e2 = u2 / np.sqrt((u2**2).sum(-1, keepdims=True) + 1e-8)  # 5
    return np.stack([e1, e2, np.cross(e1, e2)], axis=-1), x2  # 6 to 8


def distance_bins(x, first, last, num):
    """Algorithm 32, lines 1 and 2, with DeepMind's bins: one-hot between edges, the last open."""
    d = np.sqrt(((x[..., :, None, :] - x[..., None, :, :]) ** 2).sum(-1))[..., None]
    edges = np.linspace(first, last, num)
    return ((d > edges) & (d < np.append(edges[1:], 1e4))).astype(float)


def pseudo_beta(aatype, x):
    """Cβ, or Cα of glycine."""
    is_glycine = (aatype == chemistry.RESTYPE_ORDER["G"])[..., None]
    return np.where(
        is_glycine, x[..., chemistry.ATOM_ORDER["CA"], :], x[..., chemistry.ATOM_ORDER["CB"], :]
    )


def dihedral(a, b, c, d):
    """(sin, cos) of the torsion angle about b-c, by the book."""
    u, v, w = b - a, c - b, d - c
    n1, n2 = np.cross(u, v), np.cross(v, w)
    sine = np.linalg.norm(v, axis=-1) * (u * n2).sum(-1)
    cosine = (n1 * n2).sum(-1)
    length = np.sqrt(sine**2 + cosine**2)
    return np.stack([sine, cosine], axis=-1) / np.where(length > 0, length, 1.0)[..., None]


def torsion_angles(aatype, x, atom_mask):
    """Seven (sin, cos), the same with ambiguous angles turned, and which are defined.

    Undefined ones are (1, 0). Psi is measured with O, half a turn from the next N.
    """
    n, ca, c, o = (chemistry.ATOM_ORDER[name] for name in ("N", "CA", "C", "O"))
    rows = np.arange(len(aatype))
    angle = np.tile([1.0, 0.0], (len(aatype), 7, 1))
    defined = np.zeros((len(aatype), 7))
    for i, letter in zip(rows, np.minimum(aatype, 20), strict=True):
        quadruples = {2: [(i, n), (i, ca), (i, c), (i, o)]}
        if i > 0:
            quadruples[0] = [(i - 1, ca), (i - 1, c), (i, n), (i, ca)]
            quadruples[1] = [(i - 1, c), (i, n), (i, ca), (i, c)]
        for number in range(4):
            if chemistry.CHI_MASK[letter, number]:
                chosen = chemistry.CHI_ATOM_INDICES[letter, number]
                quadruples[3 + number] = [(i, atom) for atom in chosen]
        for number, four in quadruples.items():
            if all(atom_mask[at] for at in four):
                angle[i, number] = dihedral(*(x[at] for at in four)) * (-1 if number == 2 else 1)
                defined[i, number] = 1.0
    turn = np.ones((len(aatype), 7))
    turn[:, 3:] -= 2.0 * chemistry.CHI_PI_PERIODIC[np.minimum(aatype, 20)]
    other = np.where(defined[..., None] > 0, angle * turn[..., None], angle)
    return angle, other, defined


def quaternion_product(a, b):
    """Hamilton's product of [i, 4] (w, x, y, z)."""
    scalar = a[:, :1] * b[:, :1] - (a[:, 1:] * b[:, 1:]).sum(-1, keepdims=True)
    vector = a[:, :1] * b[:, 1:] + b[:, :1] * a[:, 1:] + np.cross(a[:, 1:], b[:, 1:])
    return np.concatenate([scalar, vector], axis=-1)


def rotation(quat):
    """Algorithm 23, line 3."""
    a, b, c, d = quat.T
    rows = [
        [a**2 + b**2 - c**2 - d**2, 2 * b * c - 2 * a * d, 2 * b * d + 2 * a * c],
        [2 * b * c + 2 * a * d, a**2 - b**2 + c**2 - d**2, 2 * c * d - 2 * a * b],
        [2 * b * d - 2 * a * c, 2 * c * d + 2 * a * b, a**2 - b**2 - c**2 + d**2],
    ]
    return einsum("xyi->ixy", np.array(rows))


def make_rot_x(sine, cosine):
    """Algorithm 25 as a 4 x 4 matrix."""
    matrix = np.eye(4)
    matrix[1:3, 1:3] = [[cosine, -sine], [sine, cosine]]
    return matrix


def compute_all_atom_coordinates(aatype, rot, trans, angles):
    """Algorithm 24: frames [i, 8, 4, 4] and atoms [i, 14, 3]."""
    frames = np.tile(np.eye(4), (len(aatype), 8, 1, 1))
    atoms = np.zeros((len(aatype), 14, 3))
    frames[:, 0, :3, :3], frames[:, 0, :3, 3] = rot, trans
    for i, letter in enumerate(aatype):
        literature = chemistry.RIGID_GROUP_DEFAULT_FRAME[letter]
        for group in range(1, 8):
            parent = group - 1 if group > 4 else 0
            turn = make_rot_x(*angles[i, group - 1])
            frames[i, group] = frames[i, parent] @ literature[group] @ turn  # 3 to 10
        for atom in np.flatnonzero(chemistry.RESTYPE_ATOM14_MASK[letter]):
            place = np.append(chemistry.ATOM14_IDEAL_POSITIONS[letter, atom], 1.0)
            group = chemistry.ATOM14_TO_RIGID_GROUP[letter, atom]
            atoms[i, atom] = (frames[i, group] @ place)[:3]  # 11
    return frames, atoms


def atom37(aatype, atoms):
    """[i, 14, 3] -> [i, 37, 3]; atoms that a residue lacks are zero."""
    places = np.zeros((len(aatype), 37, 3))
    for i, letter in enumerate(aatype):
        for number in np.flatnonzero(chemistry.RESTYPE_ATOM37_MASK[letter]):
            places[i, number] = atoms[i, chemistry.RESTYPE_ATOM37_TO_ATOM14[letter, number]]
    return places
