"""Template embedding: template structures into the pair and the MSA representation."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from keras import ops

from records.chemistry import ATOM_ORDER
from tffold.config import ModelConfig, TemplateConfig
from tffold.geometry.distances import dgram
from tffold.geometry.rigid import expand, from_3_points, invert_apply
from tffold.geometry.torsions import atom37_to_torsion_angles
from tffold.model.attention import Attention, mask_bias
from tffold.model.block_stack import BlockStack
from tffold.model.module import DEFAULT_OPTIONS, GROUP, Module, Options, he_normal
from tffold.model.msa_attention import Transition
from tffold.model.primitives import LayerNorm, Linear, dropout, dropout_masks, fold_key
from tffold.model.slicing import sliced
from tffold.model.triangle_attention import TriangleAttention
from tffold.model.triangle_multiplication import TriangleMultiplication

Tensor = Any
AATYPES = 22  # 20 amino acids, unknown, gap
TEMPLATE_PAIR_FEAT = 88
TEMPLATE_ANGLE_FEAT = 57
TEMPLATE_CHI_FEAT = 34
PAIR_FEATURES = (  # none of which is differentiated
    "template_all_atom_positions",
    "template_all_atom_masks",
    "template_aatype",
    "template_pseudo_beta",
    "template_pseudo_beta_mask",
)


class TemplatePairBlock(Module):
    """One block of the template pair stack (Algorithm 16, lines 2 to 6).

        t_ij += DropoutRowwise_0.25(TriangleAttentionStartingNode({t_ij}))       (2)
        t_ij += DropoutColumnwise_0.25(TriangleAttentionEndingNode({t_ij}))      (3)
        t_ij += DropoutRowwise_0.25(TriangleMultiplicationOutgoing({t_ij}))      (4)
        t_ij += DropoutRowwise_0.25(TriangleMultiplicationIncoming({t_ij}))      (5)
        t_ij += PairTransition({t_ij})                                           (6)

    Unlike in the Evoformer attention comes first. Without ``attend_first`` lines 4 and 5 come
    before 2 and 3, as in AlphaFold-Multimer (Evans et al. 2021).
    ``call(([t, i, j, c],), ([i, j],), key)``: all templates at once.
    """

    def __init__(self, config: TemplateConfig, options: Options = DEFAULT_OPTIONS):
        super().__init__(
            "template_embedding_iteration" if config.sum_embeddings else "__layer_stack_no_state"
        )
        c = self.config = config
        self.attention_starting = TriangleAttention(
            c.triangle_attention, c.channel, True, options=options
        )
        self.attention_ending = TriangleAttention(
            c.triangle_attention, c.channel, False, options=options
        )
        hidden = c.triangle_multiplication_channel
        self.multiplication_outgoing = TriangleMultiplication(
            c.channel, hidden, True, options=options
        )
        self.multiplication_incoming = TriangleMultiplication(
            c.channel, hidden, False, options=options
        )
        self.pair_transition = Transition(
            c.channel, c.pair_transition_factor, "pair_transition", options=options
        )

    def call(
        self, state: tuple[Tensor], masks: tuple[Tensor], key: Tensor | None = None
    ) -> tuple[Tensor]:
        (pair,), (mask,) = state, masks
        attention_rate = self.config.triangle_attention.dropout_rate
        multiplication_rate = self.config.triangle_multiplication_dropout_rate
        num_templates, num_res, _, c = pair.shape
        by_row, by_column = (num_templates, 1, num_res, c), (num_templates, num_res, 1, c)
        starting, ending, outgoing, incoming = dropout_masks(
            key,
            [by_row, by_column, by_row, by_row],
            [*2 * [attention_rate], *2 * [multiplication_rate]],
        )

        def attend(pair: Tensor) -> Tensor:
            pair += dropout(self.attention_starting(pair, mask), starting, attention_rate)
            return pair + dropout(self.attention_ending(pair, mask), ending, attention_rate)

        def multiply(pair: Tensor) -> Tensor:
            update = self.multiplication_outgoing(pair, mask)
            pair += dropout(update, outgoing, multiplication_rate)
            update = self.multiplication_incoming(pair, mask)
            return pair + dropout(update, incoming, multiplication_rate)

        pair = multiply(attend(pair)) if self.config.attend_first else attend(multiply(pair))
        return (pair + self.pair_transition(pair),)


class SingleTemplateEmbedding(Module):
    """Each template's pair features, embedded (Algorithm 2, lines 9 to 12; Algorithm 16).

        t_sij = Linear(template_pair_feat_sij)                    (9)
        {t_sij} <- TemplatePairStack({t_sij})                     (10 to 12)

    s counts the templates. ``output_layer_norm`` ends Algorithm 16. With ``sum_embeddings`` line 9
    is that of AlphaFold-Multimer (Evans et al. 2021): each feature has a Linear of its own, and so
    has the query's LayerNorm(z_ij); distances, directions and masks of two chains are zero, since a
    template says nothing of how chains lie beside each other.

    DISCREPANCY: the direction from a residue to itself is zero; in DeepMind's code it is what
    rounding leaves, made a unit vector.

    ``pair`` [i, j, c_z], batch features ``template_*`` with leading [t] -> [t, i, j, c_t].
    """

    def __init__(
        self, config: TemplateConfig, pair_channel: int, options: Options = DEFAULT_OPTIONS
    ):
        super().__init__("single_template_embedding")
        c = self.config = config
        self.slice_mib = options.slice_mib
        if c.sum_embeddings:
            self.query_embedding_norm = LayerNorm(pair_channel, "query_embedding_norm")
            # Distances, β mask, residue types of j and of i, x, y, z, backbone mask, query.
            sizes = (c.dgram_num_bins, None, AATYPES, AATYPES, *4 * [None], pair_channel)
            self.embeddings = [
                Linear(size, c.channel, f"template_pair_embedding_{i}", he_normal)
                for i, size in enumerate(sizes)
            ]
            stack = GROUP + "template_pair_stack"
        else:
            self.embedding2d = Linear(TEMPLATE_PAIR_FEAT, c.channel, "embedding2d", he_normal)
            stack = "template_pair_stack"
        block = TemplatePairBlock(config, options=options)
        self.template_pair_stack = BlockStack(block, config.num_block, stack, options)
        self.output_layer_norm = LayerNorm(config.channel, "output_layer_norm")

    def _features(self, batch: dict[str, Tensor]) -> list[Tensor]:
        """The pair features in float32, each [t, i, j, d] (supplement Table 1).

        Distances, β mask, residue types of j and of i, directions, backbone mask.
        """
        c = self.config
        num_templates, num_res = batch["template_aatype"].shape
        square = (num_templates, num_res, num_res)
        beta_mask = batch["template_pseudo_beta_mask"]
        distogram = dgram(
            batch["template_pseudo_beta"], c.dgram_min_bin, c.dgram_max_bin, c.dgram_num_bins
        )
        aatype = ops.one_hot(batch["template_aatype"], AATYPES, dtype="float32")
        atoms = batch["template_all_atom_positions"]
        masks = batch["template_all_atom_masks"]
        n, ca, carbon = (ATOM_ORDER[name] for name in ("N", "CA", "C"))
        backbone_mask = masks[..., n] * masks[..., ca] * masks[..., carbon]
        backbone_mask = backbone_mask[:, :, None] * backbone_mask[:, None, :]
        beta_mask = (beta_mask[:, :, None] * beta_mask[:, None, :])[..., None]
        if c.sum_embeddings:
            chain = batch["asym_id"]
            same_chain = ops.cast(ops.equal(chain[:, None], chain[None, :]), "float32")
            backbone_mask = backbone_mask * same_chain
            beta_mask = beta_mask * same_chain[..., None]
            distogram = distogram * beta_mask
        if c.use_unit_vector:
            origin, toward_c = atoms[..., ca, :], atoms[..., carbon, :]
            frames = from_3_points(2.0 * origin - toward_c, origin, atoms[..., n, :])
            # [t, i, 1] frames on [t, 1, j] points -> [t, i, j, 3]
            local = invert_apply(expand(frames), origin[:, None])
            norm = ops.rsqrt(1e-6 + ops.sum(ops.square(local), axis=-1, keepdims=True))
            unit_vector = local * norm * backbone_mask[..., None]
        else:
            unit_vector = ops.zeros((*square, 3), "float32")
        return [
            distogram,
            beta_mask,
            ops.broadcast_to(aatype[:, None], (*square, AATYPES)),
            ops.broadcast_to(aatype[:, :, None], (*square, AATYPES)),
            unit_vector,
            backbone_mask[..., None],
        ]

    def _embedded(self, batch: dict[str, Tensor], query: Sequence[Tensor], dtype: Any) -> Tensor:
        """Line 9: [t, i, j, c_t]."""
        features = self._features(batch)
        if not self.config.sum_embeddings:
            whole = ops.concatenate(features, axis=-1) * features[-1]
            return self.embedding2d(ops.cast(whole, dtype))
        distogram, beta_mask, aatype_j, aatype_i, direction, backbone_mask = features
        numbers = [beta_mask[..., 0], *(direction[..., x] for x in range(3)), backbone_mask[..., 0]]
        features = [distogram, numbers[0], aatype_j, aatype_i, *numbers[1:]]
        features = [ops.cast(x, dtype) for x in features]
        features += [self.query_embedding_norm(pair)[None] for pair in query]
        return sum(linear(x) for linear, x in zip(self.embeddings, features, strict=True))

    def call(
        self, pair: Tensor, batch: dict[str, Tensor], pair_mask: Tensor, key: Tensor | None = None
    ) -> Tensor:
        numbers = ops.arange(batch["template_aatype"].shape[0], dtype="int32")
        dtype, c = pair.dtype, self.config
        # What every template is held against; nothing is handed to the loop in vain.
        query = (pair,) if c.sum_embeddings else ()

        def embed(*inputs: Tensor) -> Tensor:
            count = len(PAIR_FEATURES)
            templates = dict(zip(PAIR_FEATURES, inputs[:count], strict=True))
            if c.sum_embeddings:
                templates["asym_id"] = batch["asym_id"]
            numbers, query = inputs[count], inputs[count + 1 :]
            act = self._embedded(templates, query, dtype)
            (act,) = self.template_pair_stack((act,), (pair_mask,), fold_key(key, numbers[0]))
            return self.output_layer_norm(act)

        num_res = pair_mask.shape[0]
        return sliced(
            (self,),
            embed,
            (),
            [*(batch[name] for name in PAIR_FEATURES), numbers],
            query,
            row_size=c.triangle_attention.num_head * num_res**3,
            slice_mib=self.slice_mib,
            row_shape=(num_res, num_res, c.channel),
            dtype=dtype,
        )


class TemplateEmbedding(Module):
    """Update of the pair from all templates (Algorithm 17; Algorithm 2, line 13): -> [i, j, c_z].

        q_ij^h = LinearNoBias(z_ij)                                   (1)
        k_sij^h, v_sij^h = LinearNoBias(t_sij)                        (2)
        a_sij^h = softmax_s(1 / sqrt(d) q_ij^h · k_sij^h)             (3)
        o_ij^h = Σ_s a_sij^h v_sij^h                                  (4)
        out_ij = Linear(concat_h(o_ij^h))                             (5)

    Each pair ij is one sequence of s templates for ``Attention``. Masked templates get no
    weight in line 3; without any template the update is zero. ``AverageTemplateEmbedding`` stands
    for it in AlphaFold-Multimer.
    """

    def __init__(self, config: ModelConfig):
        super().__init__("template_embedding")
        c = config.template
        options = Options.of(config)
        self.slice_mib, self.key_dim = options.slice_mib, c.pointwise_attention.key_dim
        self.single_template_embedding = SingleTemplateEmbedding(c, config.pair_channel, options)
        self.attention = Attention(
            c.pointwise_attention,
            config.pair_channel,
            config.pair_channel,
            source_channel=c.channel,
            gating=False,
            options=options,
        )

    def call(
        self,
        pair: Tensor,
        batch: dict[str, Tensor],
        pair_mask: Tensor,
        key: Tensor | None = None,
    ) -> Tensor:
        num_res, _, c = pair.shape
        templates = self.single_template_embedding(pair, batch, pair_mask, key=key)
        num_templates, _, _, c_t = templates.shape
        # [i, j, c] -> [i * j, 1, c];  [t, i, j, c_t] -> [i * j, t, c_t]
        query = ops.reshape(pair, (num_res * num_res, 1, c))
        source = ops.transpose(templates, (1, 2, 0, 3))
        source = ops.reshape(source, (num_res * num_res, num_templates, c_t))
        mask = batch["template_mask"]
        bias = mask_bias(mask)[None, None, None, :]
        update = sliced(
            (self.attention,),
            lambda query, source: self.attention(query, source, bias=bias),
            (query, source),
            row_size=2 * num_templates * self.key_dim,
            slice_mib=self.slice_mib,
        )
        # [i * j, 1, c] -> [i, j, c]
        update = ops.reshape(update, (num_res, num_res, c))
        return update * ops.cast(ops.sum(mask) > 0, update.dtype)


class AverageTemplateEmbedding(Module):
    """Update of the pair from all templates (Evans et al. 2021; in place of Algorithm 17).

        out_ij = Linear(relu(mean_s(t_sij)))

    DISCREPANCY: as in DeepMind's code the mean is over all slots, those without a template too,
    whose t_sij says what the query alone does.

    ``pair`` [i, j, c_z] and the templates' features -> [i, j, c_z].
    """

    def __init__(self, config: ModelConfig):
        super().__init__("template_embedding")
        c, options = config.template, Options.of(config)
        self.single_template_embedding = SingleTemplateEmbedding(c, config.pair_channel, options)
        self.output_linear = Linear(c.channel, config.pair_channel, "output_linear", he_normal)

    def call(
        self,
        pair: Tensor,
        batch: dict[str, Tensor],
        pair_mask: Tensor,
        key: Tensor | None = None,
    ) -> Tensor:
        templates = self.single_template_embedding(pair, batch, pair_mask, key=key)
        return self.output_linear(ops.relu(ops.mean(templates, axis=0)))


class TemplateAngleEmbedder(Module):
    """Template torsion angles as further MSA rows (Algorithm 2, lines 7 and 8).

        a_si = Linear(relu(Linear(template_angle_feat_si)))           (7)
        {m_si} <- concat_s({m_si}, {a_si})                            (8)

    Line 8 is done by the caller. With ``side_chains_only`` the features are those of
    AlphaFold-Multimer (Evans et al. 2021): residue type, sine, cosine and mask of χ1 to χ4.

    DISCREPANCY: as in DeepMind's code the rows' mask is that of φ, or of χ1, so that the second
    kind leaves out all glycines and alanines.

    -> rows [t, i, c_m] and their mask [t, i].
    """

    def __init__(self, config: ModelConfig, name: str):
        super().__init__(name)
        c, self.side_chains_only = config.msa_channel, config.template.side_chains_only
        num_input = TEMPLATE_CHI_FEAT if self.side_chains_only else TEMPLATE_ANGLE_FEAT
        self.template_single_embedding = Linear(
            num_input, c, "template_single_embedding", he_normal
        )
        self.template_projection = Linear(c, c, "template_projection")

    def call(self, batch: dict[str, Tensor], dtype: Any) -> tuple[Tensor, Tensor]:
        aatype = batch["template_aatype"]
        angles = atom37_to_torsion_angles(
            aatype,
            batch["template_all_atom_positions"],
            batch["template_all_atom_masks"],
        )
        mask = angles["torsion_angles_mask"]
        letters = ops.one_hot(aatype, AATYPES, dtype="float32")
        sin_cos = angles["torsion_angles_sin_cos"]
        if self.side_chains_only:
            mask = mask[..., 3:]
            sine, cosine = (sin_cos[..., 3:, x] * mask for x in range(2))
            features, rows_mask = [letters, sine, cosine, mask], mask[..., 0]
        else:
            # [t, i, 7, 2] -> [t, i, 14]
            flat = (*aatype.shape, 14)
            both = [sin_cos, angles["alt_torsion_angles_sin_cos"]]
            features = [letters, *(ops.reshape(x, flat) for x in both), mask]
            rows_mask = mask[..., 2]
        rows = self.template_single_embedding(ops.cast(ops.concatenate(features, axis=-1), dtype))
        return self.template_projection(ops.relu(rows)), rows_mask
