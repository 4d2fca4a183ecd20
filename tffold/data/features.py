"""From a read example to its batch features, in one TensorFlow graph (supplement 1.2).

The transforms in the paper's order: block deletion, distillation subsample,
cluster centres, masking, assignment, crop, profiles, extra rows, features,
labels, padding.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import tensorflow as tf

from tffold import geometry
from tffold.data import clusters, crop, inputs, keys, masking, msa, targets
from tffold.data.recipe import Recipe

Tensor = Any


def _sample_pass(
    raw: Mapping[str, Tensor], key: Tensor, cycle: int, window: Tensor, recipe: Recipe
) -> dict[str, Tensor]:
    """One pass's sample of the alignment, cut to the crop but not yet features."""
    full, deletions = raw["msa"], raw["deletion_matrix"]
    num_rows = tf.shape(full)[0]
    rows = tf.range(num_rows)
    if recipe.num_blocks:
        rows = msa.block_deletion(
            num_rows,
            key,
            cycle,
            num_blocks=recipe.num_blocks,
            fraction=recipe.block_fraction,
        )
    if recipe.distillation_rows:
        rows = tf.cond(
            raw["is_distillation"] > 0,
            lambda: msa.subsample(rows, key, cycle, max_rows=recipe.distillation_rows),
            lambda: rows,
        )
    centre_rows, rest = msa.choose_centres(rows, key, cycle, num_centres=recipe.num_centres)
    true = tf.gather(full, centre_rows)
    masked, chosen = masking.mask_centres(
        true,
        full,
        key,
        cycle,
        fraction=recipe.mask_fraction,
        replacement=recipe.replacement,
    )
    others = tf.gather(full, rest)
    assignment = clusters.assign_op(masked, others)

    # Agreement is over the whole chain; everything after it needs the crop alone.
    start, length = window[0], window[1]
    columns = slice(start, start + length)
    centre_deletions = tf.gather(deletions[:, columns], centre_rows)
    others = others[:, columns]
    other_deletions = tf.gather(deletions[:, columns], rest)
    profile, deletion_mean = clusters.summarize(
        masked[:, columns], centre_deletions, others, other_deletions, assignment
    )
    centres, extra = tf.shape(centre_rows)[0], tf.minimum(tf.shape(rest)[0], recipe.num_extra)

    def rows_to(values: Tensor, count: int) -> Tensor:
        missing = [[0, count - tf.shape(values)[0]]] + [[0, 0]] * (len(values.shape) - 1)
        return tf.pad(values, missing)

    return {
        "msa_row_mask": tf.sequence_mask(centres, recipe.num_centres, tf.float32),
        "extra_msa_row_mask": tf.sequence_mask(extra, recipe.num_extra, tf.float32),
        "true": rows_to(true[:, columns], recipe.num_centres),
        # The letter past the last one encodes as zeros: a row that is not there.
        "masked": tf.pad(
            masked[:, columns],
            [[0, recipe.num_centres - centres], [0, 0]],
            constant_values=clusters.NUM_LETTERS,
        ),
        "chosen": rows_to(chosen[:, columns], recipe.num_centres),
        "deletions": rows_to(centre_deletions, recipe.num_centres),
        "profile": rows_to(profile, recipe.num_centres),
        "deletion_mean": rows_to(deletion_mean, recipe.num_centres),
        "extra": rows_to(others[: recipe.num_extra], recipe.num_extra),
        "extra_deletions": rows_to(other_deletions[: recipe.num_extra], recipe.num_extra),
    }


def _msa_part(raw: Mapping[str, Tensor], key: Tensor, window: Tensor, recipe: Recipe) -> dict:
    """All features that are sampled anew in every pass: [C, ...]."""
    passes = [_sample_pass(raw, key, c, window, recipe) for c in range(recipe.num_passes)]
    sample = {name: tf.stack([one[name] for one in passes]) for name in passes[0]}
    seq_mask = tf.ones([window[1]])
    return {
        "msa_row_mask": sample["msa_row_mask"],
        "msa_mask": sample["msa_row_mask"][..., None] * seq_mask,
        "bert_mask": tf.cast(sample["chosen"], tf.float32),
        "true_msa": tf.cast(sample["true"], tf.int32),
        "msa_feat": inputs.msa_features(
            sample["masked"], sample["deletions"], sample["profile"], sample["deletion_mean"]
        ),
        "extra_msa": tf.cast(sample["extra"], tf.int32),
        "extra_msa_row_mask": sample["extra_msa_row_mask"],
        "extra_msa_mask": sample["extra_msa_row_mask"][..., None] * seq_mask,
        "extra_has_deletion": inputs.has_deletion(sample["extra_deletions"]),
        "extra_deletion_value": inputs.deletion_value(sample["extra_deletions"]),
    }


def _chain_part(raw: Mapping[str, Tensor], recipe: Recipe) -> dict[str, Tensor]:
    """All features that every pass shares, of the cropped residues."""
    aatype = raw["aatype"]
    features = {
        "aatype": aatype,
        "residue_index": raw["residue_index"],
        "seq_mask": tf.ones_like(aatype, tf.float32),
        "seq_length": tf.size(aatype),
        "target_feat": inputs.target_features(aatype, raw["between_segment_residues"]),
        "random_crop_to_size_seed": raw["crop_seed"],
        "num_iter_recycling": raw["num_iter_recycling"],
        **geometry.make_atom14_masks(aatype),
    }
    if recipe.num_templates:
        features |= inputs.template_features(
            raw["template_aatype"],
            raw["template_all_atom_positions"],
            raw["template_all_atom_masks"],
            raw["template_sum_probs"],
        )
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
            "is_distillation": tf.cast(raw["is_distillation"], tf.float32),
            "use_clamped_fape": raw["use_clamped_fape"],
        }
    return features


def make_features(
    raw: Mapping[str, Tensor], *, seed: int, recipe: Recipe, padded_size: Tensor | int
) -> dict[str, Tensor]:
    """The batch features of one example, [C, ...], in the feature table's order.

    Args:
        raw: a read example (``pipeline.RAW``): the alignment of the whole
            chain, everything else cropped.
        seed: of the run; with the example's position it fixes every draw.
        padded_size: residues to pad to; a Python number gives static shapes.
    """
    key = keys.key(seed, raw["position"])
    window = tf.stack([raw["crop_start"], tf.size(raw["aatype"])])
    table, sizes = recipe.features(), recipe.sizes(padded_size)
    shared = crop.pad(_chain_part(raw, recipe), table, sizes)
    repeated = {
        name: tf.repeat(value[None], recipe.num_passes, axis=0) for name, value in shared.items()
    }
    sampled = crop.pad(_msa_part(raw, key, window, recipe), table, sizes)
    features = repeated | sampled
    return {name: features[name] for name in table}
