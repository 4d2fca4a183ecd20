"""A3M and Stockholm, against hand-made cases and Biopython."""

import gzip
import io
from pathlib import Path

import numpy as np
import pytest
from Bio import AlignIO
from hypothesis import given, settings
from hypothesis import strategies as st

from records.chemistry import HHBLITS_LETTERS
from records.errors import InputError
from records.msa import check_query, merge, parse, parse_a3m, parse_stockholm

DEMO = Path(__file__).parents[2] / "examples" / "demo"
LETTERS = np.array(list(HHBLITS_LETTERS))


def rows_of(alignment):
    return ["".join(LETTERS[row]) for row in alignment.msa]


def test_a3m_by_hand():
    data = b">query\nACDE\n>one with words > and arrows\nAkk-D\nE\n>two\n.aACDE.ww\n"
    alignment = parse_a3m(data)
    assert rows_of(alignment) == ["ACDE", "A-DE", "ACDE"]
    assert alignment.deletions.tolist() == [[0, 0, 0, 0], [0, 2, 0, 0], [1, 0, 0, 0]]


def test_a3m_maps_rare_letters():
    assert rows_of(parse_a3m(b">q\nBJOUZX\n")) == ["DXXCEX"]


def test_colabfold_a3m():
    alignment = parse_a3m(b"#4\t1\n>101\nACDE\n>UniRef100_X\t90\t0.5\nAC-E\n\0")
    assert rows_of(alignment) == ["ACDE", "AC-E"]
    with pytest.raises(InputError, match="several chains"):
        parse_a3m(b"#4,5\t1,1\n>101\t102\nACDEACDEF\n")
    with pytest.raises(InputError, match="several alignments"):
        parse_a3m(b">101\nACDE\n\0>102\nACDEF\n\0")


def test_deletions_stop_at_255():
    assert parse_a3m(b">q\nAC\n>r\nA" + b"g" * 300 + b"C\n").deletions.tolist()[1] == [0, 255]


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "holds no sequence"),
        (b"ACDE\n", "no FASTA header"),
        (b">q\n", "row 1: empty row"),
        (b">q\nACDE\n>r\nACD\n", "row 2: row has 3 columns, the query 4"),
        (b">q\nACDE\n>r\n\n>s\nACDE\n", "row 2: empty row"),
        (b">q\nACDE\n>r\nAC1E\n", "row 2, column 3: '1' is no residue letter"),
        (b">q\nacde\n", "query 0"),
        (b"# STOCKHOLM 1.0\n//\n", "holds no sequence"),
        (b"# STOCKHOLM 1.0\nq ACDE\n", "no closing"),
        (b"# STOCKHOLM 1.0\nq ACDE\nr ACD\n//\n", "row 2: row has 3 columns"),
        (b"# STOCKHOLM 1.0\nq ----\n//\n", "all gaps"),
    ],
)
def test_bad_alignments_say_why(data, message):
    with pytest.raises(InputError, match=message) as caught:
        parse(data, "hits.a3m")
    assert "hits.a3m" in str(caught.value)


def test_stockholm_by_hand():
    """Blocks, '.' and '-' as gaps, lower-case insertions, columns where the query has a gap."""
    data = (
        b"# STOCKHOLM 1.0\n#=GF ID x\n\nquery/1-4  AC.-\nr/1-6      A-gG\n"
        b"#=GR r/1-6 PP 9.99\n\nquery/1-4  DE\nr/1-6      -E\n#=GC RF   xx\n//\n"
    )
    alignment = parse_stockholm(data)
    assert rows_of(alignment) == ["ACDE", "A--E"]
    assert alignment.deletions.tolist() == [[0, 0, 0, 0], [0, 0, 2, 0]]
    assert parse_stockholm(data, max_rows=1).depth == 1


@pytest.mark.parametrize("chain", ["1gbt_A", "1a8o_A", "1ubq_A", "2ofg_X"])
def test_stockholm_agrees_with_biopython(chain):
    path = DEMO / "alignments" / chain / "uniref90_hits.sto.gz"
    data = gzip.decompress(path.read_bytes())
    ours = parse_stockholm(data)
    theirs = AlignIO.read(io.StringIO(data.decode()), "stockholm")
    query = str(theirs[0].seq)
    assert ours.depth == len(theirs)
    for row, deletions, record in zip(ours.msa, ours.deletions, theirs, strict=True):
        expected, expected_deletions, count = [], [], 0
        for q, r in zip(query, str(record.seq).upper(), strict=True):
            if q == "-":
                count += r != "-"
            else:
                expected.append({"U": "C", "O": "X", "B": "D", "Z": "E"}.get(r, r))
                expected_deletions.append(count)
                count = 0
        assert "".join(LETTERS[row]) == "".join(expected)
        assert deletions.tolist() == expected_deletions


aligned_row = st.lists(st.tuples(st.text("acdg", max_size=3), st.sampled_from("ACDEG-")),
                       min_size=6, max_size=6)  # fmt: skip


@given(st.lists(aligned_row, min_size=1, max_size=8), st.text("acd", max_size=3))
@settings(max_examples=100, deadline=None)
def test_a3m_and_stockholm_agree(rows, tail):
    """The same alignment written in both formats reads the same."""
    rows = [[("", letter) for letter in "ACDEGA"], *rows]
    a3m = "".join(f">{n}\n{''.join(i + c for i, c in row)}{tail}\n" for n, row in enumerate(rows))
    widths = [max(len(row[column][0]) for row in rows) for column in range(6)]
    sto = "# STOCKHOLM 1.0\n"
    for n, row in enumerate(rows):
        cells = (i.ljust(w, ".") + c for (i, c), w in zip(row, widths, strict=True))
        sto += f"s{n} {''.join(cells)}\n"
    first, second = (
        parse_a3m(a3m.encode().replace(f"GA{tail}".encode(), b"GA", 1)),
        parse_stockholm((sto + "//\n").encode()),
    )
    np.testing.assert_array_equal(first.msa, second.msa)
    np.testing.assert_array_equal(first.deletions, second.deletions)


def test_merge_keeps_order_and_drops_exact_duplicates():
    first = parse_a3m(b">q\nAXDE\n>a\nAC-E\n>b\nAcC-E\n>same\nACDE\n")
    second = parse_a3m(b">q\nACDE\n>a\nAC-E\n>c\n--DE\n")
    merged = merge([first, second], "ACDE")
    assert rows_of(merged) == ["ACDE", "AC-E", "--DE"]
    assert merged.deletions.sum() == 0  # of the two AC-E the first, without deletion, stays
    assert rows_of(merge([second, first], "ACDE")) == ["ACDE", "AC-E", "--DE"]
    assert rows_of(merge([], "ACDE")) == ["ACDE"]


def test_query_must_be_the_chain():
    alignment = parse_a3m(b">q\nAXDE\n")
    check_query(alignment, "ACDE", "f")  # X stands for any residue
    with pytest.raises(InputError, match="f: query has 4 residues, the chain 5"):
        check_query(alignment, "ACDEF", "f")
    with pytest.raises(InputError, match="residue 4 is E, in the chain F; 1 differ"):
        check_query(alignment, "ACDF", "f")
