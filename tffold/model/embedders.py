"""From the batch's features to the first MSA and pair representations."""

from __future__ import annotations

from typing import Any

from keras import ops

from tffold.config import ModelConfig
from tffold.model.module import GROUP, TILDE, Module
from tffold.model.primitives import Linear

Tensor = Any
TARGET_FEAT = 22
MSA_FEAT = 49
EXTRA_MSA_FEAT = 25
MSA_SYMBOLS = 23  # 20 amino acids, unknown, gap, mask token


class RelativeEncoding(Module):
    """Relative positions and chains (Evans et al. 2021; in place of Algorithm 4).

        d_ij = clip(residue_index_i - residue_index_j + 32, 0, 64), or 65 between chains
        e_ij = whether i and j are of one entity, i.e. of one sequence
        s_ij = clip(sym_id_i - sym_id_j + 2, 0, 4), or 5 between entities
        z_ij = Linear(concat(one_hot(d_ij), e_ij, one_hot(s_ij)))

    ``residue_index``, ``asym_id`` (chain), ``entity_id`` and ``sym_id`` (copy of the entity) [i]
    -> [i, j, c_z].
    """

    def __init__(self, config: ModelConfig):
        super().__init__(TILDE + "_relative_encoding")
        self.max_residue, self.max_chain = config.max_relative_feature, config.max_relative_chain
        num_input = (2 * self.max_residue + 2) + 1 + (2 * self.max_chain + 2)
        self.position_activations = Linear(num_input, config.pair_channel, "position_activations")

    def call(self, batch: dict[str, Tensor], dtype: Any) -> Tensor:
        def difference(name: str) -> Tensor:
            return batch[name][:, None] - batch[name][None, :]

        def one_hot(offset: Tensor, bound: int, defined: Tensor) -> Tensor:
            last = 2 * bound + 1
            index = ops.where(defined, ops.clip(offset + bound, 0, 2 * bound), last)
            return ops.one_hot(index, last + 1, dtype=dtype)

        same_chain = ops.equal(difference("asym_id"), 0)
        same_entity = ops.equal(difference("entity_id"), 0)
        features = [
            one_hot(difference("residue_index"), self.max_residue, same_chain),
            ops.cast(same_entity, dtype)[..., None],
            one_hot(difference("sym_id"), self.max_chain, same_entity),
        ]
        return self.position_activations(ops.concatenate(features, axis=-1))


class InputEmbedder(Module):
    """Embeds target and MSA features and relative positions (Algorithms 3 to 5).

        a_i, b_i = Linear(target_feat_i)                                (3: 1)
        z_ij = a_i + b_j                                                (3: 2)
        d_ij = residue_index_i - residue_index_j                        (4: 1)
        z_ij += Linear(one_hot(d_ij, v_bins = [-32, ..., 32]))          (3: 3, 4: 2)
        m_si = Linear(msa_feat_si) + Linear(target_feat_i)              (3: 4)

    one_hot takes the nearest bin (Algorithm 5): of whole numbers, the number clipped to the bins.
    With ``encode_chains`` ``RelativeEncoding`` stands for Algorithm 4. Without
    ``read_segment_breaks`` the first column of ``target_feat`` is left out.

    ``target_feat`` [i, 22], ``msa_feat`` [s, i, 49], ``batch`` with ``residue_index`` [i] ->
    msa [s, i, c_m], pair [i, j, c_z].
    """

    def __init__(self, config: ModelConfig):
        super().__init__(GROUP + "input_embedder")
        self.max_relative_feature = config.max_relative_feature
        c_m, c_z = config.msa_channel, config.pair_channel
        self.first_column = 0 if config.read_segment_breaks else 1
        num_target = TARGET_FEAT - self.first_column
        self.preprocess_1d = Linear(num_target, c_m, "preprocess_1d")
        self.preprocess_msa = Linear(MSA_FEAT, c_m, "preprocess_msa")
        self.left_single = Linear(num_target, c_z, "left_single")
        self.right_single = Linear(num_target, c_z, "right_single")
        self.encode_chains = config.encode_chains
        if self.encode_chains:
            self.relative_encoding = RelativeEncoding(config)
        else:
            # The released parameters spell it so.
            self.relative_position = Linear(
                2 * config.max_relative_feature + 1, c_z, "pair_activiations"
            )

    def _relative(self, batch: dict[str, Tensor], dtype: Any) -> Tensor:
        if self.encode_chains:
            return self.relative_encoding(batch, dtype=dtype)
        bound = self.max_relative_feature
        residue_index = batch["residue_index"]
        offset = residue_index[:, None] - residue_index[None, :]
        one_hot = ops.one_hot(ops.clip(offset + bound, 0, 2 * bound), 2 * bound + 1, dtype=dtype)
        return self.relative_position(one_hot)

    def call(
        self, target_feat: Tensor, msa_feat: Tensor, batch: dict[str, Tensor]
    ) -> tuple[Tensor, Tensor]:
        if self.first_column:
            target_feat = target_feat[:, self.first_column :]
        msa = self.preprocess_1d(target_feat)[None] + self.preprocess_msa(msa_feat)
        left, right = self.left_single(target_feat), self.right_single(target_feat)
        return msa, left[:, None] + right[None, :] + self._relative(batch, target_feat.dtype)


class ExtraMSAEmbedder(Module):
    """Embeds the extra MSA rows (Algorithm 2, line 14).

        e_si = Linear(extra_msa_feat_si)                                (14)

    ``extra_msa`` [s, i] letters, ``has_deletion`` and ``deletion_value`` [s, i], which make
    extra_msa_feat -> [s, i, c_e].
    """

    def __init__(self, config: ModelConfig):
        super().__init__(GROUP + "extra_msa_embedder")
        self.linear = Linear(EXTRA_MSA_FEAT, config.extra_msa_channel, "extra_msa_activations")

    def call(self, extra_msa: Tensor, has_deletion: Tensor, deletion_value: Tensor) -> Tensor:
        dtype = has_deletion.dtype
        one_hot = ops.one_hot(extra_msa, MSA_SYMBOLS, dtype=dtype)
        features = [one_hot, has_deletion[..., None], deletion_value[..., None]]
        return self.linear(ops.concatenate(features, axis=-1))
