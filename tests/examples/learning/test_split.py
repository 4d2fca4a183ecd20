"""Components are never split, and the published table says what is held out."""

from __future__ import annotations

from collections import Counter

import pytest

from examples.learning import split
from records.errors import InputError

CHAINS = [f"c{i}" for i in range(8)]
LINKS = [("c0", "c1"), ("c2", "c1"), ("c5", "c6")]


def test_components_by_hand():
    found = split.components(CHAINS, LINKS)
    assert found == {
        "c0": 0, "c1": 0, "c2": 0, "c3": 1, "c4": 2, "c5": 3, "c6": 3, "c7": 4
    }  # fmt: skip


def test_one_chain_of_a_component_is_held_out_and_its_relatives_are_for_nothing():
    component = split.components(CHAINS, LINKS)
    lengths = dict.fromkeys(CHAINS, 60) | {"c0": 40, "c1": 129, "c3": 50}
    rows = dict.fromkeys(CHAINS, 64) | {"c4": 63}
    use = split.choose(component, lengths, rows, count=8)
    held = {chain for chain, one in use.items() if one == "validation"}
    # c2 is the only one of its component that fits; c4 is too shallow.
    assert held in ({"c2", "c3", "c5", "c7"}, {"c2", "c3", "c6", "c7"})
    assert {use["c0"], use["c1"]} == {"relative"} and use["c4"] == "train"
    assert Counter(use.values()) == {"validation": 4, "relative": 3, "train": 1}
    assert list(split.choose(component, lengths, rows, 1).values()).count("validation") == 1
    assert split.choose(component, lengths, rows, 2) == split.choose(component, lengths, rows, 2)


def test_large_components_are_learnt_from():
    chains = [f"c{i}" for i in range(13)]
    component = split.components(chains, [(chains[0], other) for other in chains[1:]])
    use = split.choose(component, dict.fromkeys(chains, 60), dict.fromkeys(chains, 99), 5)
    assert set(use.values()) == {"train"}


def test_superfamilies_are_links(tmp_path):
    (tmp_path / "scop").write_text("c0 a.1.1\nc9 a.1.1\nc3 b.2.1,a.1.1\nc4 b.2.1\n")
    links = split.superfamily_links(tmp_path / "scop", CHAINS)
    found = split.components(CHAINS, links)
    assert found["c0"] == found["c3"] == found["c4"] != found["c1"]
    (tmp_path / "bad").write_text("c0\n")
    with pytest.raises(InputError, match="not a chain and its superfamilies"):
        split.superfamily_links(tmp_path / "bad", CHAINS)


def test_a_table_is_read_as_written(tmp_path):
    component, use = {"a": 0, "b": 0, "c": 1}, {"a": "validation", "b": "relative", "c": "train"}
    split.write_split(tmp_path / "split.tsv", component, use)
    found = split.read_split(tmp_path / "split.tsv")
    assert found == {"a": (0, "validation"), "b": (0, "relative"), "c": (1, "train")}
    (tmp_path / "bad.tsv").write_text("a 0 reserved\n")
    with pytest.raises(InputError, match="a 0 reserved: not a chain, its component and its use"):
        split.read_split(tmp_path / "bad.tsv")


def test_links_between_training_and_validation_are_found():
    table = {"a": (0, "validation"), "b": (0, "relative"), "c": (1, "train"), "d": (1, "train")}
    links = [("a", "b"), ("b", "c"), ("c", "d"), ("x", "a")]
    assert split.crossing(table, links) == []
    assert split.crossing(table, [*links, ("c", "a")]) == [("c", "a")]


def test_the_published_split():
    """96 chains, each from a component of its own, in which nothing is learnt from."""
    table = split.read_split()
    by_use = Counter(use for _, use in table.values())
    assert by_use == {"train": 6772, "validation": 96, "relative": 281}
    held = {number for number, use in table.values() if use == "validation"}
    assert len(held) == 96
    assert not held & {number for number, use in table.values() if use == "train"}
