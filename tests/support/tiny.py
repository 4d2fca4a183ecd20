"""A network of tiny widths with every module, and a real batch to run it on."""

from __future__ import annotations

import keras
import numpy as np
from golden import GOLDEN_FOLDER, Case

from tffold.config import AttentionConfig, ModelConfig, StackConfig, TemplateConfig
from tffold.model.module import parameter_key


def tiny_config(dropout: float = 0.0, **settings: object) -> ModelConfig:
    """All modules at widths of 8 to 16; ``settings`` replace fields of ``ModelConfig``."""

    def stack(num_block: int, channel: int) -> StackConfig:
        return StackConfig(
            num_block=num_block,
            msa_row_attention=AttentionConfig(2, channel, dropout),
            msa_column_attention=AttentionConfig(2, channel),
            msa_transition_factor=2,
            outer_product_channel=4,
            triangle_multiplication_channel=8,
            triangle_multiplication_dropout_rate=dropout,
            triangle_attention=AttentionConfig(2, 8, dropout),
            pair_transition_factor=2,
        )

    config = ModelConfig(
        msa_channel=16,
        pair_channel=12,
        single_channel=16,
        extra_msa_channel=8,
        evoformer=stack(3, 16),
        extra_msa_stack=stack(2, 8),
        template=TemplateConfig(
            channel=8,
            num_block=2,
            triangle_multiplication_channel=8,
            triangle_multiplication_dropout_rate=dropout,
            triangle_attention=AttentionConfig(2, 8, dropout),
            pointwise_attention=AttentionConfig(2, 8),
        ),
        zero_init=False,
    )
    structure = config.structure_module
    structure.num_layer, structure.num_head, structure.torsion_channel = 3, 2, 8
    structure.num_scalar_qk, structure.num_scalar_v, structure.dropout_rate = 4, 4, dropout
    config.heads.predicted_lddt_num_channel = 8
    config.heads.predicted_aligned_error = True
    for name, value in settings.items():
        setattr(config, name, value)
    return config


def tiny_complexes_config(dropout: float = 0.0, **settings: object) -> ModelConfig:
    """The multimer network likewise: what its preset sets, at these widths."""
    config = tiny_config(
        dropout,
        encode_chains=True,
        read_segment_breaks=False,
        outer_product_first=True,
        **settings,
    )
    template, structure = config.template, config.structure_module
    template.attend_first, template.sum_embeddings = False, True
    template.side_chains_only = template.use_unit_vector = True
    structure.rotation_matrices = structure.separate_projections = True
    structure.position_scale, config.heads.masked_msa_num_output = 20.0, 22
    return config


def real_batch(num_res: int = 20) -> dict[str, np.ndarray]:
    """Residues 0 to ``num_res`` of a real chain with templates, [2 passes, ...]."""
    batch = Case(GOLDEN_FOLDER, "case_a").batch()
    full = batch["aatype"].shape[1]
    cut = {}
    for name, value in batch.items():
        where = tuple(
            slice(num_res) if axis > 0 and size == full else slice(None)
            for axis, size in enumerate(value.shape)
        )
        cut[name] = value[where]
    cut["seq_length"] = np.full_like(batch["seq_length"], num_res)
    return cut


def model_params(model: keras.layers.Layer) -> dict[str, np.ndarray]:
    """A network's weights under DeepMind's keys."""
    return {parameter_key(v.path): v.numpy() for v in model.trainable_variables}
