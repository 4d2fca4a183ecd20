"""The supplement's structure module, trunk and whole network in plain NumPy, see ``paper``."""

from __future__ import annotations

import numpy as np
from paper import (
    TEMPLATE_FEATURES,
    blocks,
    distogram,
    evoformer_block,
    extra_msa_feat,
    input_embedder,
    layer_norm,
    linear,
    predicted_lddt,
    recycling_embedder,
    relu,
    residual,
    single_template_embedding,
    softmax,
    template_angle_rows,
    template_pair_feat,
    template_pointwise_attention,
)
from paper_complexes import attention_inputs
from paper_geometry import compute_all_atom_coordinates, quaternion_product, rotation

einsum = np.einsum


def joint_attention_inputs(w, s, rot, trans, c):
    """Algorithm 22, lines 1 to 3, where keys and values have one projection."""

    def heads(name):
        return linear(w[name], s).reshape(len(s), c.num_head, -1)

    def points(name):
        # DeepMind's order of channels: x, y, z outermost.
        local = linear(w[name], s).reshape(len(s), 3, c.num_head, -1)
        local = einsum("ixhp->ihpx", local)
        return einsum("ixy,ihpy->ihpx", rot, local) + trans[:, None, None]

    q, kv = heads("q_scalar"), heads("kv_scalar")
    k, v = kv[..., : c.num_scalar_qk], kv[..., c.num_scalar_qk :]  # 1
    q_p, kv_p = points("q_point_local"), points("kv_point_local")
    return q, k, v, q_p, kv_p[:, :, : c.num_point_qk], kv_p[:, :, c.num_point_qk :]  # 2, 3


def invariant_point_attention(w, s, z, mask, rot, trans, c):
    """Algorithm 22 with frames x -> rot x + trans; ``c``: the structure module's settings."""
    n_q = c.num_point_qk
    if "q_scalar_projection" in w:
        q, k, v, q_p, k_p, v_p = attention_inputs(w, s, rot, trans)
    else:
        q, k, v, q_p, k_p, v_p = joint_attention_inputs(w, s, rot, trans, c)
    b = linear(w["attention_2d"], z)  # 4
    w_c, w_l = np.sqrt(2.0 / (9.0 * n_q)), np.sqrt(1.0 / 3.0)  # 5, 6
    gamma = np.log1p(np.exp(w["trainable_point_weights"]))
    distance_sq = ((q_p[:, None] - k_p[None, :]) ** 2).sum(axis=(-1, -2))
    logits = einsum("ihd,jhd->ijh", q, k) / np.sqrt(c.num_scalar_qk) + b
    logits = w_l * (logits - gamma * w_c / 2.0 * distance_sq)
    a = softmax(logits, 1, mask[None, :, None])  # 7
    over_pair = einsum("ijh,ijc->ihc", a, z)  # 8
    scalar = einsum("ijh,jhd->ihd", a, v)  # 9
    world = einsum("ijh,jhpx->ihpx", a, v_p)
    point = einsum("iyx,ihpy->ihpx", rot, world - trans[:, None, None])  # 10
    length = np.sqrt((point**2).sum(-1) + 1e-8)
    parts = [scalar, *(point[..., x] for x in range(3)), length, over_pair]
    parts = [p.reshape(len(s), -1) for p in parts]
    return linear(w["output_projection"], np.concatenate(parts, axis=-1))  # 11


def rotation_of(orientation):
    """The rotation of quaternions [i, 4]; rotations [i, 3, 3] stay."""
    return rotation(orientation) if orientation.ndim == 2 else orientation


def backbone_update(w, s, orientation, trans):
    """Algorithm 23 and the composition T o (R, t), of quaternions or of rotations."""
    update = linear(w, s)  # 1
    small = np.concatenate([np.ones((len(s), 1)), update[:, :3]], axis=-1)
    small = small / np.linalg.norm(small, axis=-1, keepdims=True)  # 2
    moved = trans + einsum("ixy,iy->ix", rotation_of(orientation), update[:, 3:])  # 3, 4
    if orientation.ndim == 3:
        return einsum("ixy,iyz->ixz", orientation, rotation(small)), moved
    return quaternion_product(orientation, small), moved


def torsion_net(w, s, s_initial, num_block=2):
    """Algorithm 20, lines 11 to 14; the inputs pass a ReLU first, as in DeepMind's code."""
    a = linear(w["input_projection"], relu(s)) + linear(w["input_projection_1"], relu(s_initial))
    for suffix in ["", *(f"_{i}" for i in range(1, num_block))]:
        inner = linear(w["resblock1" + suffix], relu(a))
        a = a + linear(w["resblock2" + suffix], relu(inner))  # 12, 13
    return linear(w["unnormalized_angles"], relu(a)).reshape(len(s), 7, 2)  # 14


def fold_iteration(w, s, s_initial, z, quat, trans, mask, c, drops=(None, None), rate=0.0):
    """Algorithm 20, lines 6 to 14."""
    inner = w["invariant_point_attention"]
    s = s + invariant_point_attention(inner, s, z, mask, rotation_of(quat), trans, c)  # 6
    s = layer_norm(w["attention_layer_norm"], residual(0.0, s, drops[0], rate))  # 7
    a = relu(linear(w["transition"], s))
    a = relu(linear(w["transition_1"], a))
    s = residual(0.0, s + linear(w["transition_2"], a), drops[1], rate)  # 8
    s = layer_norm(w["transition_layer_norm"], s)  # 9
    update = w["quat_rigid"]["rigid"] if "quat_rigid" in w else w["affine_update"]
    quat, trans = backbone_update(update, s, quat, trans)  # 10
    return s, quat, trans, torsion_net(w["rigid_sidechain"], s, s_initial)


def structure_module(w, s_initial, z, aatype, mask, c, rotations=None):
    """Algorithm 20 without its losses; ``rotations`` [l, ...] stand in for each layer's incoming.

    So they do not move with what is before them, which is what line 20 asks of gradients.
    """
    s_initial = layer_norm(w["single_layer_norm"], s_initial)  # 1
    z = layer_norm(w["pair_layer_norm"], z)  # 2
    s = linear(w["initial_projection"], s_initial)  # 3
    start = np.eye(3) if c.rotation_matrices else np.array([1.0, 0.0, 0.0, 0.0])
    quat, trans = np.broadcast_to(start, (len(s), *start.shape)), np.zeros((len(s), 3))  # 4
    layers = []
    for number in range(c.num_layer):  # 5
        if rotations is not None:
            quat = rotations[number]  # 20
        s, quat, trans, raw = fold_iteration(
            w["fold_iteration"], s, s_initial, z, quat, trans, mask, c
        )
        angles = raw / np.linalg.norm(raw, axis=-1, keepdims=True)
        frames, atoms = compute_all_atom_coordinates(
            aatype, rotation_of(quat), trans * c.position_scale, angles
        )  # 24
        place = trans * c.position_scale
        place = place[..., None] if c.rotation_matrices else place
        traj = np.concatenate([quat, place], axis=-1)
        layers.append((traj, raw, angles, frames[..., :3, :3], frames[..., :3, 3], atoms))
    names = ("traj", "raw", "angles", "rot", "trans", "atoms")
    return dict(zip(names, map(np.stack, zip(*layers, strict=True)), strict=True)) | {"act": s}


def embeddings_and_evoformer(w, batch, previous):
    """Algorithm 2, lines 5 to 17, and Algorithm 6, line 12."""
    m, z = input_embedder(w, batch["target_feat"], batch["msa_feat"], batch["residue_index"])  # 5
    m_1, update = recycling_embedder(w, batch["aatype"], *previous)  # 6
    m[0], z = m[0] + m_1, z + update
    pair_mask = einsum("i,j->ij", batch["seq_mask"], batch["seq_mask"])
    templates = [batch[f"template_{name}"] for name in TEMPLATE_FEATURES]
    rows, rows_mask = template_angle_rows(w, *templates[:3])  # 7
    inner = w["template_embedding"]
    t = template_pair_feat(*templates)
    t = single_template_embedding(inner["single_template_embedding"], t, pair_mask)  # 9 to 12
    z = z + template_pointwise_attention(inner["attention"], z, t, batch["template_mask"])  # 13
    features = (batch[f"extra_{name}"] for name in ("msa", "has_deletion", "deletion_value"))
    e = linear(w["extra_msa_activations"], extra_msa_feat(*features))  # 14
    for block in blocks(w["extra_msa_stack"]):  # 15, 16
        e, z = evoformer_block(block, e, z, batch["extra_msa_mask"], pair_mask, extra=True)
    m = np.concatenate([m, rows])  # 8
    msa_mask = np.concatenate([batch["msa_mask"], rows_mask])
    for block in blocks(w["evoformer_iteration"]):  # 17
        m, z = evoformer_block(block, m, z, msa_mask, pair_mask)
    single = linear(w["single_activations"], m[0])
    return {"single": single, "pair": z, "msa": m[: len(batch["msa_feat"])], "msa_first_row": m[0]}


def alphafold_iteration(w, batch, previous, c):
    """Algorithm 2, lines 5 to 21, and the heads' logits (supplement 1.9)."""
    found = embeddings_and_evoformer(w["evoformer"], batch, previous)
    structure = structure_module(
        w["structure_module"], found["single"], found["pair"], batch["aatype"], batch["seq_mask"], c
    )
    return found | {
        "atoms": structure["atoms"][-1],
        "distogram": distogram(w["distogram_head"], found["pair"]),
        "masked_msa": linear(w["masked_msa_head"]["logits"], found["msa"]),
        "predicted_lddt": predicted_lddt(w["predicted_lddt_head"], structure["act"]),
        "experimentally_resolved": linear(
            w["experimentally_resolved_head"]["logits"], found["single"]
        ),
        "predicted_aligned_error": linear(
            w["predicted_aligned_error_head"]["logits"], found["pair"]
        ),
    }
