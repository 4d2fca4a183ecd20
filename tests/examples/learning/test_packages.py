"""Fetching and unpacking: what is missing, damaged, of another version, or no room for."""

from __future__ import annotations

import os
import shutil

import pytest
from packages import write_package

from examples.learning import packages
from records.errors import InputError

FILES = {"odd/a.dat": b"a" * 1001, "odd/deep/b.dat": b"b" * 2000, "other": b"not needed"}


@pytest.fixture
def package(tmp_path):
    """A package's file and what is wanted of it."""
    sums = write_package(tmp_path / "odd-data_1.2-3_all.deb", FILES)
    del sums["other"]
    return tmp_path / "odd-data_1.2-3_all.deb", packages.Package("odd-data", "1.2-3", sums)


def test_only_what_is_needed_is_taken_out(package, tmp_path):
    file, wanted = package
    folder = packages.unpack(wanted, file, tmp_path / "out" / "odd")
    assert {p.relative_to(folder).as_posix(): p.read_bytes() for p in folder.rglob("*.dat")} == {
        name: content for name, content in FILES.items() if name != "other"
    }
    assert not (folder / "other").exists()
    file.unlink()
    assert packages.unpack(wanted, file, folder) == folder  # it is there already


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda data: data[: len(data) // 2], "damaged, or another version"),
        (lambda data: data[:100], "no data.tar.xz in it"),
        (lambda data: b"PK" + data, "no Debian package"),
    ],
)
def test_a_damaged_package_is_one_error_and_leaves_nothing(package, tmp_path, change, words):
    file, wanted = package
    file.write_bytes(change(file.read_bytes()))
    with pytest.raises(InputError, match=f"{words}.*delete it: the same command gets it again"):
        packages.unpack(wanted, file, tmp_path / "out" / "odd")
    assert not list((tmp_path / "out").iterdir())


def test_another_version_is_told(package, tmp_path):
    file, wanted = package
    write_package(file, {**FILES, "odd/a.dat": b"newer"})
    with pytest.raises(InputError, match=r"a.dat has another checksum.*must be version 1.2-3"):
        packages.unpack(wanted, file, tmp_path / "odd")
    write_package(file, {"odd/a.dat": FILES["odd/a.dat"]})
    with pytest.raises(InputError, match=r"odd/deep/b.dat: not in this package"):
        packages.unpack(wanted, file, tmp_path / "odd")


def test_a_package_brought_by_hand_is_taken(package, tmp_path, monkeypatch):
    file, wanted = package
    monkeypatch.setattr(shutil, "which", lambda program: None)
    assert packages.fetch(wanted, tmp_path) == file
    with pytest.raises(InputError) as error:
        packages.fetch(wanted, tmp_path / "empty")
    assert "apt-get is not here" in str(error.value)
    assert "bring odd-data_1.2-3_all.deb by hand into" in str(error.value)


@pytest.fixture
def apt(tmp_path, monkeypatch):
    """An apt-get whose archive is a folder."""
    archive, programs = tmp_path / "archive", tmp_path / "bin"
    archive.mkdir()
    programs.mkdir()
    (programs / "apt-get").write_text(
        f'#!/bin/sh\n[ "$1 $2" = "download -q" ] || exit 9\n'
        f'cp {archive}/"$3"_* . || {{ echo "E: Unable to locate package $3"; exit 100; }}\n'
    )
    (programs / "apt-get").chmod(0o755)
    monkeypatch.setenv("PATH", f"{programs}:{os.environ['PATH']}")
    return archive


def test_apt_downloads_into_the_cache(package, tmp_path, apt):
    file, wanted = package
    cache = tmp_path / "cache"
    with pytest.raises(InputError, match=r"E: Unable to locate package odd-data .apt-get update"):
        packages.fetch(wanted, cache)
    shutil.move(file, apt)
    assert packages.fetch(wanted, cache) == cache / file.name
    shutil.rmtree(apt)
    assert packages.fetch(wanted, cache) == cache / file.name


def test_too_small_a_disk(tmp_path):
    packages.check_space(tmp_path, 1)
    with pytest.raises(InputError, match=r"GB free, 1000000000 are needed .make room"):
        packages.check_space(tmp_path, 10**18)
