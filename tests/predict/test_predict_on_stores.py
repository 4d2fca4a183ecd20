"""Predicting from and to URLs: parameters, sequences, results, and what is learned from."""

from __future__ import annotations

import gzip
import json
import uuid

import numpy as np
import pytest
from predicting import small_config

from records import listing, paths, stores, uploads
from records.errors import InputError
from tffold import config_file
from tffold.predict import models
from tffold.predict.distill import Distillation
from tffold.predict.evidence import Evidences
from tffold.predict.run import Job, finished, predict_all
from tffold.predict.targets import find_targets
from tffold.structures.files import read_pdb
from tffold.weights import npz

SEQUENCE = "MKVLAAGIWQRSTNDEFYHCP"


@pytest.fixture
def url():
    return f"memory://{uuid.uuid4().hex}"


def names(place):
    return sorted(e.place.removeprefix(paths.tidy(place) + "/") for e in listing.find(place))


def test_sequences_and_results_by_url(model, url, tmp_path):
    text = f">one\n{SEQUENCE}\n>two\n{SEQUENCE[:15]}\n"
    paths.write_whole(f"{url}/in/q.fasta.gz", gzip.compress(text.encode()))
    (tmp_path / "q.fasta").write_text(text)
    outcomes = []
    for source, folder in (
        (f"{url}/in", f"{url}/out"),
        (str(tmp_path / "q.fasta"), tmp_path / "out"),
    ):
        distillation = Distillation.open(model.config, folder)
        targets = find_targets([source], Evidences(alone=True), 1000)
        job = Job([model], extra=distillation.write)
        outcomes.append(predict_all(targets, job, folder, progress=False))
        distillation.finish(outcomes[-1].predicted)
        again = predict_all(targets, job, folder, progress=False)
        assert (again.predicted, again.skipped) == ([], ["two", "one"])
    assert outcomes[0].predicted == outcomes[1].predicted == ["two", "one"]
    assert names(f"{url}/out") == names(tmp_path / "out")
    for name in ("one/ranked_0.pdb", "one/confidence.json", "distillation/manifest.jsonl"):
        there, here = paths.read_text(f"{url}/out/{name}"), paths.read_text(tmp_path / "out" / name)
        assert there == here
    (structure,) = read_pdb(f"{url}/out/one/ranked_0.pdb")
    assert len(structure.aatype) == len(SEQUENCE)
    record = json.loads(paths.read_text(f"{url}/out/one/prediction.json"))
    assert record["source"].startswith(f"{url}/in/q.fasta.gz: line 1")


def test_a_store_that_fails_is_no_unfinished_target(url, monkeypatch):
    assert not finished(f"{url}/one", "x")
    monkeypatch.setattr(stores, "WAITS", ())

    def fail(*_, **__):
        raise ConnectionResetError("reset")

    monkeypatch.setattr(stores.filesystem(url), "cat_file", fail)
    with pytest.raises(InputError, match="does not answer"):
        finished(f"{url}/one", "x")


def test_parameters_by_url(saved, url):
    _, weights = saved
    paths.upload(weights, f"{url}/params/params_tiny.npz")
    here = npz.read_npz(weights)
    chosen = models._parameter_file(f"{url}/params", "tiny")
    assert chosen == f"{url}/params/params_tiny.npz"
    for found in (npz.read_any(chosen), npz.read_npz(chosen)):
        assert found.keys() == here.keys()
        assert all(np.array_equal(found[name], here[name]) for name in here)
    with pytest.raises(InputError, match="no params_other.npz here.*params_tiny.npz"):
        models._parameter_file(f"{url}/params", "other")
    npz.write_npz(f"{url}/again.npz", here)
    assert npz.read_npz(f"{url}/again.npz").keys() == here.keys()
    paths.write_whole(f"{url}/cut.npz", paths.read_bytes(chosen, 0, 500))
    with pytest.raises(InputError, match="cut.npz: not an .npz file"):
        npz.read_npz(f"{url}/cut.npz")
    with pytest.raises(InputError, match="none.npz: not there"):
        npz.read_any(f"{url}/none.npz")


def test_configurations_by_url(url):
    paths.write_whole(f"{url}/run/config.yaml", config_file.to_yaml(small_config()))
    assert config_file.load_config(f"{url}/run/config.yaml") == small_config()
    paths.write_whole(f"{url}/run/next.yaml", "base: config.yaml\ntrain: {steps: 7}\n")
    assert config_file.load_config(f"{url}/run/next.yaml").train.steps == 7
    paths.write_whole(f"{url}/run/config.yaml", "base: next.yaml\n")
    with pytest.raises(InputError, match="leads back"):
        config_file.load_config(f"{url}/run/next.yaml")
    with pytest.raises(InputError, match="none.yaml: no such configuration"):
        config_file.load_config(f"{url}/none.yaml")


def test_a_folder_is_whole_or_has_no_marker(url, monkeypatch):
    place = f"{url}/target"
    with uploads.whole_folder(place, "record") as folder:
        for name in ("record", "a", "old"):
            (folder / name).write_text("1")
    assert names(place) == ["a", "old", "record"]
    upload = paths.upload

    def fail_at(last):
        def some(path, to):
            if paths.name(to) == last:
                raise InputError("forbidden")
            upload(path, to)

        return some

    for last in ("a", "record"):
        with monkeypatch.context() as patch, pytest.raises(InputError):
            patch.setattr(paths, "upload", fail_at(last))
            with uploads.whole_folder(place, "record") as folder:
                (folder / "record").write_text("2")
                (folder / "sub").mkdir()
                (folder / "sub" / "b").write_text("2")
                (folder / "a").write_text("2")
        assert "record" not in names(place)
    assert names(place) == ["a", "sub/b"]
    with pytest.raises(ZeroDivisionError), uploads.whole_folder(place, "record"):
        raise ZeroDivisionError
    assert names(place) == ["a", "sub/b"]
