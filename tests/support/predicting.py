"""A tiny configuration whose forward pass compiles in seconds."""

from __future__ import annotations

from tiny import tiny_complexes_config, tiny_config

from tffold.config import Config

BUCKET = 32  # residues


def small_config(complexes: bool = False) -> Config:
    make = tiny_complexes_config if complexes else tiny_config
    config = Config(model=make(num_recycle=1 if complexes else 2))
    config.data.max_chains = 3 if complexes else 0
    config.model.structure_module.num_layer = 2
    config.model.evoformer.num_block = config.model.extra_msa_stack.num_block = 1
    config.model.template.num_block = 1
    config.data.max_msa_clusters, config.data.max_extra_msa = 8, 8
    config.data.max_templates = 2
    config.data.size_buckets = [BUCKET]
    config.predict.plots = False
    return config
