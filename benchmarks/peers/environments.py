"""Environments of the peers, each made once (a minute for DeepMind's, three for OpenFold's)."""

from __future__ import annotations

import shutil
import subprocess
import tarfile
import tempfile
import venv
import zipfile
from collections.abc import Callable, Sequence
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


def _python(
    folder: Path, needs: Sequence[str], package: str, bring: Callable[[Path, Path], None]
) -> str:
    """The interpreter of an environment with ``needs`` and what ``bring(folder, python)`` brings,
    made if it is not there."""
    python, done = folder / "bin" / "python", folder / "installed"
    wanted = "\n".join((*needs, package))
    if not done.exists() or done.read_text() != wanted:
        print(f"making {folder}", flush=True)
        venv.create(folder, with_pip=True, clear=True)
        _pip(python, "install", *needs)
        bring(folder, python)
        done.write_text(wanted)
    return str(python)


def _pip(python: Path, *arguments: str | Path) -> None:
    subprocess.run([python, "-m", "pip", arguments[0], "-q", *arguments[1:]], check=True)


def deepmind_python(folder: Path) -> str:
    """The interpreter of the environment with DeepMind's network, made if it is not there."""
    return _python(folder, DEEPMIND_NEEDS, DEEPMIND, _bring_deepmind)


def _bring_deepmind(folder: Path, python: Path) -> None:
    _pip(python, "install", "--no-deps", DEEPMIND)


def openfold_python(folder: Path) -> str:
    """The interpreter of the environment with OpenFold, made if it is not there."""
    return _python(folder, OPENFOLD_NEEDS, OPENFOLD, _bring_openfold)


def _bring_openfold(folder: Path, python: Path) -> None:
    """Unpacks the package, as building it wants a GPU's compiler for kernels that training on a
    processor does not call."""
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
