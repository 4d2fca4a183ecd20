"""Environments of the peers, each made once (a minute for DeepMind's, three for OpenFold's)."""

from __future__ import annotations

import shutil
import subprocess
import tarfile
import tempfile
import venv
import zipfile
from collections.abc import Sequence
from pathlib import Path

# This release computes as DeepMind published it; later ones have kernels of their own.
DEEPMIND = "alphafold-colabfold==2.3.13"
# The package names versions that do not fit together; these do.
DEEPMIND_NEEDS = (
    "biopython<1.85",
    "dm-haiku==0.0.17",
    "jax==0.10.2",
    "ml-collections",
    "dm-tree",
    "immutabledict",
    "pandas",
    "scipy",
)
# What PyPI has of OpenFold is its code of late 2022, with kernels for GPUs beside it.
OPENFOLD = "openfold==0.0.1"
OPENFOLD_NEEDS = (
    "torch",
    "numpy",
    "scipy",
    "biopython<1.85",
    "ml-collections",
    "dm-tree",
    "setuptools",
    "wheel",
)
STEREO_CHEMISTRY = "stereo_chemical_props.txt"


def _environment(folder: Path, needs: Sequence[str], package: str) -> tuple[Path, bool]:
    """``(interpreter, whether it was there)``; when new, with ``needs`` installed."""
    python, done = folder / "bin" / "python", folder / "installed"
    if done.exists() and done.read_text() == "\n".join((*needs, package)):
        return python, True
    print(f"making {folder}", flush=True)
    venv.create(folder, with_pip=True, clear=True)
    _pip(python, "install", *needs)
    return python, False


def _pip(python: Path, *arguments: str | Path) -> None:
    subprocess.run([python, "-m", "pip", arguments[0], "-q", *arguments[1:]], check=True)


def _finished(folder: Path, needs: Sequence[str], package: str) -> None:
    (folder / "installed").write_text("\n".join((*needs, package)))


def deepmind_python(folder: Path) -> str:
    """The interpreter of the environment with DeepMind's network, made if it is not there."""
    python, there = _environment(folder, DEEPMIND_NEEDS, DEEPMIND)
    if not there:
        _pip(python, "install", "--no-deps", DEEPMIND)
        _finished(folder, DEEPMIND_NEEDS, DEEPMIND)
    return str(python)


def openfold_python(folder: Path) -> str:
    """The interpreter of the environment with OpenFold, made if it is not there.

    The package is not installed but unpacked: building it wants a GPU's compiler for kernels that
    training on a processor does not call.
    """
    python, there = _environment(folder, OPENFOLD_NEEDS, OPENFOLD)
    if there:
        return str(python)
    modules = next(folder.glob("lib/python*/site-packages"))
    # The archive's setup.py asks for this file, which the archive lacks.
    (modules / "scripts").mkdir()
    (modules / "scripts" / "utils.py").write_text("def get_nvidia_cc():\n    return None, ''\n")
    with tempfile.TemporaryDirectory() as name:
        fetched = Path(name)
        fetch = ("download", "--no-deps", "--no-build-isolation", "--dest", fetched)
        _pip(python, *fetch, OPENFOLD)
        _pip(python, *fetch, DEEPMIND)
        with tarfile.open(next(fetched.glob("openfold-*.tar.gz"))) as archive:
            archive.extractall(fetched, filter="data")
        shutil.move(next(fetched.glob("openfold-*/openfold")), modules)
        # The archive lacks this file of DeepMind's, too.
        with zipfile.ZipFile(next(fetched.glob("alphafold*.whl"))) as wheel:
            table = wheel.read(f"alphafold/common/{STEREO_CHEMISTRY}")
        (modules / "openfold" / "resources" / STEREO_CHEMISTRY).write_bytes(table)
    _finished(folder, OPENFOLD_NEEDS, OPENFOLD)
    return str(python)
