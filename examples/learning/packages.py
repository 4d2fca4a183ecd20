"""Fetches the two Debian packages of the example and takes the files that it needs out of them.

``apt-get download`` needs no root and installs nothing.  Where there is no apt, the packages can
be brought by hand: Debian's package pages have them, its snapshot archive the older versions.
What is taken out is held against checksums, whatever the package is called.
"""

from __future__ import annotations

import hashlib
import lzma
import os
import shutil
import subprocess
import tarfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from records.durable import clear_partials, whole_folder
from records.errors import InputError

_DATA = "data.tar.xz"  # in a package, what it installs
_BLOCK = 1 << 20


@dataclass(frozen=True)
class Package:
    """A package and what is needed of it: paths under /usr/share with their SHA-256."""

    name: str
    version: str
    files: dict[str, str]

    @property
    def file(self) -> str:
        """The file's name in Debian's archive."""
        return f"{self.name}_{self.version.partition(':')[2] or self.version}_all.deb"


STRUCTURES = Package(
    "promod3-data",
    "3.2.1+ds-6",
    {
        "promod3/loop_data/structure_db.dat": (
            "0f1c6e35a3f248fddd0c2c0da2c0d1145b502d4663fe8adb7239f27adad3301a"
        )
    },
)
_SETS = "metastudent-data/dataset_201401"
SEQUENCES = Package(
    "metastudent-data",
    "2.0.1-8",
    {
        f"{_SETS}/BPO/goasp.fasta.pin": (
            "4eb18922352aff576b797af6fad9e4010eb18da9b80892c59afe7376c36fd71d"
        ),
        f"{_SETS}/BPO/goasp.fasta.psq": (
            "f5b6af3f8eab621a68e199d8cde4795a184a9770ff3c5843e80aeeb20d4d7216"
        ),
        f"{_SETS}/CCO/goasp.fasta.pin": (
            "3b392d94edfdb77631fdfb36a2ec847e05a4faf0c009c5510ca8c096ace63aca"
        ),
        f"{_SETS}/CCO/goasp.fasta.psq": (
            "4210e3ee39a0c3b67851822be2baf39bc3df80e8caaf003f06e7d3258ff834be"
        ),
        f"{_SETS}/MFO/goasp.fasta.pin": (
            "9a95d3968231b27d382863df91b8b91521cbe21d387eb218cd0b3f87a1326ae8"
        ),
        f"{_SETS}/MFO/goasp.fasta.psq": (
            "1c824c6e73ab4440d92b750986feccec6536ca266f7cea7b94a285ee53ae23c7"
        ),
    },
)


def fetch(package: Package, cache: Path) -> Path:
    """The package's file, downloaded into ``cache`` if none is there.

    Raises InputError when apt is missing or cannot get it, and says what to bring by hand.
    """
    there = sorted(cache.glob(f"{package.name}_*.deb"))
    if there:
        return there[0]
    by_hand = f"or bring {package.file} by hand into {cache}, from Debian's package pages"
    if shutil.which("apt-get") is None:
        raise InputError(
            "apt-get is not here",
            item=package.name,
            mend=f"run this on Debian or Ubuntu, {by_hand}",
        )
    # apt goes on with what an interrupted download left in its folder.
    partial = cache / "partial"
    partial.mkdir(parents=True, exist_ok=True)
    done = subprocess.run(
        ["apt-get", "download", "-q", package.name], cwd=partial, text=True, check=False,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    )  # fmt: skip
    found = sorted(partial.glob(f"{package.name}_*.deb"))
    if done.returncode or not found:
        said = [line for line in done.stdout.splitlines() if line.startswith(("E:", "W:"))]
        raise InputError(
            f"apt-get download failed: {(said or ['it said nothing'])[-1][:300]}",
            item=package.name,
            mend=f"apt-get update and the same command again, {by_hand}",
        )
    # apt writes %3a for the colon of a version.
    os.replace(found[-1], cache / found[-1].name)
    return cache / found[-1].name


def unpack(package: Package, file: Path, folder: Path) -> Path:
    """The needed files of a package, in ``folder``, whole or not at all.

    Raises InputError for a damaged file or one of another version.
    """
    again = f"delete it: the same command gets it again; it must be version {package.version}"
    clear_partials(folder.parent, folder.name)
    if folder.exists():
        return folder
    missing = dict(package.files)
    with whole_folder(folder) as partial:
        try:
            with open(file, "rb") as stream:
                _to_member(stream)
                with tarfile.open(fileobj=stream, mode="r|xz") as archive:
                    for member in archive:
                        name = member.name.removeprefix("./").removeprefix("usr/share/")
                        if name in missing and member.isfile():
                            _write(archive.extractfile(member), partial / name, missing.pop(name))
                        if not missing:
                            break
        except (ValueError, EOFError, lzma.LZMAError, tarfile.TarError) as error:
            raise InputError(f"damaged, or another version ({error})", file=file, mend=again) from (
                error
            )
        if missing:
            raise InputError("not in this package", file=file, item=min(missing), mend=again)
    return folder


def _to_member(stream: IO[bytes]) -> None:
    """Reads up to the data in a package, which is an ``ar`` archive.  Raises ValueError."""
    if stream.read(8) != b"!<arch>\n":
        raise ValueError("no Debian package")
    while True:
        # name 16, time 12, owner 6, group 6, mode 8, size 10, end 2
        head = stream.read(60)
        if len(head) < 60:
            raise ValueError(f"no {_DATA} in it")
        name, size = head[:16].decode("ascii").strip().rstrip("/"), int(head[48:58])
        if name == _DATA:
            return
        stream.seek(size + size % 2, os.SEEK_CUR)


def _write(source: IO[bytes], path: Path, checksum: str) -> None:
    """Copies a file.  Raises ValueError when its SHA-256 is another one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    digest = hashlib.sha256()
    with open(path, "wb") as out:
        while block := source.read(_BLOCK):
            digest.update(block)
            out.write(block)
    if digest.hexdigest() != checksum:
        raise ValueError(f"{path.name} has another checksum")


def check_space(folder: Path, needed: int) -> None:
    """Raises InputError when less than ``needed`` bytes are free."""
    free = shutil.disk_usage(folder).free
    if free < needed:
        raise InputError(
            f"the disk has {free / 1e9:.1f} GB free, {needed / 1e9:.0f} are needed",
            file=folder,
            mend="make room, or name another --output: the same command goes on",
        )


def blast_volumes(folder: Path, package: Package = SEQUENCES) -> Iterator[Path]:
    """The databases of sequences in an unpacked package, without their suffixes."""
    for name in sorted(package.files):
        if name.endswith(".pin"):
            yield folder / name.removesuffix(".pin")


def missing_programs(names: Sequence[str]) -> list[str]:
    """Those that are not on PATH."""
    return [name for name in names if shutil.which(name) is None]
