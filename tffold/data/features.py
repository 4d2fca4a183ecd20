"""From a read example to its batch features, in one TensorFlow graph (supplement 1.2).

The sampled rows of the alignment (``tffold.data.rows``), features, labels, padding.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import tensorflow as tf

from tffold import geometry
from tffold.data import assemblies, crops, inputs, keys, padding, pairing, rows, targets
from tffold.data.recipe import Recipe

Tensor = Any


def _shared_part(raw: Mapping[str, Tensor], recipe: Recipe) -> dict[str, Tensor]:
    """All features that every pass shares, of the cropped residues."""
    aatype = tf.cast(raw["aatype"], tf.int32)
    features = {
        "aatype": aatype,
        "residue_index": raw["residue_index"],
        "seq_mask": tf.ones_like(aatype, tf.float32),
        "seq_length": tf.size(aatype),
        "target_feat": inputs.target_features(aatype, raw["between_segment_residues"]),
        "num_iter_recycling": raw["num_iter_recycling"],
        **geometry.make_atom14_masks(aatype),
    }
    if recipe.num_templates:
        features |= inputs.template_features(
            raw["template_aatype"],
            raw["template_all_atom_positions"],
            raw["template_all_atom_masks"],
        )
        if recipe.complexes:  # slots in which no chain has a template are there, too
            features["template_mask"] = raw["template_mask"]
    if recipe.labels:
        atom_mask = targets.confident_atoms(
            raw["all_atom_mask"],
            raw["confidence"],
            raw["is_distillation"],
            recipe.min_confidence,
        )
        features |= targets.structure_labels(aatype, raw["all_atom_positions"], atom_mask)
        features |= {
            "resolution": raw["resolution"],
            "use_clamped_fape": raw["use_clamped_fape"],
        }
    return features


def _assembly_part(
    raw: Mapping[str, Tensor], *, seed: int, recipe: Recipe, padded_size: Tensor | int
) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """A read assembly with its crop's residues and rows, and what complexes alone have."""
    atom_mask = None
    if recipe.labels:
        atom_mask = targets.confident_atoms(
            raw["all_atom_mask"], raw["confidence"], raw["is_distillation"], recipe.min_confidence
        )
    length = assemblies.chain_lengths(raw)
    if recipe.draw_crop:
        crop = crops.draw_crop(
            raw["all_atom_positions"],
            atom_mask,
            length,
            size=padded_size,
            spatial_probability=recipe.spatial_crop,
            seed=seed,
            position=raw["position"],
        )
    else:
        crop = tf.range(tf.minimum(tf.reduce_sum(length), padded_size))
    found = assemblies.residues_of_crop(raw, crop, recipe.num_templates)
    features = {name: found[name] for name in ("asym_id", "entity_id", "sym_id")}
    if recipe.labels:
        features |= assemblies.assembly_labels(raw, atom_mask)
    return {**found, **pairing.merge_assembly(found)}, features


def make_features(
    raw: Mapping[str, Tensor], *, seed: int, recipe: Recipe, padded_size: Tensor | int
) -> dict[str, Tensor]:
    """The batch features of one example, [C, ...], in the feature table's order.

    Args:
        raw: a read example: the features of ``decode.stored`` (the alignment of
            the whole chain, everything else cropped) and its ``choices``; where the model
            knows chains, what ``assemblies.AssemblyTable.read`` gives and its choices.
        seed: of the run; with the example's position it fixes every draw.
        padded_size: residues to pad to; a Python number gives static shapes.
    """
    key = keys.key(seed, raw["position"])
    table, sizes = recipe.features(), recipe.sizes(padded_size)
    of_chains: dict[str, Tensor] = {}
    if recipe.complexes:
        raw, of_chains = _assembly_part(raw, seed=seed, recipe=recipe, padded_size=padded_size)
    shared = padding.pad(_shared_part(raw, recipe) | of_chains, table, sizes)
    repeated = {name: tf.stack([value] * recipe.num_passes) for name, value in shared.items()}
    sampled = rows.msa_part(raw, key, recipe, padded_size)
    features = repeated | padding.with_static_shapes(sampled, table, sizes)
    return {name: features[name] for name in table}
