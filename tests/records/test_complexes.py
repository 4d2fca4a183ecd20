"""``--complexes`` on the bundled structures: content, rejects, lists; identical chains."""

from dataclasses import replace

import numpy as np
import pytest
from conversions import convert, entry_of, manifest, records_of
from synthetic import chain as raw_chain
from synthetic import data_of

from records import example, shards
from records.assembly import read_assembly
from records.cli import main
from records.complexes import join


@pytest.fixture(scope="module")
def complexes(tmp_path_factory):
    """The bundled complexes converted, peptides without alignment too."""
    return convert(tmp_path_factory.mktemp("complexes") / "out", "--complexes", "--single-sequence")


def assemblies_of(output, split="train"):
    return {
        found.features["chain_id"]: found
        for shard in shards.find_shards([output / split])
        for found in map(example.decode_assembly, data_of(shard))
    }


def test_bundled_complexes(complexes, converted):
    found = assemblies_of(complexes)
    assert {name: one.entity_id for name, one in found.items() if len(one.entity_id) > 1} == {
        "1a7g": (1, 1),
        "1a8o": (1, 1),
        "4cup": (1, 1),
        "4zhl": (1, 2),
    }
    lines = manifest(complexes)
    assert lines["4zhl"]["interfaces"] == [["U", "P", 60, 50]]
    assert lines["1a7g"]["chain_names"] == ["E", "E-2"] and lines["1a7g"]["num_chains"] == 2
    assert lines["1ubq"]["interfaces"] == []
    # The alignment is there once, and the one that the chain by itself has.
    dimer, monomer = found["1a7g"], records_of(converted)["1a7g_E"]
    for name in ("msa", "template_aatype", "aatype"):
        np.testing.assert_array_equal(dimer.entities[0][name], monomer[name])
    placed = read_assembly(entry_of("1a7g"), "1", 20)
    np.testing.assert_array_equal(
        dimer.features["all_atom_positions"],
        np.concatenate([one.chain.positions for one in placed]),
    )
    np.testing.assert_array_equal(dimer.features["residue_index"], [*range(82), *range(82)])
    assert len(found["4zhl"].entities[1]["msa"]) == 1  # the peptide's


def test_a_complex_of_one_chain_is_a_monomer(complexes, converted):
    records = {
        one.features["chain_id"]: one.chain()
        for one in assemblies_of(complexes).values()
        if len(one.entity_id) == 1
    }
    alone = records_of(converted)["1ubq_A"]
    for name, value in records["1ubq"].items():
        if name != "chain_id":
            np.testing.assert_array_equal(value, alone[name], err_msg=name)


def test_lists_limits_and_rejects(tmp_path):
    (tmp_path / "chains").write_text("1a7g_E\n4ZHL\n1ubq_A\n9zzz_A\n")
    (tmp_path / "validation").write_text("1a7g\n4zhl_P\n")
    (tmp_path / "clusters").write_text("1a7g_E 1ubq_A\n4zhl_P\n")
    output = convert(
        tmp_path / "out", "--complexes", "--single-sequence", "--min-chains", "2",
        "--chains", str(tmp_path / "chains"), "--clusters", str(tmp_path / "clusters"),
        "--validation-chains", str(tmp_path / "validation"),
    )  # fmt: skip
    lines = manifest(output)
    assert list(lines) == ["1a7g", "1ubq", "4zhl", "9zzz"]
    assert "fewer chains than --min-chains" in lines["1ubq"]["reason"]
    assert "9zzz.cif (not given)" in lines["9zzz"]["reason"]
    found = assemblies_of(output, "validation")
    assert list(found) == ["1a7g", "4zhl"]
    assert [int(entity["cluster_size"]) for entity in found["4zhl"].entities] == [-1, 1]
    (entry,) = (e for e in shards.read_index(next((output / "validation").glob("*.tfrecord")))
                if e["chain_id"] == "4zhl")  # fmt: skip
    assert entry["cluster_size"] == 1 and entry["entity_cluster_size"] == [-1, 1]
    output = convert(tmp_path / "few", "--complexes", "--max-chains", "1", "--max-length", "250")
    reasons = {c: one["reason"] for c, one in manifest(output).items() if "reason" in one}
    assert "1a7g.cif.gz: assembly 1: 2 protein chains, more than 1" in reasons["1a7g"]
    assert "longer than --max-length" in reasons["1pzp"]
    assert "chain A: no alignment for the chain" in reasons["4zey"]
    output = convert(tmp_path / "asym", "--complexes", "--assembly", "asym", "--max-chains", "1")
    assert "written" in manifest(output)["1a7g"]["status"]


def test_predicted_complexes_are_not_read_yet(capsys, tmp_path):
    arguments = ["--mmcif", "x", "--output", str(tmp_path / "out"), "--complexes", "--distillation"]
    assert main(arguments) == 2
    assert "--complexes reads deposited" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_copies_keep_their_own_observed_residues_and_stand_together():
    """A, P, A': the copies come first, each with its own mask."""
    chain_u, chain_p = read_assembly(entry_of("4zhl"), "1", 20)
    mask = chain_u.chain.mask.copy()
    mask[:30] = 0
    other = replace(chain_u, name="V", chain=replace(chain_u.chain, mask=mask))
    asked = []

    def features_of(chain, names):
        asked.append(names)
        return {**raw_chain(chain.num_res, sequence=chain.sequence), "aatype": chain.aatype}

    found = join("x", [chain_u, chain_p, other], features_of)
    assert found.features["chain_names"] == ["U", "V", "P"] and found.entity_id == (1, 1, 2)
    assert asked == [["U"], ["P"]]  # one source: made by operators
    masks = np.split(found.features["all_atom_mask"], [247, 494])
    np.testing.assert_array_equal(masks[0], chain_u.chain.mask)
    np.testing.assert_array_equal(masks[1], mask)
    np.testing.assert_array_equal(masks[2], chain_p.chain.mask)
    np.testing.assert_array_equal(found.residue_chains()["sym_id"][247:494], 2)
    example.decode_assembly(example.encode(found))
