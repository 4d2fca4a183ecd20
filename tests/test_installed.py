"""What ``pip install .`` gives: the wheel holds all of it, and works far from the repository."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import sysconfig
import venv
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
DEMO = ROOT / "examples" / "demo"
SOURCES = ("records", "tffold")
COMMANDS = ("check", "convert", "fit", "export", "predict", "relax")

TINY = """
    model.num_recycle=0 model.evoformer.num_block=1 model.structure_module.num_layer=1
    model.template.enabled=false data.crop_size=32 data.max_msa_clusters=8 data.max_extra_msa=8
    data.size_buckets=[32]
""".split()

pytestmark = pytest.mark.slow


def run(*command: object, folder: Path) -> str:
    """A command's output; it knows nothing of the repository."""
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run(
        [str(part) for part in command], cwd=folder, env=environment,
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-4000:]
    return done.stdout


def pip(*arguments: object, folder: Path) -> str:
    return run(sys.executable, "-m", "pip", "-q", *arguments, folder=folder)


@pytest.fixture(scope="module")
def wheel(tmp_path_factory) -> Path:
    """Built from a copy: what earlier builds left in the repository has no part in it."""
    copy = tmp_path_factory.mktemp("source")
    for name in ("setup.cfg", "pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, copy)
    for name in (*SOURCES, "configs", "tests"):
        ignored = shutil.ignore_patterns("__pycache__")
        shutil.copytree(ROOT / name, copy / name, symlinks=True, ignore=ignored)
    pip("wheel", "--no-deps", "--wheel-dir", copy / "dist", copy, folder=copy)
    (path,) = (copy / "dist").glob("*.whl")
    return path


@pytest.fixture(scope="module")
def installed(wheel, tmp_path_factory) -> Path:
    """The ``bin`` of a new environment: the wheel, and of this environment the dependencies."""
    folder = tmp_path_factory.mktemp("environment")
    venv.create(folder, with_pip=False)
    python = folder / "bin" / "python"
    pip("--python", python, "install", "--no-deps", "--no-index", wheel, folder=folder)
    (site,) = folder.glob("lib/python*/site-packages")
    # A plain path: the .pth files in it, and with them an editable tffold, are not followed.
    (site / "dependencies.pth").write_text(sysconfig.get_path("purelib") + "\n")
    code = "import tffold, records; print(tffold.__file__, records.__file__)"
    for file in run(python, "-c", code, folder=folder).split():
        assert Path(file).is_relative_to(site)
    return folder / "bin"


def test_the_wheel_holds_the_sources_the_tables_and_the_configurations_alone(wheel):
    wanted = {
        str(path.relative_to(ROOT))
        for source in SOURCES
        for pattern in ("*.py", "*.csv", "*.npz")
        for path in (ROOT / source).rglob(pattern)
    } | {f"tffold/configs/{path.name}" for path in (ROOT / "configs").iterdir()}
    held = {name for name in zipfile.ZipFile(wheel).namelist() if ".dist-info/" not in name}
    assert held == wanted


def test_from_structures_to_predictions_in_a_fresh_environment(installed, tmp_path):
    for name in ("mmcif/1ubq.cif.gz", "mmcif/1a8o.cif.gz"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        shutil.copy(DEMO / name, tmp_path / name)
    for chain in ("1ubq_A", "1a8o_A"):
        shutil.copytree(DEMO / "alignments" / chain, tmp_path / "alignments" / chain)
    (tmp_path / "query.fasta").write_text(">query\nMKVLAAGIWQRSTNDEFYHCP\n")

    def call(command: str, *arguments: str) -> str:
        return run(installed / f"tffold-{command}", *arguments, folder=tmp_path)

    for command in COMMANDS:
        assert call(command, "--version").startswith(f"tffold-{command} 0.")
    call("convert", "--mmcif", "mmcif", "--alignments", "alignments", "--output", "records")
    steps = ["train.steps=2", "train.run_dir=run", "train.probe_steps=0", "data.validation=[]"]
    kept = ["--compile-cache", "programs", "--compile-apart"]
    call("fit", "demo", "data.train=records/train", *steps, *TINY, *kept)
    call("fit", "demo", "data.train=records/train", *steps, *TINY, "train.steps=3", *kept[:2])
    # One process compiled the step, another trained, and the third went on, with one program.
    sizes = sorted(path.stat().st_size for path in (tmp_path / "programs").rglob("*.pb"))
    assert sizes[-1] > 5_000_000 and sum(size > 1_000_000 for size in sizes) == 1, sizes
    assert (tmp_path / "run" / "checkpoints" / "step-00000003").is_dir()
    target = ["--input", "query.fasta", "--single-sequence", "--output", "predictions"]
    call("predict", "demo", *TINY, "--params", "run", *target, "--compile-cache", "none")
    assert (tmp_path / "predictions" / "query" / "ranked_0.pdb").stat().st_size > 1000
    call("export", "run", "params.npz")
    assert (tmp_path / "params.npz").is_file()
