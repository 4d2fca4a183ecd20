"""What is drawn for an example before it is read."""

import numpy as np

from tffold.data import choices


def _chosen(config, count, num_res=40):
    return [
        choices.training_choices(
            config,
            seed=0,
            position=position,
            num_res=num_res,
            num_hits=6,
            num_iter_recycling=0,
        )
        for position in range(count)
    ]


def test_clamp_flag_is_drawn_per_example_and_rules_the_crop(config):
    chosen = _chosen(config, 20_000)
    clamped = np.array([one.clamped for one in chosen])
    assert abs(clamped.mean() - 0.9) < 4.5 * np.sqrt(0.09 / 20_000)
    starts = np.array([one.crop_start for one in chosen])
    assert starts.max() == 20
    assert abs(starts[clamped].mean() - 10.0) < 0.2  # uniform over 0..20
    assert abs(starts[~clamped].mean() - 5.0) < 0.5  # half of a half


def test_recycles_are_uniform():
    drawn = [choices.draw_recycles(0, step, 3) for step in range(4000)]
    share = np.bincount(drawn, minlength=4) / 4000
    np.testing.assert_allclose(share, 0.25, atol=0.035)
