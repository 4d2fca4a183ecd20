"""Files and folders appear whole or not at all."""

import os

import pytest

from records import durable


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def full(*_):
    raise OSError(28, "No space left on device")


@pytest.mark.parametrize("content", ["Ångström\n", b"\x00\xff"])
def test_a_file_has_its_name_when_it_is_whole(tmp_path, content):
    path = tmp_path / "a.json"
    path.write_text("old")
    mode = "w" if isinstance(content, str) else "wb"
    with durable.whole_file(path, mode) as file:
        file.write(content)
        assert path.read_text() == "old"
        assert names(tmp_path) == [f".a.json.{os.getpid()}.partial", "a.json"]
    assert path.read_bytes() == (content.encode() if mode == "w" else content)
    durable.write_whole(tmp_path / "b", content)
    assert (tmp_path / "b").read_bytes() == path.read_bytes()
    assert names(tmp_path) == ["a.json", "b"]


@pytest.mark.parametrize("step", ["open", "write", "_sync", "sync_file"])
def test_a_file_that_cannot_be_written_leaves_the_old_one(tmp_path, monkeypatch, step):
    path = tmp_path / ("missing/a" if step == "open" else "a")
    (tmp_path / "a").write_text("old")
    if step in ("_sync", "sync_file"):
        monkeypatch.setattr(durable, step, full)
    with pytest.raises(OSError):
        with durable.whole_file(path) as file:
            if step == "write":
                full(file)
    if step != "_sync":  # the last of all: the name is given already
        assert (tmp_path / "a").read_text() == "old"
    assert names(tmp_path) == ["a"]


def test_a_folder_takes_the_place_of_an_earlier_one(tmp_path):
    path = tmp_path / "step"
    for content in "12":
        with durable.whole_folder(path) as folder:
            (folder / "sub").mkdir()
            (folder / "sub" / content).write_text(content)
            assert path.exists() == (content == "2")
    assert names(path / "sub") == ["2"]
    with pytest.raises(OSError), durable.whole_folder(path) as folder:
        full()
    assert names(path / "sub") == ["2"]
    assert names(tmp_path) == ["step"]


def test_everything_is_on_the_disk_before_it_has_its_name(tmp_path, monkeypatch):
    calls = []

    def note(name):
        real = getattr(os, name)
        monkeypatch.setattr(os, name, lambda *a: (calls.append(name), real(*a))[1])

    note("fsync")
    note("replace")
    durable.write_whole(tmp_path / "a", b"1")
    assert calls == ["fsync", "replace", "fsync"]
    calls.clear()
    with durable.whole_folder(tmp_path / "b") as folder:
        (folder / "1").write_text("1")
        (folder / "2").write_text("2")
    assert calls == ["fsync"] * 3 + ["replace", "fsync"]


def test_what_killed_processes_left_goes(tmp_path):
    mine = durable.partial_path(tmp_path / "step-1")
    mine.mkdir()
    (tmp_path / ".step-2.4.partial").mkdir()
    (tmp_path / ".step-2.4.partial" / "x").write_text("")
    (tmp_path / ".step-3.5.partial").write_text("")
    (tmp_path / ".other.5.partial").write_text("")
    (tmp_path / "step-1").mkdir()
    durable.clear_partials(tmp_path, "step-")
    assert names(tmp_path) == [".other.5.partial", mine.name, "step-1"]
