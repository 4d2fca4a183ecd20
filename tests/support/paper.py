"""The supplement's layers in plain NumPy: what those of ``tffold.model`` are compared with.

Jumper et al. 2021, as printed there, in float64, with masks where the code has them (1 where a
position counts). ``w`` holds a layer's weights by DeepMind's names: w["logits"]["bias"]. The
numbers at the ends of lines are the algorithms' lines.
"""

from __future__ import annotations

import numpy as np
from paper_geometry import (
    distance_bins,
    pseudo_beta,
    rigid_from_3_points,
    torsion_angles,
)

from records import chemistry

einsum = np.einsum
TEMPLATE_FEATURES = (
    "aatype",
    "all_atom_positions",
    "all_atom_masks",
    "pseudo_beta",
    "pseudo_beta_mask",
)


def sigmoid(x):
    return 1.0 / (1.0 + np.exp(-x))


def relu(x):
    return np.maximum(x, 0.0)


def softmax(x, axis=-1, mask=1.0):
    """Over the positions whose mask is 1; uniform where there is none."""
    seen = np.broadcast_to(mask, x.shape) > 0
    x = np.where(seen, x, np.where(seen.any(axis=axis, keepdims=True), -np.inf, 0.0))
    e = np.exp(x - x.max(axis=axis, keepdims=True))
    return e / e.sum(axis=axis, keepdims=True)


def linear(w, x):
    shape = w["weights"].shape[1:]
    matrix = w["weights"].reshape(len(w["weights"]), -1)
    flat = einsum("...c,cd->...d", x, matrix)
    return flat.reshape(*flat.shape[:-1], *shape) + w.get("bias", 0.0)


def layer_norm(w, x):
    centred = x - x.mean(axis=-1, keepdims=True)
    variance = (centred**2).mean(axis=-1, keepdims=True)
    return w["scale"] * centred / np.sqrt(variance + 1e-5) + w["offset"]


def one_hot(x, num):
    return np.eye(num)[x]


def residual(x, update, drop=None, rate=0.0):
    """x + Dropout(update); ``drop`` is 1 where a value stays."""
    return x + update if drop is None else x + update * drop / (1.0 - rate)


def input_embedder(w, target_feat, msa_feat, residue_index, num_clip=32):
    """Algorithm 3 with 4 and 5."""
    a, b = linear(w["left_single"], target_feat), linear(w["right_single"], target_feat)  # 1
    z = a[:, None] + b[None, :]  # 2
    d = residue_index[:, None] - residue_index[None, :]  # 4: 1
    v_bins = np.arange(-num_clip, num_clip + 1)
    nearest = np.abs(d[..., None] - v_bins).argmin(axis=-1)  # 5: 2
    z = z + linear(w["pair_activiations"], one_hot(nearest, len(v_bins)))  # 3, 4: 2
    m = linear(w["preprocess_msa"], msa_feat) + linear(w["preprocess_1d"], target_feat)  # 4
    return m, z


def extra_msa_feat(extra_msa, has_deletion, deletion_value):
    """What Algorithm 2, line 14, embeds: [s, i, 25]."""
    letters = one_hot(extra_msa, 23)
    return np.concatenate([letters, has_deletion[..., None], deletion_value[..., None]], axis=-1)


def attention(w, x, y, bias=0.0, mask=1.0):
    """What 7, 8, 13, 14 and 17 share: x [..., i, c], y [..., j, c]; bias, mask: [..., i, j, h]."""
    q = einsum("...ic,chd->...ihd", x, w["query_w"])
    k, v = (einsum("...jc,chd->...jhd", y, w[name]) for name in ("key_w", "value_w"))
    logits = einsum("...ihd,...jhd->...ijh", q, k) / np.sqrt(q.shape[-1]) + bias
    o = einsum("...ijh,...jhd->...ihd", softmax(logits, -2, mask), v)
    if "gating_w" in w:
        o = o * sigmoid(einsum("...ic,chd->...ihd", x, w["gating_w"]) + w["gating_b"])
    return einsum("...ihd,hdc->...ic", o, w["output_w"]) + w["output_b"]


def msa_row_attention_with_pair_bias(w, m, mask, z):
    """Algorithm 7."""
    m = layer_norm(w["query_norm"], m)  # 1
    b = einsum("ijc,ch->ijh", layer_norm(w["feat_2d_norm"], z), w["feat_2d_weights"])  # 3
    return attention(w["attention"], m, m, b, mask[:, None, :, None])  # 2, 4 to 7


def msa_column_attention(w, m, mask):
    """Algorithm 8."""
    m = layer_norm(w["query_norm"], m)  # 1
    w = w["attention"]
    q, k, v = (einsum("sic,chd->sihd", m, w[n]) for n in ("query_w", "key_w", "value_w"))  # 2
    g = sigmoid(einsum("sic,chd->sihd", m, w["gating_w"]) + w["gating_b"])  # 3
    logits = einsum("sihd,tihd->stih", q, k) / np.sqrt(q.shape[-1])
    a = softmax(logits, 1, mask[None, :, :, None])  # 4
    o = g * einsum("stih,tihd->sihd", a, v)  # 5
    return einsum("sihd,hdc->sic", o, w["output_w"]) + w["output_b"]  # 6


def transition(w, x):
    """Algorithms 9 and 15."""
    x = layer_norm(w["input_layer_norm"], x)  # 1
    a = linear(w["transition1"], x)  # 2
    return linear(w["transition2"], relu(a))  # 3


def outer_product_mean(w, m, mask, divide_first=False):
    """Algorithm 10, or with the linear map before the division, as in DeepMind's code."""
    m = layer_norm(w["layer_norm_input"], m)  # 1
    a, b = linear(w["left_projection"], m), linear(w["right_projection"], m)  # 2
    total = einsum("si,sj,sic,sjd->ijcd", mask, mask, a, b)  # 3
    count = einsum("si,sj->ij", mask, mask)[..., None]
    if divide_first:
        mean = total / (1e-3 + count)[..., None]
        return einsum("ijcd,cdz->ijz", mean, w["output_w"]) + w["output_b"]  # 4
    return (einsum("ijcd,cdz->ijz", total, w["output_w"]) + w["output_b"]) / (1e-3 + count)  # 4


def unfused(w):
    """Triangle multiplication's weights in several arrays, of those in one."""
    names = {"left_norm_input": "layer_norm_input", "center_norm": "center_layer_norm"}
    found = {names.get(name, name): x for name, x in w.items()}
    for name in ("projection", "gate"):
        halves = {k: np.split(x, 2, axis=-1) for k, x in found.pop(name).items()}
        for number, side in enumerate(("left", "right")):
            found[f"{side}_{name}"] = {k: x[number] for k, x in halves.items()}
    return found


def triangle_multiplication(w, z, mask, outgoing):
    """Algorithms 11 (outgoing) and 12 (incoming)."""
    if "projection" in w:
        w = unfused(w)
    z = layer_norm(w["layer_norm_input"], z)  # 1

    def edges(side):
        gate = sigmoid(linear(w[f"{side}_gate"], z))
        return mask[..., None] * gate * linear(w[f"{side}_projection"], z)  # 2

    g = sigmoid(linear(w["gating_linear"], z))  # 3
    if outgoing:
        a, b = edges("left"), edges("right")
        total = einsum("...ikc,...jkc->...ijc", a, b)
    else:
        a, b = edges("right"), edges("left")
        total = einsum("...kic,...kjc->...ijc", a, b)
    return g * linear(w["output_projection"], layer_norm(w["center_layer_norm"], total))  # 4


def triangle_attention(w, z, mask, starting):
    """Algorithms 13 (starting) and 14 (ending)."""
    z = layer_norm(w["query_norm"], z)  # 1
    b = einsum("...ijc,ch->...ijh", z, w["feat_2d_weights"])  # 3
    w = w["attention"]
    q, k, v = (einsum("...ijc,chd->...ijhd", z, w[n]) for n in ("query_w", "key_w", "value_w"))  # 2
    g = sigmoid(einsum("...ijc,chd->...ijhd", z, w["gating_w"]) + w["gating_b"])  # 4
    scale = 1.0 / np.sqrt(q.shape[-1])
    if starting:
        logits = scale * einsum("...ijhd,...ikhd->...ijkh", q, k)
        logits = logits + einsum("...jkh->...jkh", b)[..., None, :, :, :]
        a = softmax(logits, -2, mask[..., :, None, :, None])  # 5, edges ik
        o = g * einsum("...ijkh,...ikhd->...ijhd", a, v)  # 6
    else:
        logits = scale * einsum("...ijhd,...kjhd->...ijkh", q, k)
        logits = logits + einsum("...kih->...ikh", b)[..., :, None, :, :]
        edges = einsum("...kj->...jk", mask)[..., None, :, :, None]
        a = softmax(logits, -2, edges)  # 5, edges kj
        o = g * einsum("...ijkh,...kjhd->...ijhd", a, v)  # 6
    return einsum("...ijhd,hdc->...ijc", o, w["output_w"]) + w["output_b"]  # 7


def msa_column_global_attention(w, m, mask):
    """Algorithm 19."""
    m = layer_norm(w["query_norm"], m)  # 1
    return einsum("isc->sic", global_attention(w["attention"], einsum("sic->isc", m), mask.T))


def global_attention(w, m, mask):
    """Algorithm 19, lines 2 to 7, of columns m [i, s, c]."""
    q = einsum("isc,chd->ishd", m, w["query_w"])  # 2
    k, v = (einsum("isc,cd->isd", m, w[name]) for name in ("key_w", "value_w"))
    q = einsum("is,ishd->ihd", mask, q) / (mask.sum(axis=1)[:, None, None] + 1e-10)  # 3
    g = sigmoid(einsum("isc,chd->ishd", m, w["gating_w"]) + w["gating_b"])  # 4
    logits = einsum("ihd,isd->ish", q, k) / np.sqrt(q.shape[-1])
    a = softmax(logits, 1, mask[..., None])  # 5
    o = g * einsum("ish,isd->ihd", a, v)[:, None]  # 6
    return einsum("ishd,hdc->isc", o, w["output_w"]) + w["output_b"]  # 7


def evoformer_block(
    w, m, z, msa_mask, pair_mask, extra=False, drops=(), rates=(), outer_first=False
):
    """One block of Algorithm 6, or with ``extra`` of Algorithm 18.

    ``drops``, ``rates``: dropout of lines 2, 3 (DeepMind's code has it), 6, 7, 8, 9.
    ``outer_first``: line 5 before line 2 (Evans et al. 2021).
    """
    if outer_first:
        z = z + outer_product_mean(w["outer_product_mean"], m, msa_mask)
    drop = iter([*zip(drops, rates, strict=True)] or 6 * [(None, 0.0)])
    row = w["msa_row_attention_with_pair_bias"]
    m = residual(m, msa_row_attention_with_pair_bias(row, m, msa_mask, z), *next(drop))  # 2
    if extra:
        update = msa_column_global_attention(w["msa_column_global_attention"], m, msa_mask)
    else:
        update = msa_column_attention(w["msa_column_attention"], m, msa_mask)
    m = residual(m, update, *next(drop))  # 3
    m = m + transition(w["msa_transition"], m)  # 4
    if not outer_first:
        z = z + outer_product_mean(w["outer_product_mean"], m, msa_mask)  # 5
    for direction in ("outgoing", "incoming"):  # 6, 7
        inner = w[f"triangle_multiplication_{direction}"]
        update = triangle_multiplication(inner, z, pair_mask, direction == "outgoing")
        z = residual(z, update, *next(drop))
    for node in ("starting", "ending"):  # 8, 9
        inner = w[f"triangle_attention_{node}_node"]
        z = residual(z, triangle_attention(inner, z, pair_mask, node == "starting"), *next(drop))
    return m, z + transition(w["pair_transition"], z)  # 10


def template_pair_block(w, t, mask, drops=(), rates=(), attend_first=True):
    """One block of Algorithm 16 on [s, i, j, c]; ``drops``, ``rates`` of lines 2 to 5."""
    drop = [*zip(drops, rates, strict=True)] or 4 * [(None, 0.0)]
    mask = np.broadcast_to(mask, t.shape[:-1])
    lines = {
        2: ("triangle_attention_starting_node", triangle_attention, True),
        3: ("triangle_attention_ending_node", triangle_attention, False),
        4: ("triangle_multiplication_outgoing", triangle_multiplication, True),
        5: ("triangle_multiplication_incoming", triangle_multiplication, False),
    }
    for line in (2, 3, 4, 5) if attend_first else (4, 5, 2, 3):
        name, function, first = lines[line]
        t = residual(t, function(w[name], t, mask, first), *drop[line - 2])
    return t + transition(w["pair_transition"], t)  # 6


def blocks(w):
    """The weights of each block of a stack."""

    def take(w, i):
        return {k: take(v, i) if isinstance(v, dict) else v[i] for k, v in w.items()}

    leaf = w
    while isinstance(leaf, dict):
        leaf = next(iter(leaf.values()))
    return [take(w, i) for i in range(len(leaf))]


def template_pair_feat(aatype, x, atom_mask, beta, beta_mask, bins=39, unit_vector=False):
    """Supplement Table 1: [s, i, j, 88]."""
    n, ca, c = (chemistry.ATOM_ORDER[name] for name in ("N", "CA", "C"))
    known = atom_mask[..., n] * atom_mask[..., ca] * atom_mask[..., c]
    known = einsum("si,sj->sij", known, known)[..., None]
    square = known.shape[:-1]
    unit = np.zeros((*square, 3))
    if unit_vector:
        rot, origin = rigid_from_3_points(x[..., n, :], x[..., ca, :], x[..., c, :])
        toward = einsum("sixy,sijx->sijy", rot, origin[:, None] - origin[:, :, None])
        unit = known * toward / np.sqrt((toward**2).sum(-1, keepdims=True) + 1e-6)
    letters = one_hot(aatype, 22)
    features = [
        distance_bins(beta, 3.25, 50.75, bins),
        einsum("si,sj->sij", beta_mask, beta_mask)[..., None],
        np.broadcast_to(letters[:, None, :], (*square, 22)),  # of j
        np.broadcast_to(letters[:, :, None], (*square, 22)),  # of i
        unit,
        known,
    ]
    return np.concatenate(features, axis=-1) * known


def single_template_embedding(w, features, mask):
    """Algorithm 2, lines 9 to 12."""
    t = linear(w["embedding2d"], features)  # 9
    for block in blocks(w["template_pair_stack"]["__layer_stack_no_state"]):  # 10 to 12
        t = template_pair_block(block, t, mask)
    return layer_norm(w["output_layer_norm"], t)


def template_pointwise_attention(w, z, t, mask):
    """Algorithm 17; zero where there is no template."""
    q = einsum("ijc,chd->ijhd", z, w["query_w"])  # 1
    k, v = (einsum("sijc,chd->sijhd", t, w[name]) for name in ("key_w", "value_w"))  # 2
    logits = einsum("ijhd,sijhd->sijh", q, k) / np.sqrt(q.shape[-1])
    a = softmax(logits, 0, mask[:, None, None, None])  # 3
    o = einsum("sijh,sijhd->ijhd", a, v)  # 4
    return einsum("ijhd,hdc->ijc", o, w["output_w"]) + w["output_b"]  # 5


def template_angle_rows(w, aatype, x, atom_mask):
    """Algorithm 2, line 7, and the rows' mask (phi is defined)."""
    found = [torsion_angles(*template) for template in zip(aatype, x, atom_mask, strict=True)]
    angle, other, defined = (np.stack(values) for values in zip(*found, strict=True))
    flat = (*aatype.shape, 14)
    features = [one_hot(aatype, 22), angle.reshape(flat), other.reshape(flat), defined]
    a = linear(w["template_single_embedding"], np.concatenate(features, axis=-1))
    return linear(w["template_projection"], relu(a)), defined[..., 2]


def recycling_embedder(w, aatype, x, m_1, z, bins=15):
    """Algorithm 32."""
    d = distance_bins(pseudo_beta(aatype, x), 3.25, 20.75, bins)  # 1
    z = linear(w["prev_pos_linear"], d) + layer_norm(w["prev_pair_norm"], z)  # 2, 3
    return layer_norm(w["prev_msa_first_row_norm"], m_1), z  # 4


def predicted_lddt(w, s):
    """Algorithm 29, lines 1 and 2 without the softmax."""
    a = relu(linear(w["act_0"], layer_norm(w["input_layer_norm"], s)))
    return linear(w["logits"], relu(linear(w["act_1"], a)))


def distogram(w, z):
    """Supplement 1.9.8, equation 41, without the softmax."""
    half = linear(w["half_logits"], z)
    return half + einsum("ijc->jic", half)
