"""Copies of stores' files on this host: whole, checked, bounded, shared."""

import json
import os
import subprocess
import sys
import uuid

import pytest
from synthetic import chain, write_shard

from records import cache, paths, shards
from records.errors import InputError


@pytest.fixture
def store():
    """A folder of a store with files ``0`` to ``4`` of 100 bytes each."""
    place = f"memory://{uuid.uuid4().hex}"
    for number in range(5):
        paths.write_whole(f"{place}/{number}", bytes([number]) * 100)
    return place


@pytest.fixture
def far_shard(tmp_path):
    path = write_shard(tmp_path / "a.tfrecord", [chain(num_res=8, chain_id="1abc_A")])
    place = f"memory://{uuid.uuid4().hex}/train/a.tfrecord"
    paths.upload(path, place)
    paths.upload(shards.index_path(path), shards.index_path(place))
    return place


def copies(folder):
    return sorted(path.name for path in folder.glob("files/*/*/*") if "check" not in path.name)


def test_a_file_is_fetched_once(tmp_path, store, monkeypatch):
    kept = cache.Cache(tmp_path, 1000)
    path = kept.fetch(f"{store}/3")
    assert path.read_bytes() == bytes([3]) * 100
    monkeypatch.setattr(paths, "download", lambda *_: pytest.fail("fetched again"))
    assert cache.Cache(tmp_path, 1000).fetch(f"{store}/3") == path


def test_a_replaced_file_is_fetched_anew(tmp_path, store):
    kept = cache.Cache(tmp_path, 1000)
    kept.fetch(f"{store}/3")
    paths.write_whole(f"{store}/3", b"new")
    assert kept.fetch(f"{store}/3").read_bytes() == b"new"


def test_a_file_that_is_replaced_while_it_is_copied_is_told(tmp_path, store, monkeypatch):
    """By one of the same size, whose bytes would else be kept under the earlier version."""
    kept, download = cache.Cache(tmp_path, 1000), paths.download
    size = paths.info(f"{store}/3").size

    def late(url, path):
        paths.write_whole(url, b"x" * size)
        download(url, path)

    with monkeypatch.context() as patch:
        patch.setattr(paths, "download", late)
        with pytest.raises(InputError, match=f"{store}/3: was replaced while.*run again"):
            kept.fetch(f"{store}/3")
    assert kept.fetch(f"{store}/3").read_bytes() == b"x" * size


@pytest.mark.parametrize("damage", ["flip", "cut", "no check", "bad check"])
def test_a_damaged_copy_is_fetched_again(tmp_path, store, damage):
    kept = cache.Cache(tmp_path, 1000)
    path = kept.fetch(f"{store}/3")
    check = path.parent / "3.check.json"
    if damage == "flip":
        path.write_bytes(bytes([3]) * 99 + b"\x04")
    elif damage == "cut":
        path.write_bytes(bytes([3]) * 99)
    elif damage == "no check":
        path.write_bytes(b"what a killed process left")
        check.unlink()
    else:
        check.write_text("[]")
        path.write_bytes(b"no")
    assert kept.fetch(f"{store}/3").read_bytes() == bytes([3]) * 100
    assert json.loads(check.read_text())["url"] == f"{store}/3"


def test_what_was_used_longest_ago_goes_first(tmp_path, store):
    kept = cache.Cache(tmp_path, 600)  # three files of 100 bytes with their checks
    for age, number in enumerate("012"):
        path = kept.fetch(f"{store}/{number}")
        os.utime(path.parent / f"{number}.check.json", (1000 + age, 1000 + age))
    kept.fetch(f"{store}/0")  # used now
    kept.fetch(f"{store}/3")
    assert "0" in copies(tmp_path) and "3" in copies(tmp_path) and "1" not in copies(tmp_path)
    size = sum(path.stat().st_size for path in tmp_path.glob("files/*/*/*"))
    assert size <= 800


def test_what_a_living_process_uses_stays(tmp_path, store):
    kept = cache.Cache(tmp_path, 500)
    kept.fetch(f"{store}/0", hold=True)
    other = cache.Cache(tmp_path, 500)
    for number in "1234":
        other.fetch(f"{store}/{number}")
    assert "0" in copies(tmp_path) and len(copies(tmp_path)) < 5
    kept._user.close()  # as when the process ends
    for number in "1234":
        other.fetch(f"{store}/{number}")
    assert "0" not in copies(tmp_path)


def test_a_file_that_does_not_fit_is_refused_before_it_is_fetched(tmp_path, store, monkeypatch):
    monkeypatch.setattr(paths, "download", lambda *_: pytest.fail("fetched"))
    with pytest.raises(InputError, match=f"^{store}/1: .*100 bytes more .* into 99.*data.cache_gb"):
        cache.Cache(tmp_path, 99).fetch(f"{store}/1")


def test_a_vanished_file_is_named(tmp_path, store):
    with pytest.raises(InputError, match=f"^{store}/9: no such file"):
        cache.Cache(tmp_path, 1000).fetch(f"{store}/9")


_FETCH = """
import sys
from records import cache, paths
from records.stores import filesystem
fetched = []
real = paths.download
paths.download = lambda *a: (fetched.append(1), real(*a))
kept = cache.Cache(sys.argv[1], 1 << 20)
for number in range(20):
    data = kept.fetch(f"{sys.argv[2]}/{number}").read_bytes()
    assert data == bytes([number]) * 5000, number
print(len(fetched))
"""


def test_processes_share_one_copy(tmp_path):
    """Of a server's files: each is fetched by one of the processes."""
    import servers

    with servers.s3_server() as address, servers.reached_by("s3", address):
        for number in range(20):
            paths.write_whole(f"s3://{servers.BUCKET}/{number}", bytes([number]) * 5000)
        command = [sys.executable, "-c", _FETCH, str(tmp_path), f"s3://{servers.BUCKET}"]
        running = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(3)]
        counts = [int(process.communicate(timeout=120)[0]) for process in running]
    assert [process.returncode for process in running] == [0, 0, 0]
    assert sum(counts) == 20


def test_shards_that_tensorflow_cannot_read_are_kept_with_their_index(
    tmp_path, far_shard, monkeypatch
):
    here = tmp_path / "a.tfrecord"
    folder = paths.parent(far_shard)
    found = cache.local_shards([here, folder], tmp_path / "cache", 1 << 20)
    assert found[0] == str(here) and found[1].startswith(str(tmp_path / "cache"))
    monkeypatch.setattr(shards, "_rebuilt_index", lambda *_: pytest.fail("the index is there"))
    assert shards.read_index(found[1]) == shards.read_index(here)
    (entry,) = shards.read_index(found[1])
    place = (entry["offset"], entry["length"])
    assert shards.read_record(found[1], *place) == shards.read_record(here, *place)


def test_a_shard_without_index_is_kept_all_the_same(tmp_path, far_shard):
    paths.remove(shards.index_path(far_shard))
    (found,) = cache.local_shards([far_shard], tmp_path / "cache", 1 << 20)
    assert [entry["chain_id"] for entry in shards.read_index(found)] == ["1abc_A"]


def test_shards_beyond_the_bound_are_refused_before_any_is_fetched(tmp_path, far_shard):
    with pytest.raises(InputError, match=f"^{far_shard}: 1 shards .*raise data.cache_gb"):
        cache.local_shards([far_shard], tmp_path / "cache", 100)
    assert not (tmp_path / "cache").exists()


def test_tensorflow_reads_cloud_storage_itself(tmp_path, monkeypatch):
    monkeypatch.setattr(shards, "find_shards", lambda sources: list(sources))
    monkeypatch.delenv("STORAGE_EMULATOR_HOST", raising=False)
    places = ["gs://bucket/train/a.tfrecord", str(tmp_path / "b.tfrecord")]
    assert cache.local_shards(places, tmp_path / "cache", 1) == places
