"""Checkpoints on a store, which cannot rename and may list late: whole or absent all the same."""

from __future__ import annotations

import json
import threading
import uuid

import numpy as np
import pytest
from listening import listening

from records import listing, paths, stores, uploads
from tffold.weights import checkpoint
from tffold.weights.checkpoint import CheckpointError, folder_name


class Killed(BaseException):
    """As if the process ended here."""


@pytest.fixture
def folder():
    return f"memory://{uuid.uuid4().hex}/run/checkpoints"


def save(folder, step, keep=3):
    arrays = {"weights/a": np.full((3, 4), step, "float32"), "step": np.int32(step)}
    return checkpoint.save(folder, step, arrays, {"samples": step * 4}, keep)


def names(folder):
    return sorted(e.place.removeprefix(f"{folder}/") for e in listing.find(folder))


def test_round_trip(folder):
    path = save(folder, 7)
    assert path == f"{folder}/step-00000007"
    for loaded in (
        checkpoint.load(path),
        checkpoint.load_latest(folder),
        checkpoint.load_any(paths.parent(folder)),
    ):
        assert (loaded.path, loaded.step, loaded.description["samples"]) == (path, 7, 28)
        np.testing.assert_array_equal(loaded.arrays["weights/a"], np.full((3, 4), 7, "float32"))
    assert checkpoint.load_latest(f"{folder}/none") is None


def test_only_the_last_are_kept_and_others_go(folder):
    for step in (1, 20, 3, 4):
        save(folder, step, keep=2)
    assert checkpoint.steps_in(folder) == [3, 4, 20]
    both = ("arrays.safetensors", "checkpoint.json")
    assert names(folder) == ["newest.json"] + [
        f"{folder_name(step)}/{name}" for step in (3, 4, 20) for name in both
    ]
    checkpoint.remove_others(f"{folder}/{folder_name(4)}")
    assert checkpoint.steps_in(folder) == [4]


def killed_at(monkeypatch, what):
    """The first writing of a file of this name ends the process, the arrays' after some bytes."""
    if what == "arrays.safetensors":
        write_arrays = checkpoint.write_arrays

        def half(file, arrays):
            write_arrays(file, {"half": np.zeros(5)})
            raise Killed

        monkeypatch.setattr(checkpoint, "write_arrays", half)
        return
    write_whole = paths.write_whole

    def killed(place, content):
        if paths.name(place) == what:
            raise Killed
        write_whole(place, content)

    monkeypatch.setattr(paths, "write_whole", killed)


@pytest.mark.parametrize(
    "what, newest", [("arrays.safetensors", 2), ("checkpoint.json", 2), ("newest.json", 4)]
)
def test_a_kill_leaves_the_one_before_or_the_new_one(folder, monkeypatch, what, newest):
    save(folder, 2)
    with monkeypatch.context() as patch, pytest.raises(Killed):
        killed_at(patch, what)
        save(folder, 4)
    with listening() as said:
        assert checkpoint.load_latest(folder).step == newest
    assert not said
    save(folder, 6)
    assert checkpoint.steps_in(folder) == ([2, 6] if newest == 2 else [2, 4, 6])
    assert len([name for name in names(folder) if name.startswith("step")]) == (
        4 if newest == 2 else 6
    )  # what the kill left has gone


@pytest.mark.parametrize("what", ["arrays.safetensors", "checkpoint.json"])
def test_writing_a_step_again_never_mixes_the_two(folder, monkeypatch, what):
    save(folder, 2)
    save(folder, 4)
    with monkeypatch.context() as patch, pytest.raises(Killed):
        killed_at(patch, what)
        save(folder, 4)
    assert checkpoint.load_latest(folder).step == 2


@pytest.mark.parametrize("age", [1, 2, 9])
def test_a_listing_that_lags_behind_is_survived(folder, monkeypatch, age):
    """The store lists what there was ``age`` checkpoints ago."""
    find, listings = listing.find, []

    def late(place):
        listings.append((place, find(place)))
        older = [found for where, found in listings if where == place]
        return older[max(len(older) - 1 - 3 * age, 0)]

    monkeypatch.setattr(listing, "find", late)
    for step in (1, 2, 3, 4, 5, 6):
        save(folder, step, keep=2)
        assert checkpoint.load_latest(folder).step == step
    monkeypatch.setattr(listing, "find", find)
    # What is whole was never taken for what a kill left.
    for step in (5, 6):
        assert checkpoint.load(f"{folder}/{folder_name(step)}").step == step


def test_what_is_whole_is_not_cleared_because_the_listing_is_late(folder, monkeypatch):
    save(folder, 2)
    with monkeypatch.context() as patch, pytest.raises(Killed):
        killed_at(patch, "newest.json")
        save(folder, 4)
    find = listing.find
    monkeypatch.setattr(
        listing,
        "find",
        lambda place: [e for e in find(place) if not e.place.endswith("4/checkpoint.json")],
    )
    save(folder, 6)
    assert checkpoint.load(f"{folder}/{folder_name(4)}").step == 4


def test_a_damaged_list_of_steps_is_not_used(folder):
    save(folder, 2)
    paths.write_whole(f"{folder}/newest.json", '{"steps": [')
    with listening() as said:
        assert checkpoint.load_latest(folder).step == 2
    assert len(said) == 1 and "newest.json: damaged" in said[0]


def test_damage_falls_back_and_says_so(folder):
    save(folder, 2)
    file = save(folder, 4) + "/arrays.safetensors"
    data = bytearray(paths.read_bytes(file))
    data[-1] ^= 1
    paths.write_whole(file, bytes(data))
    with listening() as said:
        assert checkpoint.load_latest(folder).step == 2
    assert len(said) == 1 and "arrays.safetensors: " in said[0] and "falling back" in said[0]
    paths.remove(file)
    assert checkpoint.load_latest(folder).step == 2
    description = json.loads(paths.read_text(f"{folder}/{folder_name(2)}/checkpoint.json"))
    text = json.dumps(description | {"samples": 1})
    paths.write_whole(f"{folder}/{folder_name(2)}/checkpoint.json", text)
    with pytest.raises(CheckpointError, match="none of its 2"):
        checkpoint.load_latest(folder)


def test_a_store_that_refuses_leaves_the_one_before(folder, monkeypatch):
    save(folder, 2)
    monkeypatch.setattr(stores, "WAITS", (0.0, 0.0))
    tries = []

    def failing(file, arrays):
        tries.append(1)
        raise ConnectionResetError("reset by peer")

    with monkeypatch.context() as patch:
        patch.setattr(checkpoint, "write_arrays", failing)
        with pytest.raises(CheckpointError, match="step-00000004.*the store does not.*intact"):
            save(folder, 4)
    assert len(tries) == 3
    assert checkpoint.load_latest(folder).step == 2


def test_a_writing_that_failed_midway_begins_anew(folder, monkeypatch):
    monkeypatch.setattr(stores, "WAITS", (0.0, 0.0))
    write_arrays, tries = checkpoint.write_arrays, []

    def twice(file, arrays):
        tries.append(1)
        if len(tries) == 1:
            file.write(b"some")
            raise TimeoutError
        return write_arrays(file, arrays)

    monkeypatch.setattr(checkpoint, "write_arrays", twice)
    assert checkpoint.load(save(folder, 4)).step == 4


def test_a_stream_is_given_up_not_ended_when_it_fails(monkeypatch):
    """Ending it would make a file of what was written so far."""
    calls = []

    class File:
        def write(self, data):
            calls.append("write")

        def discard(self):
            calls.append("discard")

        def close(self):
            calls.append("close")

    class Store:
        def open(self, key, mode, block_size):
            return File()

        def _strip_protocol(self, url):
            return url

    monkeypatch.setattr(uploads, "filesystem", lambda url: Store())
    assert uploads.write_stream("x://a", lambda file: file.write(b"") or 3) == 3
    assert calls == ["write", "close"]

    def fail(file):
        file.write(b"")
        raise Killed

    with pytest.raises(Killed):
        uploads.write_stream("x://a", fail)
    assert calls[2:] == ["write", "discard"]


@pytest.fixture
def several(monkeypatch):
    """Even small states have four files."""
    monkeypatch.setattr(checkpoint, "LEAST_BYTES", 24)


SEVERAL = [f"arrays{end}.safetensors" for end in ("-1", "-2", "-3", "")]


def save_several(folder, step, keep=3):
    arrays = {name: np.full((2, 3), step, "float32") for name in "abcd"}
    return checkpoint.save(folder, step, arrays, {}, keep)


def test_the_files_of_a_large_state_are_written_at_the_same_time(folder, several, monkeypatch):
    all_there, write_arrays = threading.Barrier(4, timeout=30), checkpoint.write_arrays

    def together(file, arrays):
        all_there.wait()
        return write_arrays(file, arrays)

    monkeypatch.setattr(checkpoint, "write_arrays", together)
    loaded = checkpoint.load(save_several(folder, 3))
    assert sorted(loaded.arrays) == list("abcd")
    assert all(np.all(array == 3) for array in loaded.arrays.values())
    assert names(f"{folder}/step-00000003") == [*SEVERAL, "checkpoint.json"]


def test_all_files_of_a_large_state_go_though_the_listing_is_late(folder, several, monkeypatch):
    remove = paths.remove  # of a folder it lists, too
    with monkeypatch.context() as patch:
        patch.setattr(listing, "find", lambda place: [])
        patch.setattr(paths, "remove", lambda place: paths.is_file(place) and remove(place))
        for step in (1, 2, 3):
            save_several(folder, step, keep=1)
    last = [f"step-00000003/{name}" for name in (*SEVERAL, "checkpoint.json")]
    assert names(folder) == ["newest.json", *last]


@pytest.mark.parametrize("file", SEVERAL)
def test_a_missing_or_damaged_file_of_several_falls_back(folder, several, file):
    save_several(folder, 2)
    save_several(folder, 4)
    place = f"{folder}/step-00000004/{file}"
    data = bytearray(paths.read_bytes(place))
    data[-1] ^= 1
    paths.write_whole(place, bytes(data))
    with listening() as said:
        assert checkpoint.load_latest(folder).step == 2
    assert len(said) == 1 and "is damaged" in said[0]
    paths.remove(place)
    with listening() as said:
        assert checkpoint.load_latest(folder).step == 2
    assert len(said) == 1 and file in said[0]
