"""Filters, acceptance, epochs and mix against their definitions; seeking."""

import dataclasses
from types import SimpleNamespace

import numpy as np
import pytest
from pipelines import OPEN

from records.errors import InputError
from tffold.config import FilterConfig
from tffold.data import keys, sampling
from tffold.data.sampling import Epochs, Schedule, acceptance, passes


class Columns(SimpleNamespace):
    """A set of records reduced to what sampling reads."""

    def __len__(self):
        return len(self.num_res)


def columns(count=6, **changes):
    defaults = {
        "num_res": np.full(count, 300),
        "num_msa": np.full(count, 100),
        "resolution": np.full(count, 2.0),
        "release_date": np.array(["2010-01-01"] * count),
        "cluster_size": np.ones(count, np.int64),
        "max_residue_fraction": np.full(count, 0.1),
    }
    changes = {name: np.asarray(value) for name, value in changes.items()}
    return Columns(name="shards", **{**defaults, **changes})


@pytest.mark.parametrize(
    ("change", "column", "values", "kept"),
    [
        ({}, "resolution", [0.0, 1.0, 8.99, 9.0, 9.01, 30.0], [1, 1, 1, 0, 0, 0]),
        ({"max_resolution": 0.0}, "resolution", [0.0, 1.0, 9.0, 20.0, 30.0, 99.0], [1] * 6),
        ({}, "max_residue_fraction", [0.1, 0.5, 0.8, 0.81, 0.9, 1.0], [1, 1, 1, 0, 0, 0]),
        (
            {"min_length": 200, "max_length": 1024},
            "num_res",
            [1, 199, 200, 1024, 1025, 9000],
            [0, 0, 1, 1, 0, 0],
        ),
        ({}, "num_res", [0, 1, 2, 5000, 1, 1], [0, 1, 1, 1, 1, 1]),
        ({"min_msa_rows": 200}, "num_msa", [1, 199, 200, 201, 0, 999], [0, 0, 1, 1, 0, 1]),
        (
            {"max_release_date": "2018-04-30"},
            "release_date",
            ["2018-04-30", "2018-05-01", "1999-12-31", "2020-01-01", "2018-04-29", "2019-01-01"],
            [1, 0, 1, 0, 1, 0],
        ),
    ],
)
def test_filters(change, column, values, kept):
    rule = dataclasses.replace(OPEN, **change)
    assert passes(columns(**{column: values}), rule).tolist() == [bool(k) for k in kept]


def test_acceptance_is_length_rule_times_cluster_weight():
    records = columns(
        num_res=[50, 256, 384, 512, 2000, 384],
        cluster_size=[1, 1, 1, 4, -1, 3],
        resolution=[2.0, 2.0, 2.0, 2.0, 0.0, 12.0],
    )
    np.testing.assert_allclose(
        acceptance(records, FilterConfig()), [0.5, 0.5, 0.75, 0.25, 1.0, 0.0]
    )
    by_length = FilterConfig(sample_by_cluster=False)
    np.testing.assert_allclose(acceptance(records, by_length), [0.5, 0.5, 0.75, 1.0, 1.0, 0.0])


def test_records_are_drawn_as_often_as_accepted():
    probability = np.array([0.5, 0.75, 1.0, 0.125, 0.0])
    epochs = Epochs(3, 0, probability)
    drawn = np.bincount([epochs.record(rank) for rank in range(20_000)], minlength=5) / 20_000
    expected = probability / probability.sum()
    sigma = np.sqrt(expected * (1 - expected) / 20_000)
    assert (np.abs(drawn - expected) < 4.5 * sigma + 1e-12).all()


@pytest.mark.parametrize("count", [7, 200_000])
def test_an_epoch_uses_each_record_once_in_an_order_of_its_own(count):
    """Small sets are drawn many epochs to a block, large ones an epoch to a block."""
    epochs = Epochs(0, 0, np.ones(count))
    size = min(count, 5000)
    first = [epochs.record(rank) for rank in range(size)]
    second = [epochs.record(count + rank) for rank in range(size)]
    assert len(set(first)) == len(set(second)) == size
    assert first != second and first != sorted(first)
    if count == 7:
        orders = {tuple(epochs.record(7 * e + i) for i in range(7)) for e in range(200)}
        assert all(sorted(order) == list(range(7)) for order in orders) and len(orders) > 150


def test_order_of_asking_does_not_matter():
    probability = np.linspace(0.1, 1.0, 30)
    forward = Epochs(5, 0, probability)
    ranks = [0, 3, 40_000, 900_000, 17, 123_456, 900_001]
    expected = {rank: forward.record(rank) for rank in sorted(ranks)}
    fresh = Epochs(5, 0, probability)
    assert {rank: fresh.record(rank) for rank in ranks} == expected
    assert [Epochs(6, 0, probability).record(rank) for rank in range(50)] != [
        forward.record(rank) for rank in range(50)
    ]
    assert [Epochs(5, 1, probability).record(rank) for rank in range(50)] != [
        forward.record(rank) for rank in range(50)
    ]


def _schedule(share=0.75, seed=0, predicted=True, rules=(OPEN, OPEN)):
    sets = [columns(50), columns(70) if predicted else None]
    return Schedule(sets, rules, distillation_probability=share, seed=seed)


def test_mix_of_sources():
    schedule = _schedule()
    sources = np.array([schedule.source(position)[0] for position in range(20_000)])
    sigma = np.sqrt(0.75 * 0.25 / 20_000)
    assert abs(sources.mean() - 0.75) < 4.5 * sigma
    # Independent from position to position.
    assert abs(np.corrcoef(sources[1:], sources[:-1])[0, 1]) < 0.03


def test_each_source_is_walked_without_gaps():
    schedule = _schedule()
    ranks = {0: [], 1: []}
    for position in range(3000):
        source, rank = schedule.source(position)
        ranks[source].append(rank)
    assert ranks[0] == list(range(len(ranks[0])))
    assert ranks[1] == list(range(len(ranks[1])))


def test_one_source_alone_is_all():
    assert {_schedule(predicted=False).record(position)[0] for position in range(200)} == {0}
    only = Schedule([None, columns(4)], (OPEN, OPEN), distillation_probability=0.75, seed=0)
    assert {only.record(position)[0] for position in range(200)} == {1}


def test_seeking_takes_no_walk(monkeypatch):
    """Position ten million of a set as small as the demo's, and of one as large as the PDB."""
    generators = []

    def counted(*arguments):
        generators.append(arguments)
        return keys.generator(*arguments)

    monkeypatch.setattr(sampling, "generator", counted)
    for count in (9, 130_000):
        sets = [columns(count, cluster_size=np.arange(count) % 40 + 1), columns(350_000)]
        generators.clear()
        schedule = Schedule(sets, (FilterConfig(), OPEN), distillation_probability=0.75, seed=0)
        schedule.record(10_000_000)
        assert len(generators) < 1000  # measured: 287, each for a block of draws
        assert schedule.record(10_000_000) == schedule.record(10_000_000)


def test_rules_are_per_source():
    lengths = np.arange(100, 170)
    sets = [columns(70, num_res=lengths), columns(70, num_res=lengths)]
    rules = (
        dataclasses.replace(OPEN, max_length=120),
        dataclasses.replace(OPEN, min_length=150),
    )
    schedule = Schedule(sets, rules, distillation_probability=0.5, seed=0)
    for position in range(400):
        source, record = schedule.record(position)
        assert lengths[record] >= 150 if source else lengths[record] <= 120


def test_substitutes_follow_acceptance():
    epochs = Epochs(0, 0, np.array([0.0, 0.5, 0.25, 0.25, 0.0]))
    drawn = np.bincount([epochs.substitute(position, 1) for position in range(4000)], minlength=5)
    np.testing.assert_allclose(drawn / 4000, [0, 0.5, 0.25, 0.25, 0], atol=0.04)
    assert drawn[0] == drawn[4] == 0


def test_nothing_left_is_an_error():
    with pytest.raises(InputError, match="none of the 50 chains passes.*data.train_filter"):
        _schedule(rules=(dataclasses.replace(OPEN, min_length=10_000), OPEN))
    with pytest.raises(InputError, match="no training shards"):
        Schedule([None, None], (OPEN, OPEN), distillation_probability=0.75, seed=0)


def test_prefix_sums():
    counted = []

    def count(block):
        counted.append(block)
        return block + 1

    prefix = sampling._Prefix()
    assert [prefix.before(block, count) for block in (0, 1, 5, 2)] == [0, 1, 15, 3]
    assert [prefix.find(rank, count) for rank in (0, 1, 2, 3, 14, 15)] == [
        (0, 0),
        (1, 0),
        (1, 1),
        (2, 0),
        (4, 4),
        (5, 0),
    ]
    assert counted == list(range(len(counted)))  # every block once
