"""Biological assemblies: operators, names, limits, contacts; gemmi as the independent builder."""

from dataclasses import replace
from pathlib import Path

import gemmi
import numpy as np
import pytest
from conversions import entry_of, text_of

from records.assembly import interfaces, read_assembly
from records.chemistry import ATOM_ORDER
from records.errors import InputError
from records.mmcif import Entry

EXPRESSION = "_pdbx_struct_assembly_gen.oper_expression   1,2 "
ASYMS = "_pdbx_struct_assembly_gen.asym_id_list      A,B,C,D "


def expressed(expression):
    return (EXPRESSION, f"_pdbx_struct_assembly_gen.oper_expression   '{expression}' ")


@pytest.mark.parametrize(
    ("name", "assembly", "chains"),
    [
        ("1a7g", "1", ["E", "E-2"]),
        ("4cup", "1", ["A", "A-2"]),
        ("4zey", "2", ["A", "A-2"]),
        ("4zhl", "1", ["U", "P"]),
        ("1lcd", "1", ["A"]),  # beside DNA
    ],
)
def test_agrees_with_gemmi(name, assembly, chains):
    placed = read_assembly(entry_of(name), assembly, 20)
    assert [one.name for one in placed] == chains
    assert [one.chain.chain_id for one in placed] == [f"{name}_{chain}" for chain in chains]
    structure = gemmi.make_structure_from_block(gemmi.cif.read_string(text_of(name))[0])
    structure.setup_entities()
    built = gemmi.make_assembly(
        next(one for one in structure.assemblies if one.name == assembly),
        structure[0],
        gemmi.HowToNameCopiedChain.AddNumber,
    )
    theirs = np.array(
        [
            atom.pos.tolist()
            for chain in built
            for residue in chain.get_polymer()
            for atom in residue
            if atom.name == "CA" and atom.altloc in "\0A"
        ]
    )
    ours = np.concatenate(
        [
            one.chain.positions[one.chain.mask[:, ATOM_ORDER["CA"]] > 0, ATOM_ORDER["CA"]]
            for one in placed
        ]
    )
    np.testing.assert_allclose(ours, theirs, atol=1e-3)


def test_the_asymmetric_unit_and_identity_keep_the_files_numbers():
    entry = entry_of("4zhl")
    for assembly in ("1", "asym"):
        for one in read_assembly(entry, assembly, 20):
            np.testing.assert_array_equal(one.chain.positions, entry.chain(one.name).positions)
    assert [one.name for one in read_assembly(entry_of("1a7g"), "asym", 1)] == ["E"]


def test_products_of_operators():
    """(2)(1,2): the second operator by itself, and twice, which is the identity."""
    whole = read_assembly(entry_of("1a7g"), "1", 20)
    both = read_assembly(entry_of("1a7g", expressed("(2)(1,2)")), "1", 20)
    assert [one.name for one in both] == ["E", "E-2"]
    np.testing.assert_allclose(both[0].chain.positions, whole[1].chain.positions, atol=1e-3)
    np.testing.assert_allclose(both[1].chain.positions, whole[0].chain.positions, atol=1e-3)


def test_of_two_operators_the_last_acts_first():
    """A turn about z and a step along x, by hand: the order tells."""
    rows = "".join(
        f"{name} ? ? ? {numbers}\n"
        for name, numbers in (
            ("T", "0 -1 0 0 1 0 0 0 0 0 1 0"),
            ("S", "1 0 0 10 0 1 0 0 0 0 1 0"),
        )
    )
    text = text_of("1a7g")
    start = text.index("1 'identity operation' ")
    text = text[:start] + rows + text[start:]
    for expression, moved in (
        ("(T)(S)", lambda x, y, z: (-y, x + 10, z)),
        ("(S)(T)", lambda x, y, z: (-y + 10, x, z)),
    ):
        changed = text.replace(*expressed(expression))
        entry = Entry(Path("1a7g.cif"), changed.encode("latin-1"))
        (placed,) = read_assembly(entry, "1", 20)
        mask = placed.chain.mask > 0
        x, y, z = entry.chain("E").positions[mask].T
        expected = np.stack(moved(x, y, z), -1)
        np.testing.assert_allclose(placed.chain.positions[mask], expected, atol=1e-3)
        assert not placed.chain.positions[~mask].any()


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (expressed("(1-60)(1-60)"), "3600 protein chains, more than 20.*--max-chains"),
        (expressed("1-99999999999"), "99999999999 protein chains"),
        (expressed("3-1"), "no protein chain"),
        (expressed("1-" + "9" * 5000), "no such operator"),
        (expressed("1-²"), "no such operator"),
        (expressed("1,7"), "operator 7: no such operator"),
        (expressed("(1,2"), "not a list of operators"),
        (expressed("(1)2(2)"), "not a list of operators"),
        ((ASYMS, ASYMS.replace("A,B,C,D", "A,Q,R")), "chains that the file does not have: Q, R"),
        ((ASYMS, ASYMS.replace("A,B,C,D", "B,C")), "no protein chain"),
        (
            ("1_555  x,y,z            1.0000000000", "1_555  x,y,z           -1.0000000000"),
            "operator 1: not a rotation",
        ),
        (
            ("1_555  x,y,z            1.0000000000", "1_555  x,y,z           ?           "),
            "operator 1: not numbers",
        ),
    ],
)
def test_what_cannot_be_built(change, words):
    with pytest.raises(InputError, match=f"1a7g.cif.*{words}"):
        read_assembly(entry_of("1a7g", change), "1", 20)


def test_assemblies_that_are_not_there():
    with pytest.raises(InputError, match="1a7g.cif: no assembly 3 .the file has 1."):
        read_assembly(entry_of("1a7g"), "3", 20)
    lines = text_of("1a7g").splitlines()
    text = "\n".join(line for line in lines if not line.startswith("_pdbx_struct_assembly_gen"))
    with pytest.raises(InputError, match="lists no assemblies.*--assembly asym"):
        read_assembly(Entry(Path("1a7g.cif"), text.encode("latin-1")), "1", 20)


def test_contacts_of_the_bundled_heterodimer_one_by_one():
    placed = read_assembly(entry_of("4zhl"), "1", 20)
    (found,) = interfaces(placed)
    first, second = (one.chain for one in placed)
    close = 0
    for i in range(first.num_res):
        for j in range(second.num_res):
            a = first.positions[i][first.mask[i] > 0].astype(float)
            b = second.positions[j][second.mask[j] > 0].astype(float)
            if len(a) and len(b):
                close += np.linalg.norm(a[:, None] - b[None], axis=-1).min() < 5.0
    assert (found.first, found.second, found.contacts) == ("U", "P", close)
    assert 0 < found.buried < found.contacts


def test_chains_apart_have_no_contacts():
    one, other = read_assembly(entry_of("4zhl"), "1", 20)
    apart = other.chain.positions + 500.0 * other.chain.mask[..., None]
    far = replace(other, chain=replace(other.chain, positions=apart))
    assert interfaces([one, far]) == []
