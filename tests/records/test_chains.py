"""Chains and their numbers, species as numbers."""

import numpy as np
import pytest
from synthetic import assembly, chain

from records import chains
from records.chains import Assembly, are_entity_ids, species_key, species_name
from records.errors import InputError


def test_numbers_of_residues():
    """Two copies of an entity of 10 residues, one of 13: by hand."""
    ids = assembly((1, 1, 2)).residue_chains()
    np.testing.assert_array_equal(ids["asym_id"], [1] * 10 + [2] * 10 + [3] * 13)
    np.testing.assert_array_equal(ids["entity_id"], [1] * 20 + [2] * 13)
    np.testing.assert_array_equal(ids["sym_id"], [1] * 10 + [2] * 10 + [1] * 13)


def test_copies_are_counted_for_each_entity():
    assert chains.copy_numbers([1, 1, 2, 2, 2, 3]) == [1, 2, 1, 2, 3, 1]


@pytest.mark.parametrize(
    ("entity_id", "num_entities", "fits"),
    [
        ([1], 1, True),
        ([1, 1, 2], 2, True),
        ([1, 2, 1], 2, False),
        ([1, 3], 2, False),
        ([1, 1], 2, False),
        ([2], 1, False),
        ([], 0, False),
        ([1] * (chains.MAX_CHAINS + 1), 1, False),
    ],
)
def test_entity_ids(entity_id, num_entities, fits):
    assert are_entity_ids(entity_id, num_entities) is fits


def test_a_monomer_in_one_mapping_and_back():
    features = chain()
    assert Assembly.of_chain(features).chain() == features


def test_species_keep_their_order_as_numbers():
    names = ["", "9606", "ECOLI", "HUMAN", "HUMANS", "MOUSE", "zz345678"]
    keys = [species_key(name) for name in names]
    assert keys == sorted(keys) and keys[0] == 0 and keys[-1] < 1 << 63
    assert [species_name(key) for key in keys] == names


@pytest.mark.parametrize("text", ["NINELETTS", "É", "A\0"])
def test_what_is_no_species(text):
    with pytest.raises(InputError, match="not a species or pair key"):
        species_key(text)
