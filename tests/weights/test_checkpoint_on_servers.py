"""Checkpoints on real servers of stores, while these fail, answer late, and list late."""

from __future__ import annotations

import numpy as np
import pytest
import servers

from records import listing, paths, stores
from tffold.weights import checkpoint
from tffold.weights.checkpoint import CheckpointError

SERVERS = {"s3": servers.s3_server, "gs": servers.gcs_server}


@pytest.fixture(scope="module", params=["s3", "gs"])
def server(request):
    kind = request.param
    with SERVERS[kind]() as address, servers.proxy_to(address) as proxy:
        with servers.reached_by(kind, proxy.url):
            yield proxy, f"{kind}://{servers.BUCKET}"


@pytest.fixture
def store(server, request, monkeypatch):
    """A proxy without faults yet, and a folder of its own."""
    monkeypatch.setattr(stores, "WAITS", (0.01, 0.02, 0.05, 0.1))
    proxy, bucket = server
    yield proxy, f"{bucket}/{request.node.originalname}/checkpoints"
    proxy.fault = lambda request: None


def save(folder, step, keep=2):
    arrays = {"weights/a": np.full((3, 400), step, "float32"), "step": np.int32(step)}
    return checkpoint.save(folder, step, arrays, {}, keep)


def test_whole_or_absent(store, monkeypatch):
    _, folder = store
    for step in (2, 4, 6):
        save(folder, step)
    assert checkpoint.steps_in(folder) == [4, 6]

    class Killed(BaseException):
        pass

    def half(file, arrays):
        file.write(b"x" * 1000)
        raise Killed

    with monkeypatch.context() as patch, pytest.raises(Killed):
        patch.setattr(checkpoint, "write_arrays", half)
        save(folder, 8)
    names = [entry.place for entry in listing.find(folder)]
    assert not any("step-00000008" in name for name in names)  # the upload was given up
    found = checkpoint.load_any(paths.parent(folder))
    assert found.step == 6 and np.all(found.arrays["weights/a"] == 6)


@pytest.mark.parametrize("fault", [503, "reset"])
def test_failing_requests_are_made_again(store, fault):
    proxy, folder = store
    save(folder, 2)
    before = len(proxy.faults)
    proxy.fault = lambda request: fault if request.number % 5 == 0 else None
    save(folder, 4)
    assert checkpoint.load_latest(folder).step == 4
    assert len(proxy.faults) > before


def test_a_listing_that_lags_behind_hides_nothing(store):
    proxy, folder = store
    proxy.fault = lambda request: "stale" if request.is_listing else None
    for step in (2, 4, 6, 8):
        save(folder, step)
        assert checkpoint.load_latest(folder).step == step
    proxy.fault = lambda request: None
    assert checkpoint.steps_in(folder)[-2:] == [6, 8]
    assert checkpoint.load(f"{folder}/step-00000006").step == 6


def test_a_server_that_stays_away_is_an_error_with_the_url(store, monkeypatch):
    proxy, folder = store
    if folder.startswith("gs://"):
        pytest.skip("gcsfs itself tries for minutes")
    save(folder, 2)
    proxy.fault = lambda request: 503
    with pytest.raises(CheckpointError, match=f"{folder}/step-00000004.*earlier.*intact"):
        save(folder, 4)
    proxy.fault = lambda request: None
    assert checkpoint.load_latest(folder).step == 2
