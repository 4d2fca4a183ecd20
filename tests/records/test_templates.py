"""hhr files and what becomes of their hits."""

import dataclasses
import gzip
import json
import uuid
from pathlib import Path

import numpy as np
import pytest

from records import paths, stores
from records.chemistry import ATOM_ORDER
from records.errors import InputError
from records.hhr import Hit, parse_hhr
from records.mmcif import Entry, mmcif_files
from records.templates import TemplateLibrary, date_limit, prefilter, read_dates, template_features

DEMO = Path(__file__).parents[2] / "examples" / "demo"


def hhr_bytes(chain):
    return gzip.decompress((DEMO / "alignments" / chain / "pdb70_hits.hhr.gz").read_bytes())


@pytest.fixture(scope="module")
def library():
    return TemplateLibrary(mmcif_files([DEMO / "mmcif"]))


@pytest.fixture(scope="module")
def trypsin():
    return Entry(DEMO / "mmcif" / "1gbt.cif.gz").chain("A")


def make_hit(query, hit, *, name="1gbt_A", query_start=0, hit_start=0, sum_probs=10.0):
    """A hit without gaps."""
    n = len(query)
    return Hit(
        1, name, sum_probs, n, query_start, hit_start, query, hit,
        np.arange(query_start, query_start + n, dtype=np.int32),
        np.arange(hit_start, hit_start + n, dtype=np.int32),
    )  # fmt: skip


def test_hhr_of_a_real_search():
    hits = parse_hhr(hhr_bytes("1gbt_A"))
    assert len(hits) == 10
    second = hits[1]
    assert (second.name, second.sum_probs, second.aligned_cols) == ("4zhl_U", 204.5, 222)
    assert second.pdb_chain == ("4zhl", "U")
    # Read off the file: query 1 is on template 1; six residues are inserted after 'SLNS'.
    assert second.query_index[:20].tolist() == list(range(20))
    assert second.hit_index[19] == 19 and second.hit_index[20] == 26
    assert second.query_residues.startswith("IVGGYTCGANTVPYQVSLNSGYHF")
    for hit in hits:
        assert len(hit.query_index) == hit.aligned_cols


def test_hhr_without_hits():
    assert parse_hhr(b"Query q\n\n No Hit   Prob\n\n") == []


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (lambda t: "", "empty hhr"),
        (lambda t: "x" + t, "not an hhr"),
        (lambda t: t[:200], "no table of hits"),
        (lambda t: t[: t.index("\nNo 2\n")], "10 hits listed, 1 aligned"),
        (lambda t: t.replace("IVGGYTCGAN", "IVGG", 1), "Q line 1-80 does not add up"),
        (lambda t: t.replace("Sum_probs", "Sum", 1), "hit 1: no Sum_probs"),
        (lambda t: t[:-400], "differ in length|does not add up|no aligned|listed"),
    ],
)
def test_bad_hhr_says_why(edit, message):
    data = edit(hhr_bytes("1gbt_A").decode()).encode()
    with pytest.raises(InputError, match=message):
        parse_hhr(data)


def test_date_limit():
    assert date_limit("2000-03-01", "", 60) == "2000-01-01"
    assert date_limit("2000-03-01", "1999-01-01", 60) == "1999-01-01"
    assert date_limit("", "1999-01-01", 60) == "1999-01-01"
    assert date_limit("", "", 60) == ""


def test_prefilter(library, trypsin):
    sequence = trypsin.sequence
    part = sequence[:60]
    good = make_hit(part, part, name="4zhl_U")

    def reason(hit, query=sequence, limit=""):
        return prefilter(hit, query, limit, library)

    assert reason(good) == ""
    assert reason(good, limit="2015-09-15") == "released too late"
    assert reason(good, limit="2015-09-16") == ""
    assert reason(make_hit(part[:22], part[:22])) == "aligned to too little of the query"
    assert reason(make_hit(part[:9], part[:9]), query=part) == "fewer than 10 residues"
    assert reason(make_hit(sequence, sequence)) == "is the query itself"
    assert reason(make_hit(part, part, name="9zzz_A")) == "structure not given"
    assert reason(make_hit(part, part, name="UniRef")) == "not a PDB chain"
    # The structure's own methionine is X in searches of selenomethionine.
    masked = "X" + sequence[1:]
    assert reason(make_hit(sequence, masked)) == "is the query itself"


def test_features_of_a_real_template(library):
    target = Entry(DEMO / "mmcif" / "4zhl.cif.gz").chain("U")
    hits = parse_hhr(hhr_bytes("4zhl_U"))
    features, reasons = template_features(hits, target.sequence, library, "2015-07-18", 20)
    assert features["template_domain_names"] == ["1gbt_A"]
    assert features["template_release_date"] == ["1994-01-31"]
    assert reasons["is the query itself"] == 1
    source = Entry(DEMO / "mmcif" / "1gbt.cif.gz").chain("A")
    hit = next(hit for hit in hits if hit.name == "1gbt_A")
    aatype, mask = features["template_aatype"][0], features["template_all_atom_masks"][0]
    covered = np.zeros(target.num_res, bool)
    covered[hit.query_index] = True
    assert (aatype[~covered] == 21).all() and not mask[~covered].any()
    for q, h in zip(hit.query_index, hit.hit_index, strict=True):
        assert aatype[q] == source.aatype[h]
        np.testing.assert_array_equal(
            features["template_all_atom_positions"][0, q], source.positions[h]
        )


def test_best_come_first_and_only_so_many(library, trypsin):
    part = trypsin.sequence[20:100]
    hits = [make_hit(part, part, query_start=20, hit_start=20, sum_probs=p) for p in (1, 3, 2)]
    features, _ = template_features(hits, trypsin.sequence, library, "", 2)
    assert features["template_sum_probs"].tolist() == [3.0, 2.0]


def test_database_sequence_differs_from_the_structure(library, trypsin):
    """Numbering shifted: found by search.  Residues missing: aligned anew.  Other: dropped."""
    sequence = trypsin.sequence
    part = sequence[20:100]
    expected = trypsin.positions[20:100, ATOM_ORDER["CA"]]

    def template(hit_residues, name="1gbt_A"):
        hit = make_hit(part[: len(hit_residues)], hit_residues, query_start=20, name=name)
        return template_features([hit], sequence, library, "", 20)

    features, _ = template(part)
    found = features["template_all_atom_positions"][0, 20:100, ATOM_ORDER["CA"]]
    np.testing.assert_array_equal(found, expected)
    # Two residues of the structure are missing from the database's sequence.
    shorter = part[:40] + part[42:]
    features, _ = template(shorter)
    found = features["template_all_atom_positions"][0, 20:98, ATOM_ORDER["CA"]]
    np.testing.assert_array_equal(found[:38], expected[:38])
    np.testing.assert_array_equal(found[-36:], expected[-36:])
    # The named chain is not there, another holds the sequence.
    features, _ = template(part, name="1gbt_Q")
    assert features["template_domain_names"] == ["1gbt_A"]
    _, reasons = template("W" * 80)
    assert reasons == {"sequence differs from the structure's": 1}


def test_hits_of_another_chain_are_refused(library, trypsin):
    with pytest.raises(InputError, match="hit 1 from residue 1: template hits do not match"):
        template_features([make_hit("W" * 20, "W" * 20)], trypsin.sequence, library, "", 20)


def test_no_library_no_templates(trypsin):
    features, reasons = template_features(
        parse_hhr(hhr_bytes("1gbt_A")), trypsin.sequence, None, "", 20
    )
    assert features["template_aatype"].shape == (0, 223) and not reasons


def test_dates_spare_parsing(tmp_path):
    """With a cache of dates the (here: broken) structure is never opened."""
    (tmp_path / "1abc.cif").write_text("broken")
    dates = tmp_path / "mmcif_cache.json"
    dates.write_text(json.dumps({"1ABC": {"release_date": "2020-01-01", "seqs": []}}))
    library = TemplateLibrary.open(tmp_path, dates)
    hit = make_hit("A" * 20, "A" * 20, name="1abc_A")
    assert prefilter(hit, "A" * 40, "2019-01-01", library) == "released too late"
    assert library.entry("1abc") is None  # broken: no template, no exception
    dates.write_text("[1]")
    with pytest.raises(InputError, match="no table of release dates"):
        read_dates(dates)


def test_entries_are_not_all_kept(library, monkeypatch):
    """The cache of parsed templates is bounded by size."""
    monkeypatch.setattr("records.templates._CACHED_BYTES", 500_000)
    fresh = TemplateLibrary(library.files)
    for name in ("1ubq", "2ofg", "1gbt", "4zhl"):
        assert fresh.entry(name) is not None
    assert list(fresh._entries) == ["1gbt", "4zhl"]


class StubEntry:
    """An entry whose one chain is what the test made of trypsin."""

    release_date = "1990-01-01"

    def __init__(self, chain):
        self._chain = chain

    def protein_sequences(self):
        return {"A": self._chain.sequence}

    def chain(self, name):
        return self._chain


@pytest.mark.parametrize(
    ("edit", "reason"),
    [
        (lambda p, m: None, None),
        (lambda p, m: p.__setitem__((150, ATOM_ORDER["CA"]), 500.0), "neighbouring C-alphas"),
        (lambda p, m: m.__setitem__(slice(20, 100), 0), "no atoms where it is aligned"),
    ],
)
def test_useless_structures_are_no_templates(library, trypsin, monkeypatch, edit, reason):
    positions, mask = trypsin.positions.copy(), trypsin.mask.copy()
    edit(positions, mask)
    entry = StubEntry(dataclasses.replace(trypsin, positions=positions, mask=mask))
    monkeypatch.setattr(TemplateLibrary, "entry", lambda self, name: entry)
    part = trypsin.sequence[20:100]
    hit = make_hit(part, part, query_start=20, hit_start=20)
    features, reasons = template_features([hit], trypsin.sequence, library, "", 20)
    assert len(features["template_domain_names"]) == (reason is None)
    assert all(key.startswith(reason) for key in reasons)


def test_a_store_that_stays_away_is_no_missing_template(monkeypatch):
    """Else a record would depend on when it was written."""
    url = f"memory://{uuid.uuid4().hex}/1ubq.cif.gz"
    paths.upload(DEMO / "mmcif" / "1ubq.cif.gz", url)
    store = stores.filesystem(url)

    def fail(*_, **__):
        raise ConnectionResetError("reset")

    library = TemplateLibrary({"1ubq": url, "none": url.replace("1ubq", "none")})
    with monkeypatch.context() as patch:
        patch.setattr(stores, "WAITS", ())
        patch.setattr(store, "cat_file", fail)
        with pytest.raises(stores.UnreachableError, match=f"{url}: the store does not answer"):
            library.date("1ubq")
    assert library.date("1ubq") and library.entry("none") is None
