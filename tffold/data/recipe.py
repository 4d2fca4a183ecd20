"""What the transforms do to an example, in training and in inference."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from records.errors import InputError
from records.schema import (
    NUM_ASSEMBLY_RES,
    NUM_CHAINS,
    NUM_EXTRA_SEQ,
    NUM_MSA_SEQ,
    NUM_RES,
    NUM_TEMPLATES,
    Feature,
    batch_features,
)
from tffold.config import DataConfig
from tffold.data.masking import Replacement

Tensor = Any


@dataclass(frozen=True)
class Recipe:
    """What the transforms do to an example; the sizes are those of the result."""

    num_passes: int
    num_centres: int
    num_extra: int
    num_templates: int  # 0: the model reads none and none are delivered
    num_blocks: int  # of block deletion
    block_fraction: float
    distillation_rows: int  # 0: all
    mask_fraction: float
    replacement: Replacement
    min_confidence: float
    num_chains: int = 0  # of an assembly; 0: single chains alone
    num_assembly_res: int = 0  # residues of its truth; 0: as many as of the result
    spatial_crop: float = 0.0  # share of crops around an interface
    draw_crop: bool = False  # of an assembly; else its first residues are taken
    labels: bool = True

    @classmethod
    def training(cls, config: DataConfig, num_recycle: int) -> Recipe:
        """Supplement 1.2 and 1.3 in full."""
        templates = config.max_templates
        reserved = templates if config.reduce_msa_clusters_by_max_templates else 0
        centres = config.max_msa_clusters - reserved
        if centres < 1:
            raise InputError(
                f"data.max_msa_clusters ({config.max_msa_clusters}) leaves no row beside "
                f"data.max_templates ({templates})",
                mend="raise data.max_msa_clusters",
            )
        return cls(
            num_passes=num_recycle + 1,
            num_centres=centres,
            num_extra=config.max_extra_msa,
            num_templates=templates,
            num_blocks=config.block_deletion_num_blocks,
            block_fraction=config.block_deletion_fraction,
            distillation_rows=config.distillation_max_msa,
            mask_fraction=config.masked_msa_replace_fraction,
            replacement=Replacement(
                config.masked_msa_uniform_prob,
                config.masked_msa_profile_prob,
                config.masked_msa_same_prob,
            ),
            min_confidence=config.distillation_min_confidence,
            num_chains=config.max_chains,
            num_assembly_res=config.max_assembly_length,
            spatial_crop=config.spatial_crop_probability,
            draw_crop=True,
        )

    @classmethod
    def inference(cls, config: DataConfig, num_recycle: int, *, labels: bool) -> Recipe:
        """No rows are deleted; masking is an option."""
        return replace(
            cls.training(config, num_recycle),
            num_blocks=0,
            distillation_rows=0,
            mask_fraction=config.masked_msa_replace_fraction
            if config.mask_msa_in_inference
            else 0.0,
            num_assembly_res=0,
            draw_crop=False,
            labels=labels,
        )

    @property
    def complexes(self) -> bool:
        """Whether the model knows chains: a monomer is an assembly of one, then."""
        return self.num_chains > 0

    def features(self) -> dict[str, Feature]:
        """The rows of the feature table that the result carries."""
        return batch_features(
            templates=self.num_templates > 0, labels=self.labels, complexes=self.complexes
        )

    def sizes(self, num_res: Tensor | int) -> dict[str, Tensor | int]:
        """The symbolic dimensions in numbers, for ``num_res`` residues."""
        return {
            NUM_RES: num_res,
            NUM_MSA_SEQ: self.num_centres,
            NUM_EXTRA_SEQ: self.num_extra,
            NUM_TEMPLATES: self.num_templates,
            NUM_CHAINS: self.num_chains,
            NUM_ASSEMBLY_RES: self.num_assembly_res or num_res,
        }
