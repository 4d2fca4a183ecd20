"""AlphaFold DB by accession, from a server that has its layout."""

import functools
import http.server
import json
import threading

import gemmi
import pytest
from conversions import DEMO, manifest

from records import afdb, paths
from records.cli import main
from records.errors import InputError

MEANS = {"P69905": 91.0, "Q00001": 55.0, "Q00002": 91.0}


def model(name, confidence):
    """A predicted structure of ubiquitin, as AlphaFold DB writes one: a chain A, pLDDT as B."""
    structure = gemmi.read_structure(str(DEMO / "mmcif" / "1ubq.cif.gz"))
    structure.remove_ligands_and_waters()
    structure.name = name
    for atom in structure[0].all():
        atom.atom.b_iso = confidence
    return structure.make_mmcif_document().as_string()


@pytest.fixture(scope="module")
def database(tmp_path_factory):
    """Three structures, one of them without its table of confidence, and what was asked for."""
    folder = tmp_path_factory.mktemp("afdb")
    for accession, mean in MEANS.items():
        name = f"AF-{accession}-F1"
        (folder / f"{name}-model_v4.cif").write_text(model(name, mean))
        if accession != "Q00002":
            table = {"confidenceScore": [mean - 1, mean, mean + 1]}
            (folder / f"{name}-confidence_v4.json").write_text(json.dumps(table))
    asked = []

    class Handler(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *_):
            asked.append(self.path)

    handler = functools.partial(Handler, directory=str(folder))
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_address[1]}", asked
    server.shutdown()


def test_accessions_become_structures_and_uncertain_ones_are_not_fetched(database, tmp_path):
    url, asked = database
    listed = tmp_path / "accessions.txt"
    listed.write_text("P69905\nAF-Q00001-F1\nq00002\nQ00009\n")
    out = tmp_path / "out"
    arguments = ["--afdb", str(listed), "--afdb-source", url, "--output", str(out)]
    arguments += ["--min-mean-confidence", "70", "--single-sequence", "--quiet", "--workers", "1"]
    assert main([*arguments, "--cache-dir", str(tmp_path / "cache")]) == 0
    found = manifest(out)
    assert {name for name in found if found[name]["status"] == "written"} == {
        "AF-P69905-F1-model_v4", "AF-Q00002-F1-model_v4",
    }  # fmt: skip
    assert "mean confidence too low" in found["AF-Q00001-F1-model_v4"]["reason"]
    assert (
        f"{url}/AF-Q00009-F1-model_v4.cif: no such file"
        in (found["AF-Q00009-F1-model_v4"]["reason"])
    )
    assert not [path for path in asked if "Q00001-F1-model" in path]


@pytest.mark.parametrize("line", ["../etc/passwd", "P1", "P69905/x"])
def test_what_is_no_accession_is_told(tmp_path, line):
    (tmp_path / "a.txt").write_text(f"P69905\n{line}\n")
    with pytest.raises(InputError, match="no accession of UniProt"):
        afdb.places(tmp_path / "a.txt", afdb.BUCKET, 4)


def test_places_and_versions(tmp_path):
    (tmp_path / "a.txt").write_text("P69905\nAF-P69905-F2  # a fragment\n")
    assert afdb.places(tmp_path / "a.txt", "gs://bucket/", 6) == [
        "gs://bucket/AF-P69905-F1-model_v6.cif",
        "gs://bucket/AF-P69905-F2-model_v6.cif",
    ]


@pytest.mark.parametrize("table", ["{}", "[]", '{"confidenceScore": []}', "no json"])
def test_a_broken_table_of_confidence_is_named(table):
    place = "memory://afdb-broken/AF-P69905-F1-model_v4.cif"
    paths.write_whole("memory://afdb-broken/AF-P69905-F1-confidence_v4.json", table)
    with pytest.raises(InputError, match="confidence_v4.json: not a table of confidence"):
        afdb.mean_confidence(place)
