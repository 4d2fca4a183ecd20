"""Places: the same on this host and on a store, whole or absent, with errors that help."""

import os
import uuid

import fsspec
import pytest

from records import durable, listing, paths, stores
from records.errors import InputError


@pytest.fixture(params=["local", "store"])
def folder(request, tmp_path):
    """A folder with ``a.txt`` and ``b/c.bin``, on this host and in memory."""
    place = str(tmp_path / "f") if request.param == "local" else f"memory://{uuid.uuid4().hex}/f"
    paths.make_folder(paths.join(place, "b"))
    paths.write_whole(paths.join(place, "a.txt"), "Ångström\n")
    paths.write_whole(paths.join(place, "b", "c.bin"), bytes(range(256)))
    return place


@pytest.fixture
def no_waits(monkeypatch):
    monkeypatch.setattr(stores, "WAITS", (0.0,) * 3)


def below(folder, places):
    return [place.removeprefix(paths.tidy(folder) + "/") for place in places]


@pytest.mark.parametrize(
    "place, tidied, url",
    [
        ("a/b/", "a/b/", False),
        ("file:///a/b", "/a/b", False),
        ("s3://bucket/a/", "s3://bucket/a", True),
        ("s3:/bucket/a", "s3://bucket/a", True),  # went through pathlib.Path
        ("gs://bucket", "gs://bucket", True),
        ("memory:///a/b", "memory://a/b", True),
        ("C:stroke_A", "C:stroke_A", False),
        ("~/a", os.path.expanduser("~/a"), False),
    ],
)
def test_a_place_is_known_by_its_beginning(place, tidied, url):
    assert (paths.tidy(place), paths.is_url(place)) == (tidied, url)


def test_parts(folder):
    place = paths.join(folder, "b", "c.bin")
    assert paths.parent(place) == paths.join(folder, "b")
    assert (paths.name(place), paths.name(paths.parent(place))) == ("c.bin", "b")


def test_what_was_written_is_read(folder):
    c = paths.join(folder, "b", "c.bin")
    assert paths.read_text(paths.join(folder, "a.txt")) == "Ångström\n"
    assert paths.read_bytes(c) == bytes(range(256))
    assert paths.read_bytes(c, 250, 3) == bytes(range(250, 253))
    assert paths.read_bytes(c, 250, 30) == bytes(range(250, 256))
    assert paths.read_bytes(c, 7, 0) == b""
    with paths.open_reading(c) as file:
        assert file.read(2) == b"\x00\x01"
        file.seek(-2, os.SEEK_END)
        assert file.read() == b"\xfe\xff"


def test_what_is_there(folder):
    a, b = paths.join(folder, "a.txt"), paths.join(folder, "b")
    assert paths.exists(a) and paths.is_file(a) and not paths.is_folder(a)
    assert paths.exists(b) and paths.is_folder(b) and not paths.is_file(b)
    assert not paths.exists(paths.join(folder, "a"))
    assert [(e.name, e.is_folder) for e in listing.list_folder(folder)] == [
        ("a.txt", False),
        ("b", True),
    ]
    assert below(folder, (e.place for e in listing.find(folder))) == ["a.txt", "b/c.bin"]
    assert [e.size for e in listing.find(folder)] == [11, 256]
    assert listing.find(paths.join(folder, "none")) == []
    assert below(folder, listing.glob(paths.join(folder, "*", "*.bin"))) == ["b/c.bin"]
    assert below(folder, listing.glob(paths.join(folder, "**", "*.bin"))) == ["b/c.bin"]


def test_a_replaced_file_has_another_version(folder):
    a = paths.join(folder, "a.txt")
    before = paths.info(a)
    assert (before.size, before.is_folder) == (11, False)
    assert paths.info(a) == before
    paths.write_whole(a, "Angstrom..\n")
    assert paths.info(a).size == 11
    assert paths.info(a).version != before.version


def test_remove(folder):
    paths.remove(paths.join(folder, "none"))
    paths.remove(paths.join(folder, "a.txt"))
    assert [entry.name for entry in listing.list_folder(folder)] == ["b"]
    paths.remove(folder)
    assert not paths.exists(folder)


@pytest.mark.parametrize("mode, content", [("w", "Å\n"), ("wb", b"\xff\x00")])
def test_a_file_is_whole_or_the_old_one(folder, mode, content):
    a = paths.join(folder, "a.txt")
    with pytest.raises(RuntimeError):
        with paths.whole_file(a, mode) as file:
            file.write(content)
            raise RuntimeError
    assert paths.read_text(a) == "Ångström\n"
    with paths.whole_file(a, mode) as file:
        file.write(content)
        assert paths.read_text(a) == "Ångström\n"
    assert paths.read_bytes(a) == (content if mode == "wb" else content.encode())
    assert [entry.name for entry in listing.list_folder(folder)] == ["a.txt", "b"]


def test_large_files_pass_through_a_temporary_file(folder, monkeypatch, tmp_path):
    monkeypatch.setattr(paths, "_IN_MEMORY", 1000)
    monkeypatch.setattr(paths, "_CHUNK", 300)
    content = os.urandom(5000)
    place = paths.join(folder, "large")
    with paths.whole_file(place) as file:
        file.write(content)
    assert paths.read_bytes(place) == content
    paths.download(place, tmp_path / "copy")
    assert (tmp_path / "copy").read_bytes() == content
    paths.upload(tmp_path / "copy", paths.join(folder, "again"))
    assert paths.read_bytes(paths.join(folder, "again")) == content


@pytest.mark.parametrize(
    "act", [paths.info, paths.read_bytes, listing.list_folder, paths.read_text]
)
def test_a_missing_file_is_named(folder, act):
    place = paths.join(folder, "none.txt")
    with pytest.raises(paths.MissingError, match=f"^{place}: no such file or folder"):
        act(place)
    with pytest.raises(InputError, match="no such file"), paths.open_reading(place):
        pass


def test_text_that_is_none_is_named(folder):
    with pytest.raises(InputError, match=r"c\.bin: not UTF-8"):
        paths.read_text(paths.join(folder, "b", "c.bin"))


def test_this_hosts_files_are_written_durably(tmp_path, monkeypatch):
    """By ``records.durable``, which forces them to the disk."""
    synced = []
    monkeypatch.setattr(durable, "sync_file", synced.append)
    paths.write_whole(tmp_path / "a", b"1")
    (tmp_path / "b").write_bytes(b"2")
    paths.upload(tmp_path / "b", tmp_path / "c")
    assert len(synced) == 2


class Failing:
    """A store whose reads and writes fail some times before they succeed."""

    def __init__(self, monkeypatch, error, times):
        store = fsspec.filesystem("memory")
        self.left = times
        for name in ("cat_file", "pipe_file"):
            monkeypatch.setattr(store, name, self._wrap(getattr(store, name), error))

    def _wrap(self, act, error):
        def wrapped(*arguments, **options):
            if self.left:
                self.left -= 1
                raise error
            return act(*arguments, **options)

        return wrapped


class StatusError(OSError):
    """As the stores' packages report HTTP's status."""

    def __init__(self, code, message=""):
        super().__init__(message)
        self.code = code


@pytest.mark.parametrize(
    "error", [StatusError(503), StatusError(429), TimeoutError(), ConnectionResetError()]
)
def test_what_may_pass_is_tried_again(no_waits, monkeypatch, error):
    place = f"memory://{uuid.uuid4().hex}/a"
    failing = Failing(monkeypatch, error, 3)
    paths.write_whole(place, b"1")
    assert failing.left == 0
    failing.left = 3
    assert paths.read_bytes(place) == b"1"
    failing.left = 99
    with pytest.raises(InputError, match=f"^{place}: the store does not answer .* again"):
        paths.read_bytes(place)
    assert failing.left == 99 - 4


@pytest.mark.parametrize(
    "error, told",
    [
        (StatusError(403), "forbidden .*right to read"),
        (PermissionError("AccessDenied"), "forbidden .*right to read"),
        (StatusError(401), "no credentials"),
        (StatusError("ExpiredToken"), "the credentials are not valid"),
        (StatusError("PermanentRedirect"), "the bucket is in another region .*AWS_REGION"),
        (StatusError("NoSuchBucket"), "no such bucket"),
        (FileNotFoundError("x"), "no such file or folder .*removed since it was listed"),
        (StatusError(400, "bad argument"), "the store does not answer as it should .*bad argument"),
    ],
)
def test_what_does_not_pass_is_told_at_once(monkeypatch, error, told):
    monkeypatch.setattr(stores.time, "sleep", lambda _: pytest.fail("waited"))
    failing = Failing(monkeypatch, error, 1)
    with pytest.raises(InputError, match=f"^memory://bucket/a: {told}"):
        paths.read_bytes("memory://bucket/a")
    assert failing.left == 0


def test_a_mistake_of_ours_is_not_hidden(monkeypatch):
    Failing(monkeypatch, TypeError("ours"), 9)
    with pytest.raises(TypeError, match="ours"):
        paths.read_bytes("memory://bucket/a")


def test_unknown_stores_and_missing_packages_are_told(monkeypatch):
    with pytest.raises(InputError, match="^nostore://: no such kind of store"):
        paths.read_bytes("nostore://bucket/a")

    def missing(*_, **__):
        raise ImportError

    monkeypatch.setattr(fsspec, "filesystem", missing)
    with pytest.raises(InputError, match=r"pip install 'tffold\[cloud\]'"):
        paths.read_bytes("abfs://bucket/a")


def test_a_file_that_shrinks_while_it_is_read_is_told():
    place = f"memory://{uuid.uuid4().hex}/a"
    paths.write_whole(place, bytes(9 << 20))
    with paths.open_reading(place) as file:
        file.read(1)
        paths.write_whole(place, bytes(100))
        with pytest.raises(InputError, match="was replaced by a shorter file"):
            file.read()
