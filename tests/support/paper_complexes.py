"""What AlphaFold-Multimer does otherwise, in plain NumPy, see ``paper`` (Evans et al. 2021)."""

from __future__ import annotations

import numpy as np
from paper import blocks, layer_norm, linear, one_hot, relu, template_pair_block
from paper_geometry import distance_bins, rigid_from_3_points, torsion_angles

from records import chemistry

einsum = np.einsum


def relative_encoding(w, residue_index, asym_id, entity_id, sym_id, num_clip=32, max_copy=2):
    """Positions within chains, and copies of one entity."""

    def bins(index, known, bound):
        d = np.clip(index[:, None] - index[None, :] + bound, 0, 2 * bound)
        return one_hot(np.where(known, d, 2 * bound + 1), 2 * bound + 2)

    chain, entity = (x[:, None] == x[None, :] for x in (asym_id, entity_id))
    features = [bins(residue_index, chain, num_clip), entity[..., None]]
    features.append(bins(sym_id, entity, max_copy))
    return linear(w["position_activations"], np.concatenate(features, axis=-1))


def template_pair_embedding(w, z, chain, aatype, x, atom_mask, beta, beta_mask, bins=39):
    """The features of [s, i, j], each with a linear map of its own."""
    same = (chain[:, None] == chain[None, :]).astype(float)
    n, ca, c = (chemistry.ATOM_ORDER[name] for name in ("N", "CA", "C"))
    known = atom_mask[..., n] * atom_mask[..., ca] * atom_mask[..., c]
    known = einsum("si,sj,ij->sij", known, known, same)
    beta_known = einsum("si,sj,ij->sij", beta_mask, beta_mask, same)
    rot, origin = rigid_from_3_points(x[..., n, :], x[..., ca, :], x[..., c, :])
    toward = einsum("sixy,sijx->sijy", rot, origin[:, None] - origin[:, :, None])
    unit = toward / np.sqrt((toward**2).sum(-1, keepdims=True) + 1e-6)
    letters = one_hot(aatype, 22)
    parts = [
        distance_bins(beta, 3.25, 50.75, bins) * beta_known[..., None],
        beta_known,
        letters[:, None, :],  # of j
        letters[:, :, None],  # of i
        *(known * unit[..., axis] for axis in range(3)),
        known,
        layer_norm(w["query_embedding_norm"], z)[None],
    ]
    total = 0.0
    for number, part in enumerate(parts):
        inner = w[f"template_pair_embedding_{number}"]
        if part.ndim == 3:
            total = total + part[..., None] * inner["weights"] + inner["bias"]
        else:
            total = total + linear(inner, part)
    return total


def single_template_embedding(w, z, mask, chain, *templates):
    """Each template's pairs, [s, i, j, c]."""
    t = template_pair_embedding(w, z, chain, *templates)
    for block in blocks(w["template_embedding_iteration"]):
        t = template_pair_block(block, t, mask, attend_first=False)
    return layer_norm(w["output_layer_norm"], t)


def average_template_embedding(w, z, mask, chain, *templates):
    """What the templates add to the pair."""
    t = single_template_embedding(w["single_template_embedding"], z, mask, chain, *templates)
    return linear(w["output_linear"], relu(t.mean(axis=0)))


def template_chi_rows(w, aatype, x, atom_mask):
    """Rows of χ angles, and their mask (χ1 is defined)."""
    found = [torsion_angles(*template) for template in zip(aatype, x, atom_mask, strict=True)]
    angle, _, defined = (np.stack(values)[:, :, 3:] for values in zip(*found, strict=True))
    features = [one_hot(aatype, 22), *(defined * angle[..., x] for x in range(2)), defined]
    a = linear(w["template_single_embedding"], np.concatenate(features, axis=-1))
    return linear(w["template_projection"], relu(a)), defined[..., 0]


def global_points(w, s, rot, trans):
    """[i, h, p, 3] of a point projection; x, y, z are the outer of its last axis."""
    local = linear(w["point_projection"], s)
    local = local.reshape(*local.shape[:2], 3, -1)
    return einsum("ixy,ihyp->ihpx", rot, local) + trans[:, None, None]


def attention_inputs(w, s, rot, trans):
    """Queries, keys and values, then their points, of projections that stand apart."""
    scalars = [linear(w[f"{x}_scalar_projection"], s) for x in "qkv"]
    return scalars + [global_points(w[f"{x}_point_projection"], s, rot, trans) for x in "qkv"]
