"""Filters, acceptance, epochs and mix against their definitions; seeking."""

import dataclasses
from types import SimpleNamespace

import numpy as np
import pytest
import tensorflow as tf
from pipelines import OPEN

from records.errors import InputError
from tffold.config import FilterConfig
from tffold.data import sampling
from tffold.data.keys import Draw
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
        "num_chains": np.ones(count, np.int32),
    }
    layouts = changes.pop("layouts", None)
    changes = {name: np.asarray(value) for name, value in changes.items()}
    return Columns(name="shards", layouts=layouts, **{**defaults, **changes})


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


def _layout(entity_id, sizes):
    return {"entity_id": list(entity_id), "entity_cluster_size": list(sizes)}


def test_a_complex_is_used_where_any_of_its_chains_would_be():
    records = columns(
        4,
        num_chains=[1, 2, 3, 2],
        cluster_size=[4, 4, 2, -1],
        layouts=[_layout([1], [4]), _layout([1, 1], [4]), _layout([1, 2, 2], [8, 2]), None],
    )
    records.layouts[3] = _layout([1, 2], [5, -1])
    rule = dataclasses.replace(OPEN, sample_by_cluster=True)
    expected = [1 / 4, 1 - (3 / 4) ** 2, 1 - 7 / 8 / 4, 1.0]
    np.testing.assert_allclose(acceptance(records, rule), expected)
    pairs = dataclasses.replace(rule, min_chains=2, max_length=300)
    np.testing.assert_allclose(acceptance(records, pairs), [0.0, *expected[1:]])


def _records(epochs, rank, count):
    return [int(record) for record in epochs.records(rank).take(count)]


def test_records_are_drawn_as_often_as_accepted():
    probability = np.array([0.5, 0.75, 1.0, 0.125, 0.0])
    drawn = np.bincount(_records(Epochs(3, 0, probability), 0, 20_000), minlength=5) / 20_000
    expected = probability / probability.sum()
    sigma = np.sqrt(expected * (1 - expected) / 20_000)
    assert (np.abs(drawn - expected) < 4.5 * sigma + 1e-12).all()


def _by_definition(seed, source, probability, block):
    """The records of one block, with NumPy's generator."""
    shape = (max(1, 2**16 // len(probability)), len(probability))

    def draws(draw):
        philox = np.random.Philox(key=seed, counter=[0, source, block, int(draw)])
        return np.random.Generator(philox).random(shape)

    accepted = draws(Draw.ACCEPTANCE) < probability
    order = np.argsort(draws(Draw.SHUFFLE), axis=1, kind="stable")
    return order[np.take_along_axis(accepted, order, axis=1)]


@pytest.mark.parametrize("count", [3, 70_000])
def test_blocks_are_as_defined_and_follow_each_other(count):
    probability = np.linspace(0.2, 0.9, count)
    blocks = [_by_definition(4, 1, probability, block) for block in range(3)]
    epochs = Epochs(4, 1, probability)
    rank = len(blocks[0]) + len(blocks[1]) - 5
    expected = np.concatenate([blocks[1][-5:], blocks[2][:50]])
    assert _records(epochs, rank, 55) == expected.tolist()


@pytest.mark.parametrize("count", [7, 200_000])
def test_an_epoch_uses_each_record_once_in_an_order_of_its_own(count):
    """Small sets are drawn many epochs to a block, large ones an epoch to a block."""
    epochs = Epochs(0, 0, np.ones(count))
    size = min(count, 5000)
    first, second = _records(epochs, 0, size), _records(epochs, count, size)
    assert len(set(first)) == len(set(second)) == size
    assert first != second and first != sorted(first)
    if count == 7:
        orders = np.reshape(_records(epochs, 0, 7 * 200), [200, 7])
        assert (np.sort(orders, axis=1) == np.arange(7)).all()
        assert len(np.unique(orders, axis=0)) > 150


def test_order_of_asking_does_not_matter():
    probability = np.linspace(0.1, 1.0, 30)
    forward = Epochs(5, 0, probability)
    ranks = [0, 3, 40_000, 900_000, 17, 123_456, 900_001]
    expected = {rank: _records(forward, rank, 1) for rank in sorted(ranks)}
    fresh = Epochs(5, 0, probability)
    assert {rank: _records(fresh, rank, 1) for rank in ranks} == expected
    assert _records(forward, 0, 18)[17:] == expected[17]
    assert _records(Epochs(6, 0, probability), 0, 50) != _records(forward, 0, 50)
    assert _records(Epochs(5, 1, probability), 0, 50) != _records(forward, 0, 50)


def _schedule(share=0.75, seed=0, predicted=True, rules=(OPEN, OPEN)):
    sets = [columns(50), columns(70) if predicted else None]
    return Schedule(sets, rules, distillation_probability=share, seed=seed)


def _numbers(schedule, position, count):
    return np.array([int(number) for number in schedule.numbers(position).take(count)])


def test_mix_of_sources():
    sources = _numbers(_schedule(), 0, 20_000) >= 50
    sigma = np.sqrt(0.75 * 0.25 / 20_000)
    assert abs(sources.mean() - 0.75) < 4.5 * sigma
    # Independent from position to position.
    assert abs(np.corrcoef(sources[1:], sources[:-1])[0, 1]) < 0.03


def test_each_source_is_walked_without_gaps():
    schedule = _schedule()
    numbers = _numbers(schedule, 0, 3000)
    experimental, predicted = numbers[numbers < 50], numbers[numbers >= 50]
    assert experimental.tolist() == _records(Epochs(0, 0, np.ones(50)), 0, len(experimental))
    drawn = Epochs(0, 1, np.ones(70)).records(0).take(len(predicted))
    assert (predicted - 50).tolist() == [int(record) for record in drawn]
    # From a place in the middle, and from another block, it goes on the same.
    np.testing.assert_array_equal(_numbers(_schedule(), 1234, 300), numbers[1234:1534])
    far = _numbers(schedule, 65_536 - 10, 20)
    np.testing.assert_array_equal(_numbers(_schedule(), 65_536, 10), far[10:])


def test_one_source_alone_is_all():
    assert set(_numbers(_schedule(predicted=False), 0, 200)) == set(range(50))
    only = Schedule([None, columns(4)], (OPEN, OPEN), distillation_probability=0.75, seed=0)
    assert set(_numbers(only, 0, 200)) == set(range(4))


def _mixed(seed=0, sizes=(50, 150, 30), shares=(0.75, 0.4)):
    sets = [columns(size) if size else None for size in sizes]
    predicted, complexes = shares
    return Schedule(
        sets,
        (OPEN, OPEN, OPEN),
        distillation_probability=predicted,
        complex_probability=complexes,
        seed=seed,
    )


def test_complexes_have_their_share_whatever_the_others_have():
    numbers = _numbers(_mixed(), 0, 20_000)
    assert set(numbers) == set(range(230))
    of_complexes, predicted = numbers >= 200, (numbers >= 50) & (numbers < 200)
    for found, share in ((of_complexes, 0.4), (predicted, 0.45)):
        assert abs(found.mean() - share) < 4 * np.sqrt(share * (1 - share) / 20_000)
    # The sequence of each source is its own: the mix decides only when it goes on.
    without = _numbers(_mixed(sizes=(50, 150, 0)), 0, 4000)
    mixed = _numbers(_mixed(), 0, 4000)
    for first, last in ((0, 50), (50, 200)):
        one, other = ([n for n in x if first <= n < last] for x in (mixed, without))
        shorter = min(len(one), len(other))
        assert shorter > 100 and one[:shorter] == other[:shorter]
    alone = _mixed(sizes=(0, 0, 30))
    assert set(_numbers(alone, 0, 300)) == set(range(30))
    pair = _numbers(_mixed(sizes=(50, 0, 30)), 0, 5000) >= 50
    assert abs(pair.mean() - 0.4) < 4 * np.sqrt(0.24 / 5000)


def test_three_sources_are_sought_and_substituted():
    schedule = _mixed(seed=2)
    whole = _numbers(schedule, 0, 200)
    np.testing.assert_array_equal(_numbers(schedule, 150, 50), whole[150:])
    far = 3 * 2**16 - 40
    np.testing.assert_array_equal(
        _numbers(schedule, far + 20, 60), _numbers(schedule, far, 80)[20:]
    )
    for number, (first, last) in ((3, (0, 50)), (199, (50, 200)), (200, (200, 230))):
        found = {
            int(schedule.substitute(tf.constant(number, tf.int64), tf.constant(7, tf.int64), a))
            for a in range(1, 12)
        }
        assert len(found) > 5 and all(first <= n < last for n in found)


def test_seeking_takes_no_walk(monkeypatch):
    """Position ten million of a set as small as the demo's, and of one as large as the PDB."""
    for count in (9, 130_000):
        sets = [columns(count, cluster_size=np.arange(count) % 40 + 1), columns(350_000)]
        schedule = Schedule(sets, (FilterConfig(), OPEN), distillation_probability=0.75, seed=0)
        counted = []
        for prefix in (*schedule._prefixes, *(epochs._prefix for epochs in schedule._epochs)):
            monkeypatch.setattr(prefix, "_count", _counting(prefix._count, counted))
        first = _numbers(schedule, 10_000_000, 3)
        # So many blocks are counted, once, and none after that.
        assert 150 < len(counted) < 2000
        before = len(counted)
        np.testing.assert_array_equal(_numbers(schedule, 10_000_000, 3), first)
        assert len(counted) == before


def _counting(function, counted):
    def count(block):
        counted.append(block)
        return function(block)

    return count


def test_rules_are_per_source():
    lengths = np.arange(100, 170)
    sets = [columns(70, num_res=lengths), columns(70, num_res=lengths)]
    rules = (
        dataclasses.replace(OPEN, max_length=120),
        dataclasses.replace(OPEN, min_length=150),
    )
    schedule = Schedule(sets, rules, distillation_probability=0.5, seed=0)
    for number in _numbers(schedule, 0, 400):
        assert lengths[number - 70] >= 150 if number >= 70 else lengths[number] <= 120


def test_substitutes_follow_acceptance():
    epochs = Epochs(0, 0, np.array([0.0, 0.5, 0.25, 0.25, 0.0]))
    draw = tf.function(lambda position: epochs.substitute(position, 1))
    places = [int(draw(tf.constant(place, tf.int64))) for place in range(4000)]
    drawn = np.bincount(places, minlength=5)
    np.testing.assert_allclose(drawn / 4000, [0, 0.5, 0.25, 0.25, 0], atol=0.04)
    assert drawn[0] == drawn[4] == 0


def test_substitutes_are_of_the_same_source():
    schedule = _schedule()
    for number in (3, 60):
        other = {int(schedule.substitute(tf.constant(number), p, 1)) for p in range(100)}
        assert {one >= 50 for one in other} == {number >= 50} and len(other) > 30


def test_nothing_left_is_an_error():
    with pytest.raises(InputError, match="none of the 50 chains passes.*data.train_filter"):
        _schedule(rules=(dataclasses.replace(OPEN, min_length=10_000), OPEN))
    with pytest.raises(InputError, match="no training shards"):
        Schedule([None, None], (OPEN, OPEN), distillation_probability=0.75, seed=0)


def test_prefix_sums():
    prefix = sampling._Prefix(lambda block: block + 1)
    assert [prefix.before(block) for block in (0, 1, 5, 2)] == [0, 1, 15, 3]
    assert [prefix.find(rank) for rank in (0, 1, 2, 3, 14, 15)] == [
        (0, 0),
        (1, 0),
        (1, 1),
        (2, 0),
        (4, 4),
        (5, 0),
    ]
