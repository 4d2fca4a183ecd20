"""``--complexes`` on the bundled structures: content, rejects, lists; identical chains."""

from dataclasses import replace

import numpy as np
import pytest
from conversions import DEMO, convert, entry_of, manifest, records_of
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


def predicted(name, confidences, chains="AB"):
    """A PDB file of glycines, the same in each chain but for the last chain's last residue."""
    lines = []
    for number, chain in enumerate(chains):
        for n, confidence in enumerate(confidences):
            last = number == len(chains) - 1 and n == len(confidences) - 1
            for atom, x in (("N", 0.0), ("CA", 1.4), ("C", 2.8)):
                lines.append(
                    f"ATOM  {len(lines) + 1:5d}  {atom:<3s} {'ALA' if last else 'GLY'} {chain}"
                    f"{n + 1:4d}    {x + 4 * number:8.3f}{3.8 * n:8.3f}{0.0:8.3f}{1.0:6.2f}"
                    f"{confidence:6.2f}          {atom[0]:>2s}"
                )
    name.write_text("\n".join([*lines, "END\n"]))


def test_predicted_complexes(tmp_path):
    models = tmp_path / "models"
    models.mkdir()
    predicted(models / "P1_P2.pdb", [90, 50, 51])
    predicted(models / "unsure.pdb", [20, 30, 40])
    predicted(models / "many.pdb", [90, 90, 90], "ABC")
    alignments = tmp_path / "alignments"
    alignments.mkdir()
    (alignments / "P1_P2.a3m").write_text("#3,3\t1,1\n>101\t102\nGGGGGA\n>a\tb\nAAAGGG\n")
    output = tmp_path / "out"
    arguments = [
        "--mmcif", str(models), "--alignments", str(alignments), "--distillation", "--complexes",
        "--min-mean-confidence", "50", "--max-chains", "2", "--output", str(output), "--quiet",
    ]  # fmt: skip
    assert main(arguments) == 0
    (found,) = assemblies_of(output).values()
    assert found.features["chain_id"] == "P1_P2" and found.entity_id == (1, 2)
    assert found.features["is_distillation"] == 1 and found.features["release_date"] == ""
    assert found.features["confidence"].tolist() == [90.0, 50.0, 51.0] * 2
    assert found.features["all_atom_mask"].sum(-1).tolist() == [3, 0, 3] * 2
    assert [len(entity["uniprot_msa"]) for entity in found.entities] == [2, 2]
    lines = manifest(output)
    assert "many.pdb: 3 protein chains, more than 2" in lines["many"]["reason"]
    assert "unsure.pdb: 30.0: mean confidence too low" in lines["unsure"]["reason"]
    # The same residue of both, 1.2 Å apart, and its neighbours along the chain.
    assert lines["P1_P2"]["interfaces"] == [["A", "B", 3 + 4, 0]]
    assert main([*arguments, "--search", str(tmp_path / "found")]) == 2


def test_a_predicted_complex_in_mmcif(tmp_path):
    """The deposited dimer of 4zhl serves: its chains as they are, its date and resolution not."""
    source = str(DEMO / "mmcif" / "4zhl.cif.gz")
    output = convert(
        tmp_path / "out", "--mmcif", source, "--complexes", "--distillation", "--single-sequence",
        "--min-residue-confidence", "0",
    )  # fmt: skip
    (found,) = assemblies_of(output).values()
    assert found.features["chain_names"] == ["U", "P"]
    assert found.features["release_date"] == "" and found.features["resolution"] == 0.0
    b_factors = [entry_of("4zhl").chain(name).b_factor for name in "UP"]
    expected = np.minimum(np.concatenate(b_factors), 100.0)
    np.testing.assert_array_equal(found.features["confidence"], expected)


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
