"""Rows to pair: species, ColabFold's pairs, AlphaFold-Multimer's folders."""

import json
import shutil

import numpy as np
import pytest
from conversions import DEMO, PEPTIDE, PROTEASE, convert, convert_4zhl, manifest, uniprot_search
from synthetic import assembly, data_of

from records import example, shards
from records.chains import species_key, species_name
from records.errors import InputError
from records.message import Example
from records.msa import encode
from records.pairing import part_of, read_pairs, species_of


@pytest.mark.parametrize(
    ("header", "species"),
    [
        (b"sp|P69905|HBA_HUMAN", "HUMAN"),
        (b"tr|A0A022PTU0|A0A022PTU0_ERYGU/1-76 [subseq from] Some protein", "ERYGU"),
        (b"sp|UROK_HUMAN/179-425", "HUMAN"),
        (b"tr|Q1|Q1_9BACT", "9BACT"),
        (b"UniRef100_P69905 Hemoglobin n=12 Tax=Hominidae TaxID=9604 RepID=HBA", "9604"),
        (b"mine OX=9606", "9606"),
        (b"sp|P69905|HBA_TOOLONG", ""),
        (b"HBA_HUMAN", ""),
        (b"1a7g_E", ""),
        (b"", ""),
    ],
)
def test_species(header, species):
    assert species_name(species_of(header)) == species


def test_rows_of_a_search_with_their_species():
    """A3M and Stockholm give the same; repeated rows and the file's own query are left out."""
    a3m = (
        b">query\nACD\n>sp|P1|A_MOUSE/2-4\nAcCD\n>x OX=10090\nA-D\n"
        b">sp|P2|A_HUMAN\nACE\n>sp|P3|B_HUMAN\nACE\n"
    )
    sto = (
        b"# STOCKHOLM 1.0\n#=GS x DE Protein OX=10090\n\nquery A-CD\nsp|P1|A_MOUSE/2-4 ACCD\n"
        b"x A--D\nsp|P2|A_HUMAN A-CE\nsp|P3|B_HUMAN A-CE\n//\n"
    )
    for data in (a3m, sto):
        pairs = read_pairs([("f", data)], "ACD")
        rows = [encode(np.frombuffer(r, np.uint8)[None], "x")[0] for r in (b"ACD", b"A-D", b"ACE")]
        np.testing.assert_array_equal(pairs.msa, rows)
        assert [species_name(key) for key in pairs.species] == ["", "10090", "HUMAN"]
        assert not pairs.deletions.any()
    assert read_pairs([], "ACD") is None
    with pytest.raises(InputError, match="f: query has 3 residues, the chain 2"):
        read_pairs([("f", a3m)], "AC")


def letters(*rows):
    return [encode(np.frombuffer(row, np.uint8)[None], "x")[0] for row in rows]


COLABFOLD = (
    b"#3,2\t1,2\n>101\t102\nACDEF\n>p1\tq1\nACEEY\n>p2\tq2\nACEEF\n>101\nACD--\n>u\nAcAD--\n"
    b">102\n---EF\n>w\n---AF\n\0"
)


def test_colabfolds_pairs_and_unpaired_rows():
    alignment, pairs = part_of(COLABFOLD, "ACD", "f")
    np.testing.assert_array_equal(alignment.msa, letters(b"ACD", b"AAD"))
    np.testing.assert_array_equal(alignment.deletions[1], [0, 1, 0])
    np.testing.assert_array_equal(pairs.msa, letters(b"ACD", b"ACE", b"ACE"))
    other, others = part_of(COLABFOLD, "EF", "f")
    np.testing.assert_array_equal(other.msa, letters(b"EF", b"AF"))
    np.testing.assert_array_equal(others.msa, letters(b"EF", b"EY", b"EF"))
    # Row by row the same pair, and no two pairs alike.
    assert pairs.species.tolist() == others.species.tolist() == [0, *map(species_key, "12")]


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (COLABFOLD.replace(b"#3,2", b"#3,3"), "5 columns, the lengths at the head sum up to 6"),
        (COLABFOLD.replace(b"#3,2", b"#3,x"), "not a list of lengths"),
        (COLABFOLD.replace(b"ACEEY", b"ACEY"), "row 2: row has 4 columns, the query 5"),
        (COLABFOLD.replace(b"ACDEF", b"ACDEE"), "no chain of the alignment has this sequence"),
    ],
)
def test_alignments_over_several_chains_that_cannot_be(data, words):
    with pytest.raises(InputError, match=f"f: .*{words}"):
        part_of(data, "EF", "f")


def multimer_output(folder):
    uniprot_search(folder / "by_chain")
    (folder / "4zhl" / "msas").mkdir(parents=True)
    shutil.move(folder / "by_chain" / "4zhl_U", folder / "4zhl" / "msas" / "A")
    shutil.move(folder / "by_chain" / "4zhl_P", folder / "4zhl" / "msas" / "B")
    (folder / "by_chain").rmdir()
    table = {
        letter: {"sequence": of, "description": "x"}
        for letter, of in (("A", PROTEASE), ("B", PEPTIDE))
    }
    (folder / "4zhl" / "msas" / "chain_id_map.json").write_text(json.dumps(table))


def colabfold(folder):
    folder.mkdir()
    u, p = PROTEASE, PEPTIDE
    rows = [f">101\t102\n{u}{p}", f">a\tb\n{u[:-1]}A{p[:-1]}A", f">c\n{u[:-1]}C{'-' * len(p)}"]
    (folder / "4ZHL.a3m").write_text("\n".join([f"#{len(u)},{len(p)}\t1,1", *rows]) + "\n")


@pytest.mark.parametrize("layout", [uniprot_search, multimer_output, colabfold])
def test_layouts_of_a_complex(layout, tmp_path):
    output = convert_4zhl(tmp_path, layout)
    shared = manifest(output)["4zhl"]["shared_species"]
    assert shared == (1 if layout is colabfold else 2)
    (shard,) = shards.find_shards([output])
    (found,) = map(example.decode_assembly, data_of(shard))
    protease, peptide = found.entities
    species = [{species_name(key) for key in one["uniprot_species"]} for one in found.entities]
    if layout is colabfold:
        assert species == [{"", "1"}, {"", "1"}]
        assert (len(protease["msa"]), len(peptide["msa"])) == (2, 1)
        return
    assert species[1] == {"", "HUMAN", "PAPCY"} and {"HUMAN", "PAPCY"} < species[0]
    assert len(peptide["msa"]) == 1 and len(peptide["uniprot_msa"]) == 3
    np.testing.assert_array_equal(protease["uniprot_msa"], protease["msa"])


@pytest.mark.parametrize(("chain", "options"), [("4zhl_U", []), ("1a7g_E", ["--complexes"])])
def test_chains_and_homomers_hold_nothing_to_pair(chain, options, tmp_path):
    folder = tmp_path / "found" / chain
    shutil.copytree(DEMO / "alignments" / chain, folder)
    shutil.copy(folder / "uniref90_hits.sto.gz", folder / "uniprot_hits.sto.gz")
    (tmp_path / "chains").write_text(f"{chain}\n")
    output = convert(
        tmp_path / "out", "--alignments", str(tmp_path / "found"),
        "--chains", str(tmp_path / "chains"), *options,
    )  # fmt: skip
    (shard,) = shards.find_shards([output])
    (entry,) = shards.read_index(shard)
    assert entry["entity_num_uniprot"] == [0] and entry["num_msa"] > 50


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("not json", "not a map of chains"),
        ('{"A": {"description": "x"}}', "not a map of chains"),
        ('{"A": {"sequence": "MK"}}', "no chain of this sequence"),
    ],
)
def test_maps_of_chains_that_do_not_serve(text, words, tmp_path):
    multimer_output(tmp_path / "found")
    table = tmp_path / "found" / "4zhl" / "msas" / "chain_id_map.json"
    table.write_text(text)
    (tmp_path / "chains").write_text("4zhl\n")
    output = convert(
        tmp_path / "out", "--complexes", "--alignments", str(tmp_path / "found"),
        "--chains", str(tmp_path / "chains"), code=1,
    )  # fmt: skip
    reason = manifest(output)["4zhl"]["reason"]
    assert "chain_id_map.json" in reason and words in reason


@pytest.mark.parametrize("name", ["uniprot_species", "uniprot_deletion_matrix"])
def test_rows_to_pair_of_unequal_number_are_not_written(name):
    complex_ = assembly((1, 2))
    complex_.entities[0][name] = complex_.entities[0][name][:-1]
    with pytest.raises(InputError, match=f"1cpx: feature {name} has shape .5"):
        example.encode(complex_)


def test_rows_without_species_are_of_unknown_ones():
    complex_ = assembly((1, 2))
    del complex_.entities[0]["uniprot_species"]
    data = example.encode(complex_)
    found = example.decode_assembly(data)
    assert found.entities[0]["uniprot_species"].tolist() == [0] * 6
    # One array for each entity, as for the rows themselves.
    stored = Example.FromString(data).features.feature
    assert len(stored["uniprot_species"].bytes_list.value) == 2
