"""From the batch's features to the first MSA and pair representations."""

from __future__ import annotations

from typing import Any

from keras import ops

from tffold.config import ModelConfig
from tffold.model.module import GROUP, Module
from tffold.model.primitives import Linear

Tensor = Any
TARGET_FEAT = 22
MSA_FEAT = 49
EXTRA_MSA_FEAT = 25
MSA_SYMBOLS = 23  # 20 amino acids, unknown, gap, mask token


class InputEmbedder(Module):
    """Embeds target and MSA features and relative positions (Algorithms 3 to 5).

        a_i, b_i = Linear(target_feat_i)                                (3: 1)
        z_ij = a_i + b_j                                                (3: 2)
        d_ij = residue_index_i - residue_index_j                        (4: 1)
        z_ij += Linear(one_hot(d_ij, v_bins = [-32, ..., 32]))          (3: 3, 4: 2)
        m_si = Linear(msa_feat_si) + Linear(target_feat_i)              (3: 4)

    one_hot takes the nearest bin (Algorithm 5): of whole numbers, the number clipped to the bins.

    ``target_feat`` [i, 22], ``msa_feat`` [s, i, 49], ``residue_index`` [i] ->
    msa [s, i, c_m], pair [i, j, c_z].
    """

    def __init__(self, config: ModelConfig):
        super().__init__(GROUP + "input_embedder")
        self.max_relative_feature = config.max_relative_feature
        c_m, c_z = config.msa_channel, config.pair_channel
        self.preprocess_1d = Linear(TARGET_FEAT, c_m, "preprocess_1d")
        self.preprocess_msa = Linear(MSA_FEAT, c_m, "preprocess_msa")
        self.left_single = Linear(TARGET_FEAT, c_z, "left_single")
        self.right_single = Linear(TARGET_FEAT, c_z, "right_single")
        # The released parameters spell it so.
        self.relative_position = Linear(
            2 * config.max_relative_feature + 1, c_z, "pair_activiations"
        )

    def call(
        self, target_feat: Tensor, msa_feat: Tensor, residue_index: Tensor
    ) -> tuple[Tensor, Tensor]:
        msa = self.preprocess_1d(target_feat)[None] + self.preprocess_msa(msa_feat)
        left, right = self.left_single(target_feat), self.right_single(target_feat)
        bound = self.max_relative_feature
        offset = residue_index[:, None] - residue_index[None, :]
        one_hot = ops.one_hot(
            ops.clip(offset + bound, 0, 2 * bound), 2 * bound + 1, dtype=target_feat.dtype
        )
        return msa, left[:, None] + right[None, :] + self.relative_position(one_hot)


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
