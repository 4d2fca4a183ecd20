"""The learning rate at the samples where it turns."""

from __future__ import annotations

import pytest

from tffold.config import TrainConfig
from tffold.train.schedule import learning_rate


@pytest.mark.parametrize(
    ("samples", "rate"),
    [
        (128, 1e-6),
        (64_000, 0.5e-3),
        (128_000, 1e-3),
        (6_400_000, 1e-3),
        (6_400_128, 0.95e-3),
        (12_000_000, 0.95e-3),
    ],
)
def test_initial_training(samples, rate):
    assert float(learning_rate(samples, TrainConfig())) == pytest.approx(rate, rel=1e-5)


def test_without_warmup_or_decay_it_is_constant():
    config = TrainConfig(learning_rate=5e-4, warmup_samples=0, decay_samples=0)
    for samples in (1, 128, 10_000_000):
        assert float(learning_rate(samples, config)) == pytest.approx(5e-4)
