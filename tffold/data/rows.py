"""What every pass samples anew of the alignment, in one TensorFlow graph (supplement 1.2).

In the paper's order: block deletion, distillation subsample, cluster centres, masking,
assignment, crop, profiles, extra rows.  Of complexes as in AlphaFold-Multimer: the centres
have an order of noise, and rows are shared among equally near centres of the crop.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import tensorflow as tf

from tffold.data import clusters, inputs, keys, masking, msa
from tffold.data.keys import Draw
from tffold.data.recipe import Recipe

Tensor = Any

# What one pass's sample consists of.
_SAMPLE = {
    "msa_row_mask": tf.TensorSpec([None], tf.float32),
    "extra_msa_row_mask": tf.TensorSpec([None], tf.float32),
    "true": tf.TensorSpec([None, None], tf.uint8),
    "masked": tf.TensorSpec([None, None], tf.uint8),
    "counted": tf.TensorSpec([None, None], tf.uint8),
    "deletions": tf.TensorSpec([None, None], tf.uint8),
    "profile": tf.TensorSpec([None, None, clusters.NUM_LETTERS], tf.float32),
    "deletion_mean": tf.TensorSpec([None, None], tf.float32),
    "extra": tf.TensorSpec([None, None], tf.uint8),
    "extra_deletions": tf.TensorSpec([None, None], tf.uint8),
}


class Noise:
    """What a pass of a complex draws, of an example's key."""

    def __init__(self, key: Tensor, cycle: Tensor | int) -> None:
        self._key, self._cycle = key, cycle

    def of_rows(self, count: Tensor) -> Tensor:
        """Gumbel noise [count], on which the order of the rows depends."""
        return keys.gumbel([count], self._key, Draw.ROW_NOISE, self._cycle)

    def of_cells(self, shape: Tensor) -> Tensor:
        """Uniform in [0, 1) [S, R]: which cells are masked."""
        return keys.uniform(shape, self._key, Draw.MASK, self._cycle)

    def of_letters(self, cells: Tensor) -> Tensor:
        """Gumbel noise [n, 23] for these cells [n, 2]: what they become."""
        shape = [tf.shape(cells)[0], clusters.NUM_LETTERS]
        return keys.gumbel(shape, self._key, Draw.LETTER_NOISE, self._cycle)


class _Centres(NamedTuple):
    """The rows of one pass, and its S' centres over all columns, AlphaFold's order of letters."""

    rows: Tensor  # [S']
    rest: Tensor  # [n]: all others, in random order
    true: Tensor  # [S', R] uint8
    masked: Tensor  # [S', R] uint8
    counted: Tensor  # [S', R] bool: cells of the masked-MSA loss


def _of_monomer(full: Tensor, rows: Tensor, key: Tensor, cycle: Tensor, recipe: Recipe) -> _Centres:
    """Random centres below the query, masked (supplement 1.2.7, steps 1 and 2)."""
    centres, rest = msa.choose_centres(rows, key, cycle, num_centres=recipe.num_centres)
    # The alignment stays in HHblits' order of letters: the few rows that leave are translated.
    true = inputs.hhblits_to_restype(tf.gather(full, centres))
    masked, chosen = masking.mask_centres(
        true,
        full,
        key,
        cycle,
        fraction=recipe.mask_fraction,
        replacement=recipe.replacement,
    )
    return _Centres(centres, rest, true, masked, chosen)


def _of_complex(raw: Mapping[str, Tensor], rows: Tensor, noise: Noise, recipe: Recipe) -> _Centres:
    """Centres in the order of noise, masked by noise, as AlphaFold-Multimer draws them.

    Cells outside of a row's block are masked like others, but do not count in the loss.
    """
    bias = tf.gather(raw["cluster_bias_mask"], rows)
    rows = tf.gather(rows, msa.noisy_order(bias, noise.of_rows(tf.size(rows))))
    centres, rest = rows[: recipe.num_centres], rows[recipe.num_centres :]
    true = inputs.hhblits_to_restype(tf.gather(raw["msa"], centres))
    chosen = noise.of_cells(tf.shape(true)) < recipe.mask_fraction
    cells = tf.cast(tf.where(chosen), tf.int32)
    masked = masking.replace_by_noise(
        true, cells, raw["profile"], noise.of_letters(cells), recipe.replacement
    )
    return _Centres(
        centres, rest, true, masked, chosen & (tf.gather(raw["bert_cells"], centres) > 0)
    )


def _sample_pass(
    raw: Mapping[str, Tensor],
    key: Tensor,
    cycle: Tensor,
    recipe: Recipe,
    padded_size: Tensor | int,
    make_noise: Callable[[Tensor], Noise],
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
    if recipe.complexes:
        centre_rows, rest, true, masked, counted = _of_complex(raw, rows, make_noise(cycle), recipe)
    else:
        centre_rows, rest, true, masked, counted = _of_monomer(full, rows, key, cycle, recipe)
    others = tf.gather(full, rest)
    shown = inputs.restype_to_hhblits(masked)
    centre_deletions, other_deletions = (
        tf.gather(deletions, numbers) for numbers in (centre_rows, rest)
    )
    sizes = {"num_centres": recipe.num_centres, "num_res": padded_size}
    length = tf.size(raw["aatype"])
    if recipe.complexes:  # of the crop's columns from the start
        profile, deletion_mean = clusters.summarize_shared(
            shown, centre_deletions, others, other_deletions, **sizes
        )
    else:
        assignment = clusters.assign(shown, others, num_centres=recipe.num_centres)
        # Agreement is over the whole chain; everything after it needs the crop alone.
        columns = slice(raw["crop_start"], raw["crop_start"] + length)
        true, masked, counted, shown, others, centre_deletions, other_deletions = (
            x[:, columns]
            for x in (true, masked, counted, shown, others, centre_deletions, other_deletions)
        )
        profile, deletion_mean = clusters.summarize(
            shown, centre_deletions, others, other_deletions, assignment, **sizes
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
        "counted": fit(tf.cast(counted, tf.uint8), recipe.num_centres),
        "deletions": fit(centre_deletions, recipe.num_centres),
        "profile": inputs.columns_to_restype(profile),
        "deletion_mean": deletion_mean,
        # Cells that are not there are 0 in both orders of letters.
        "extra": fit(others[: recipe.num_extra], recipe.num_extra),
        "extra_deletions": fit(other_deletions, recipe.num_extra),
    }


def msa_part(
    raw: Mapping[str, Tensor],
    key: Tensor,
    recipe: Recipe,
    padded_size: Tensor | int,
    make_noise: Callable[[Tensor], Noise] | None = None,
) -> dict[str, Tensor]:
    """All features that are sampled anew in every pass: [C, ...], padded.

    Args:
        raw: a read example; where the model knows chains, with one alignment for all of
            them, of the crop's columns (``pairing.merge_assembly``).
        make_noise: makes the noise of a pass of a complex; default: of the key.
    """
    if recipe.complexes:
        # Of all rows, before any is left out.
        profile = inputs.columns_to_restype(masking.column_profile(raw["msa"]))
        raw = {**raw, "profile": profile}
    noise = make_noise or functools.partial(Noise, key)
    # Letters are stacked, not features: a cell is one byte here, 200 in `msa_feat`.
    sample = tf.map_fn(
        lambda cycle: _sample_pass(raw, key, cycle, recipe, padded_size, noise),
        tf.range(recipe.num_passes),
        fn_output_signature=_SAMPLE,
    )
    seq_mask = tf.sequence_mask(tf.size(raw["aatype"]), padded_size, tf.float32)
    return {
        "msa_row_mask": sample["msa_row_mask"],
        "msa_mask": sample["msa_row_mask"][..., None] * seq_mask,
        "bert_mask": tf.cast(sample["counted"], tf.float32),
        "true_msa": tf.cast(sample["true"], tf.int32),
        "msa_feat": inputs.msa_features(
            sample["masked"], sample["deletions"], sample["profile"], sample["deletion_mean"]
        ),
        "extra_msa": tf.cast(inputs.many_to_restype(sample["extra"]), tf.int32),
        "extra_msa_mask": sample["extra_msa_row_mask"][..., None] * seq_mask,
        "extra_has_deletion": inputs.has_deletion(sample["extra_deletions"]),
        "extra_deletion_value": inputs.deletion_value(sample["extra_deletions"]),
    }
