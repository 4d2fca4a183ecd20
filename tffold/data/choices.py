"""What is chosen for an example before it is read: its crop, templates, clamp and recycles."""

from __future__ import annotations

from dataclasses import dataclass

from tffold.config import DataConfig
from tffold.data import keys
from tffold.data.crop import draw_crop_start, draw_templates
from tffold.data.keys import Draw


@dataclass(frozen=True)
class Choices:
    """What is chosen for an example before it is read."""

    position: int
    crop_start: int
    crop_size: int  # residues taken
    hits: tuple[int, ...]  # templates, as places in the record
    clamped: bool
    num_iter_recycling: int


def training_choices(
    config: DataConfig,
    *,
    seed: int,
    position: int,
    num_res: int,
    num_hits: int,
    num_iter_recycling: int,
) -> Choices:
    """Clamp flag, crop and templates of one training example (supplement 1.2.2, 1.2.8).

    DISCREPANCY: the paper clamps whole batches; a flag per example, as in
    OpenFold, converges better.  Unlike there it is drawn before the crop, so
    that both crop rules are used.
    """
    random = keys.generator(seed, position, Draw.CHOICES)
    clamped = random.random() < config.clamp_prob
    start = draw_crop_start(random, num_res, config.crop_size, clamped=clamped)
    hits = draw_templates(
        random, num_hits, top=config.template_top, max_templates=config.max_templates
    )
    return Choices(
        position=position,
        crop_start=start,
        crop_size=min(num_res, config.crop_size),
        hits=tuple(hits),
        clamped=clamped,
        num_iter_recycling=num_iter_recycling,
    )


def inference_choices(
    config: DataConfig, *, position: int, num_res: int, num_hits: int, num_recycle: int
) -> Choices:
    """The whole chain, the best templates, every pass."""
    count = min(num_hits, config.max_templates)
    return Choices(position, 0, num_res, tuple(range(count)), True, num_recycle)


def draw_recycles(seed: int, step: int, num_recycle: int) -> int:
    """Extra passes of a training step, uniform over 0..``num_recycle`` (Algorithm 31, line 1).

    The same for the whole batch.
    """
    return keys.uniform_integer(keys.generator(seed, step, Draw.RECYCLES), 0, num_recycle)
