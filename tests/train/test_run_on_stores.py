"""A run whose folder is a URL: what it writes, from where it goes on, what begins from it."""

from __future__ import annotations

import json
import tempfile
import uuid

import numpy as np
import pytest
from fake import FakeEvaluation, fake_config
from listening import listening
from run_fake import fake_task
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from toy_run import assert_same

from records import listing, paths
from tffold.train.monitor import read_metrics
from tffold.train.run import train, validate
from tffold.train.saving import copy_state
from tffold.weights import checkpoint


def settings(run_dir, steps=4, **fields):
    config = fake_config(run_dir=str(run_dir), steps=steps, **fields)
    config.data.validation, config.validation.every = ["made up"], 2
    return config


def task():
    toy = fake_task(frozenset(), dropout=0.0)
    evaluation = lambda config, trainer: FakeEvaluation(trainer, drawn=[0])  # noqa: E731
    return toy.__class__(**{**toy.__dict__, "evaluation": evaluation})


def names(place):
    found = (entry.place.removeprefix(paths.tidy(place) + "/") for entry in listing.find(place))
    return {name for name in found if "tfevents" not in name}


@pytest.mark.slow
def test_a_run_by_url_is_the_run_by_path(tmp_path, monkeypatch):
    (tmp_path / "temporary").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "temporary"))
    here, url = str(tmp_path / "run"), f"memory://{uuid.uuid4().hex}/run"
    whole = train(settings(here), task())
    train(settings(url, steps=2), task())
    with listening() as said:
        parts = train(settings(url), task())
    assert f"resuming {url} at step 2" in said[0]
    assert_same(*(copy_state(outcome.trainer) for outcome in (whole, parts)))

    assert names(url) - names(here) == {"checkpoints/newest.json", "best/newest.json"}
    assert not names(here) - names(url)
    assert "validation/step-00000004/chain0.predicted.pdb" in names(url)
    for name in ("validation/step-00000002/chain0.true.pdb", "validation/step-00000004/chains.csv"):
        assert paths.read_bytes(f"{url}/{name}") == paths.read_bytes(f"{here}/{name}")
    config = paths.read_text(f"{url}/config.yaml")
    assert config.replace(url, here) == paths.read_text(f"{here}/config.yaml")
    seen = [[(x["step"], x.get("loss")) for x in read_metrics(place)] for place in (here, url)]
    assert seen[0] == seen[1] and seen[0][-1][0] == 4
    summary = json.loads(paths.read_text(f"{url}/summary.json"))
    assert summary == parts.summary
    assert summary["checkpoint"] == f"{url}/checkpoints/step-00000004"
    assert summary["tensorboard"] == f"{url}/tensorboard"
    for event in listing.find(f"{url}/tensorboard"):
        paths.download(event.place, tmp_path / event.name)
    events = EventAccumulator(str(tmp_path), {"tensors": 0}).Reload()
    assert [event.step for event in events.Tensors("loss/total")] == [1, 2, 4]
    assert [event.step for event in events.Tensors("chain0/plddt")] == [2, 4]

    # Validated, and begun from, by URL alone.
    other = f"memory://{uuid.uuid4().hex}/other"
    with listening() as said:
        validated = validate(settings(other), task(), url)
    assert said[-1].endswith(f"written to {other}/validation/step-00000004")
    assert (
        validated.means
        == json.loads(paths.read_text(f"{other}/validation/step-00000004/validation.json"))["mean"]
    )
    assert not list((tmp_path / "temporary").glob("tffold-*"))


@pytest.mark.slow
def test_a_run_begins_from_weights_on_a_store(tmp_path):
    url = f"memory://{uuid.uuid4().hex}/first"
    arrays = {f"parameters/fake/{k}": v.astype("float32") for k, v in
              task().network(fake_config(seed=5)).values.items()}  # fmt: skip
    arrays |= {name.replace("parameters", "average"): v + 1 for name, v in arrays.items()}
    checkpoint.save(f"{url}/checkpoints", 7, arrays, {}, keep=1)
    outcome = train(settings(tmp_path, steps=0, init_from=url), task())
    state = copy_state(outcome.trainer)
    for name, value in arrays.items():
        np.testing.assert_array_equal(state[name], value)
