"""What every pass samples anew of the alignment, in one TensorFlow graph (supplement 1.2).

In the paper's order: block deletion, distillation subsample, cluster centres, masking,
assignment, crop, profiles, extra rows.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import tensorflow as tf

from tffold.data import clusters, inputs, masking, msa
from tffold.data.recipe import Recipe

Tensor = Any

# What one pass's sample consists of.
_SAMPLE = {
    "msa_row_mask": tf.TensorSpec([None], tf.float32),
    "extra_msa_row_mask": tf.TensorSpec([None], tf.float32),
    "true": tf.TensorSpec([None, None], tf.uint8),
    "masked": tf.TensorSpec([None, None], tf.uint8),
    "chosen": tf.TensorSpec([None, None], tf.uint8),
    "deletions": tf.TensorSpec([None, None], tf.uint8),
    "profile": tf.TensorSpec([None, None, clusters.NUM_LETTERS], tf.float32),
    "deletion_mean": tf.TensorSpec([None, None], tf.float32),
    "extra": tf.TensorSpec([None, None], tf.uint8),
    "extra_deletions": tf.TensorSpec([None, None], tf.uint8),
}


def _sample_pass(
    raw: Mapping[str, Tensor], key: Tensor, cycle: Tensor, recipe: Recipe, padded_size: Tensor | int
) -> dict[str, Tensor]:
    """One pass's sample of the alignment: cropped and padded letters, not yet features."""
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
    # The alignment stays in HHblits' order of letters: the few rows that leave are translated.
    true = inputs.hhblits_to_restype(tf.gather(full, centre_rows))
    masked, chosen = masking.mask_centres(
        true,
        full,
        key,
        cycle,
        fraction=recipe.mask_fraction,
        replacement=recipe.replacement,
    )
    others = tf.gather(full, rest)
    shown = inputs.restype_to_hhblits(masked)
    assignment = clusters.assign(shown, others, num_centres=recipe.num_centres)

    # Agreement is over the whole chain; everything after it needs the crop alone.
    start, length = raw["crop_start"], tf.size(raw["aatype"])
    columns = slice(start, start + length)
    true, masked, chosen = (x[:, columns] for x in (true, masked, chosen))
    shown, others = shown[:, columns], others[:, columns]
    deletions = deletions[:, columns]
    centre_deletions = tf.gather(deletions, centre_rows)
    other_deletions = tf.gather(deletions, rest)
    profile, deletion_mean = clusters.summarize(
        shown,
        centre_deletions,
        others,
        other_deletions,
        assignment,
        num_centres=recipe.num_centres,
        num_res=padded_size,
    )

    def fit(values: Tensor, count: int, filling: int = 0) -> Tensor:
        """[.., length] -> [count, padded_size]"""
        values = values[:count]
        missing = [[0, count - tf.shape(values)[0]], [0, padded_size - length]]
        return tf.pad(values, missing, constant_values=tf.cast(filling, values.dtype))

    centres, extra = tf.size(centre_rows), tf.size(rest)
    return {
        "msa_row_mask": tf.sequence_mask(centres, recipe.num_centres, tf.float32),
        "extra_msa_row_mask": tf.sequence_mask(extra, recipe.num_extra, tf.float32),
        "true": fit(true, recipe.num_centres),
        # The letter past the last one encodes as zeros: a cell that is not there.
        "masked": fit(masked, recipe.num_centres, clusters.NUM_LETTERS),
        "chosen": fit(tf.cast(chosen, tf.uint8), recipe.num_centres),
        "deletions": fit(centre_deletions, recipe.num_centres),
        "profile": inputs.columns_to_restype(profile),
        "deletion_mean": deletion_mean,
        "extra": fit(inputs.hhblits_to_restype(others[: recipe.num_extra]), recipe.num_extra),
        "extra_deletions": fit(other_deletions, recipe.num_extra),
    }


def msa_part(
    raw: Mapping[str, Tensor], key: Tensor, recipe: Recipe, padded_size: Tensor | int
) -> dict[str, Tensor]:
    """All features that are sampled anew in every pass: [C, ...], padded."""
    # Letters are stacked, not features: a cell is one byte here, 200 in `msa_feat`.
    sample = tf.map_fn(
        lambda cycle: _sample_pass(raw, key, cycle, recipe, padded_size),
        tf.range(recipe.num_passes),
        fn_output_signature=_SAMPLE,
    )
    seq_mask = tf.sequence_mask(tf.size(raw["aatype"]), padded_size, tf.float32)
    return {
        "msa_row_mask": sample["msa_row_mask"],
        "msa_mask": sample["msa_row_mask"][..., None] * seq_mask,
        "bert_mask": tf.cast(sample["chosen"], tf.float32),
        "true_msa": tf.cast(sample["true"], tf.int32),
        "msa_feat": inputs.msa_features(
            sample["masked"], sample["deletions"], sample["profile"], sample["deletion_mean"]
        ),
        "extra_msa": tf.cast(sample["extra"], tf.int32),
        "extra_msa_mask": sample["extra_msa_row_mask"][..., None] * seq_mask,
        "extra_has_deletion": inputs.has_deletion(sample["extra_deletions"]),
        "extra_deletion_value": inputs.deletion_value(sample["extra_deletions"]),
    }
