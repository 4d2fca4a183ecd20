"""Template hits of hmmsearch: by hand, and with the real programs."""

import gzip
import shutil

import pytest
from conversions import DEMO, convert, manifest, records_of

from records.chemistry import GAP_INDEX
from records.errors import InputError
from records.hmmsearch import parse_hmmsearch, profile_alignment
from records.mmcif import Entry, mmcif_files
from records.msa import parse
from records.search import SearchOptions, search_sequence

HITS = b"""# STOCKHOLM 1.0
#=GF AU hmmsearch
#=GS 1abc_A/3-7 DE [subseq from] mol:protein length:9

1abc_A/3-7         -CxD
#=GR 1abc_A/3-7 PP .*59
2abc_B/1-2         A--D
#=GR 2abc_B/1-2 PP 9..8
#=GC RF            xx.x

1abc_A/3-7         EF
#=GR 1abc_A/3-7 PP **
2abc_B/1-2         --
#=GR 2abc_B/1-2 PP ..
#=GC RF            x.
//
"""


def test_by_hand():
    """Columns A C . D E . of the profile are residues 1 to 4 of the query."""
    first, second = parse_hmmsearch(HITS, "ACDE")
    assert (first.name, first.hit_start, first.hit_residues) == ("1abc_A", 2, "CXDEF")
    assert first.query_index.tolist() == [1, 2, 3] and first.hit_index.tolist() == [2, 4, 5]
    assert (first.query_start, first.query_residues) == (1, "CDE")
    assert first.sum_probs == pytest.approx(1.0 + 0.9 + 1.0) and first.aligned_cols == 3
    assert second.query_index.tolist() == [0, 2] and second.hit_index.tolist() == [0, 1]
    assert second.query_residues == "ACD" and second.pdb_chain == ("2abc", "B")


@pytest.mark.parametrize("data", [b"", b"# STOCKHOLM 1.0\n//\n"])
def test_nothing_found(data):
    assert parse_hmmsearch(data, "ACDE") == []


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ((b"xx.x", b"xx.."), "3 match columns .#=GC RF., the chain 4"),
        ((b"#=GC RF            x.", b""), "match columns"),
        ((b"1abc_A/3-7", b"1abc_A/3-8"), "hit 1: 5 residues, 3-8 in the name"),
        ((b"1abc_A/3-7", b"1abc_A"), "hit 1: not a name with a stretch"),
        ((b"#=GR 1abc_A/3-7 PP **\n", b""), "hit 1: no line of probabilities"),
        ((b"//", b""), "no closing"),
    ],
)
def test_what_does_not_add_up(change, words):
    with pytest.raises(InputError, match=f"f.sto.*{words}"):
        parse_hmmsearch(HITS.replace(*change), "ACDE", "f.sto")


def test_profiles_of_other_alignments_have_the_querys_columns():
    text = profile_alignment(parse(b">q\nACDE\n>x\nA-cDW\n", "x"))
    assert text == b"# STOCKHOLM 1.0\nrow0 ACDE\nrow1 A-DW\n#=GC RF xxxx\n//\n"


@pytest.mark.skipif(not shutil.which("hmmsearch"), reason="no hmmsearch: apt-get install hmmer")
@pytest.mark.parametrize("aligned", ["uniref90_hits.sto", "mmseqs_hits.a3m"])
def test_real_hmmsearch_finds_the_protease_of_the_other(tmp_path, aligned):
    """Trypsin is the template of uPA, residues on the residues that HHsearch aligns."""
    seqres = tmp_path / "pdb_seqres.txt"
    with seqres.open("w") as file:
        for path in mmcif_files([DEMO / "mmcif"]).values():
            entry = Entry(path)
            for name, sequence in entry.protein_sequences().items():
                file.write(f">{entry.name}_{name} mol:protein length:{len(sequence)}\n{sequence}\n")
    (tmp_path / "chains").write_text("4zhl_U\n")
    folder = tmp_path / "found" / "4zhl_U"
    folder.mkdir(parents=True)
    sequence = Entry(DEMO / "mmcif" / "4zhl.cif.gz").chain("U").sequence
    data = gzip.decompress((DEMO / "alignments" / "4zhl_U" / "uniref90_hits.sto.gz").read_bytes())
    if aligned.endswith(".a3m"):
        data = b">query\n%s\n" % sequence.encode()
    (folder / aligned).write_bytes(data)
    (folder / "query.fasta").write_text(f">4zhl_U\n{sequence}\n")
    options = SearchOptions(str(tmp_path / "found"), pdb_seqres=str(seqres), cpu=1)
    search_sequence(sequence, "4zhl_U", options)
    output = convert(
        tmp_path / "out", "--alignments", str(tmp_path / "found"),
        "--chains", str(tmp_path / "chains"),
    )  # fmt: skip
    assert manifest(output)["4zhl_U"]["num_templates"] == 1
    found = records_of(output)["4zhl_U"]
    assert found["template_domain_names"] == ["1gbt_A"]
    known = records_of(convert(tmp_path / "hhr", "--chains", str(tmp_path / "chains")))["4zhl_U"]
    ours, theirs = found["template_aatype"][0], known["template_aatype"][0]
    both = (ours != GAP_INDEX) & (theirs != GAP_INDEX)
    assert both.sum() > 150 and (ours == theirs)[both].mean() > 0.9
