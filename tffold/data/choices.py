"""What is chosen for an example before it is read (supplement 1.2.2, 1.2.8).

The crop, the templates, the clamp flag and the number of passes depend on the
seed, the position and the index's numbers of the record: its residues and hits.
Many examples are chosen for at once: every argument may have leading axes.
"""

from __future__ import annotations

from typing import Any

import tensorflow as tf

from tffold.config import DataConfig
from tffold.data import keys
from tffold.data.keys import Draw

Tensor = Any

_BEYOND = 2.0  # more than any draw: sorts behind all of them


def training_choices(
    config: DataConfig, *, seed: int, position: Tensor, num_res: Tensor, num_hits: Tensor
) -> dict[str, Tensor]:
    """Clamp flag, crop and templates of training examples.

    The crop's start, with n = num_res - crop_size: uniform over 0..n when the
    backbone FAPE is clamped; otherwise x is uniform over 0..n and the start over
    0..n - x, which favours the N-terminus.  A chain that fits is taken whole.

    Of the h best template hits (at most ``template_top``), k = min(uniform over
    0..h, ``max_templates``) are drawn without replacement, in random order.

    DISCREPANCY: the paper clamps whole batches; a flag per example, as in
    OpenFold, converges better.  Unlike there it is drawn before the crop, so
    that both crop rules are used.

    Args:
        position: [...] int64; num_res, num_hits: [...] int32.

    Returns: ``crop_start``, ``crop_size``,
        ``hits`` [..., max_templates], of which the first ``num_hits`` count,
        ``use_clamped_fape``.
    """
    top = config.template_top
    # One stream of draws, of which each takes the next: clamp, crop (none, one or two), the
    # number of templates, their order.
    draws = keys.doubles(4 + top, seed, position, Draw.CHOICES)
    clamped = draws[..., 0] < config.clamp_prob
    last = num_res - config.crop_size
    cropped = last > 0
    shorter = keys.integer(draws[..., 1], last)
    start = tf.where(
        clamped,
        keys.integer(draws[..., 1], last),
        keys.integer(draws[..., 2], last - shorter),
    )
    used = 1 + tf.where(cropped, 2 - tf.cast(clamped, tf.int32), 0)

    def following(first: int, count: int) -> Tensor:
        places = used[..., None] + tf.range(first, first + count)
        return tf.gather(draws, places, batch_dims=places.shape.rank - 1)

    available = tf.minimum(num_hits, top)
    count = keys.integer(following(0, 1)[..., 0], available)
    ranks = tf.where(tf.range(top) < available[..., None], following(1, top), _BEYOND)
    order = tf.argsort(ranks, axis=-1, stable=True)
    return {
        "crop_start": tf.where(cropped, start, 0),
        "crop_size": tf.minimum(num_res, config.crop_size),
        "use_clamped_fape": tf.cast(clamped, tf.float32),
    } | first_templates(config, order, count)


def inference_choices(
    config: DataConfig, *, num_res: Tensor, num_hits: Tensor, crop_size: int = 0
) -> dict[str, Tensor]:
    """The whole chain, or its first ``crop_size`` residues, and the best templates."""
    zero = tf.zeros_like(num_res)
    order = zero[..., None] + tf.range(config.max_templates)
    return {
        "crop_start": zero,
        "crop_size": tf.minimum(num_res, crop_size) if crop_size else num_res,
        "use_clamped_fape": tf.ones_like(num_res, tf.float32),
    } | first_templates(config, order, num_hits)


def first_templates(config: DataConfig, order: Tensor, count: Tensor) -> dict[str, Tensor]:
    """The first ``count`` of the hits in ``order``, at most ``max_templates``."""
    most = config.max_templates
    places = max(most, 1)  # data sets do not like tensors of no elements
    hits = order[..., :places]
    missing = [[0, 0]] * (hits.shape.rank - 1) + [[0, places - tf.shape(hits)[-1]]]
    return {"hits": tf.pad(hits, missing), "num_hits": tf.minimum(count, most)}


def draw_recycles(seed: int, step: Tensor, num_recycle: int) -> Tensor:
    """Extra passes of training steps, uniform over 0..``num_recycle`` (Algorithm 31, line 1).

    The same for the whole batch.
    """
    return keys.integer(keys.doubles(1, seed, step, Draw.RECYCLES)[..., 0], num_recycle)
