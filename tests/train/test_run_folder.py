"""What a run on a store writes here is copied there: changes only, and trouble ends nothing."""

from __future__ import annotations

import tempfile
import uuid

import pytest
import tensorflow as tf
from listening import listening

from records import paths
from records.errors import InputError
from tffold.pictures.board import BestEffort, Board
from tffold.train import run_folder
from tffold.train.run_folder import RunFolder


@pytest.fixture
def place():
    return f"memory://{uuid.uuid4().hex}/run"


@pytest.fixture
def writes(monkeypatch):
    """The names of the files that are written to a store."""
    found, write_whole = [], paths.write_whole

    def note(place, content):
        found.append(paths.name(place))
        write_whole(place, content)

    monkeypatch.setattr(paths, "write_whole", note)
    return found


def test_changes_are_copied(place, writes):
    with RunFolder(place, BestEffort()) as folder:
        (folder.here / "a").write_text("1")
        (folder.here / "b").mkdir()
        (folder.here / "b" / "c").write_text("2")
        (folder.here / ".d.7.partial").write_text("half")
        folder.copy()
        assert writes == ["a", "c"]
        folder.copy()
        assert writes == ["a", "c"]
        with open(folder.here / "a", "a") as file:
            file.write("3")
    assert writes == ["a", "c", "a"] and not folder.here.exists()
    assert paths.read_text(f"{place}/a") == "13" and paths.read_text(f"{place}/b/c") == "2"
    with RunFolder(place, BestEffort()) as folder:
        for name in ("a", "none"):
            folder.fetch(name)
        assert [path.name for path in folder.here.iterdir()] == ["a"]


def test_on_this_host_there_is_nothing_to_copy(tmp_path, writes):
    with RunFolder(str(tmp_path), BestEffort()) as folder:
        assert folder.here == tmp_path
        (tmp_path / "a").write_text("1")
        folder.fetch("a")
        folder.copy_soon(at_once=True)
    assert not writes and (tmp_path / "a").read_text() == "1"


def test_trouble_is_told_once(place, monkeypatch):
    def fail(*_):
        raise InputError("forbidden", file=place)

    monkeypatch.setattr(paths, "write_whole", fail)
    with listening() as said, RunFolder(place, BestEffort()) as folder:
        for name in "ab":
            (folder.here / name).write_text("1")
        folder.copy_soon(at_once=True)
    assert len(said) == 1 and "logs cannot be written" in said[0] and "forbidden" in said[0]


def test_not_too_often(place, writes, monkeypatch):
    now = [100.0]
    monkeypatch.setattr(run_folder.time, "monotonic", lambda: now[0])
    with RunFolder(place, BestEffort()) as folder:
        counts = []
        for seconds in (10, 19, 1, 15, 15):
            now[0] += seconds
            (folder.here / "a").write_text(str(now[0]))
            folder.copy_soon()
            folder._writer.wait()
            counts.append(len(writes))
        folder.copy_soon(at_once=True)
        folder._writer.wait()
    assert counts == [0, 0, 1, 1, 2]


@pytest.mark.parametrize("kind, copied", [(ValueError, True), (KeyboardInterrupt, False)])
def test_when_something_goes_wrong(place, kind, copied, monkeypatch, tmp_path):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    with pytest.raises(kind), RunFolder(place, BestEffort()) as folder:
        (folder.here / "a").write_text("1")
        raise kind
    assert paths.exists(f"{place}/a") == copied
    assert not list(tmp_path.iterdir())


def test_a_large_event_file_is_followed_by_another(tmp_path):
    """So that what is copied again at each change stays small."""
    board = Board(tmp_path, BestEffort(), largest=2000)
    for step in range(9):
        board.text(step, "note", "x" * 900)
        board.flush()
    board.close()
    # Names end in a number, which goes from 9 to 10 within a second of this test.
    files = sorted(tmp_path.iterdir(), key=lambda file: file.stat().st_mtime_ns)
    assert len(files) > 2 and max(file.stat().st_size for file in files) < 4000
    steps = [
        e.step
        for f in files
        for e in tf.compat.v1.train.summary_iterator(str(f))
        if e.summary.value
    ]
    assert steps == list(range(9))
