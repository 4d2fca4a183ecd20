"""The documents say what the code says: commands run, and every name in them is there.

Each fenced block is marked: ``sh run`` is run here, on small data and with a tiny network;
``sh not run: why`` is only held against the parsers and the settings; ``yaml config=FILE`` is a
configuration, written to FILE before the page's blocks are run.
"""

from __future__ import annotations

import importlib.util
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import documents
import pytest
from documents import NOT_RUN, PAGES, ROOT
from tiny import model_params, tiny_config

from records import schema
from tffold import config_file
from tffold.config import Config

# Programs of others that the documents call.
PROGRAMS = {
    "apt-get", "awk", "aws", "cd", "curl", "dask", "echo", "export", "gcloud", "git", "make",
    "mkdir",
    "mmseqs", "nvidia-smi", "paste", "pip", "printf", "python", "scontrol", "sed", "tar",
    "tensorboard", "unzip",
}  # fmt: skip
# Files and options of others that the documents name.
FOREIGN_FILES = {"params_model_1_ptm.npz", "duplicate_pdb_chains.txt"}
FOREIGN_OPTIONS = {  # of XLA, of JackHMMER and of Dask
    "--tf_xla_persistent_cache_directory", "--xla_cpu_use_fusion_emitters",
    "--incE", "--F1", "--F2", "--F3", "--no-nanny",
}  # fmt: skip
FILE = re.compile(r"[\w.*<>/-]*\w\.(py|ya?ml|md|cfg|toml|csv|tsv|png|jsonl?|npz|pdb|cif|txt|fasta)")
FOLDER = re.compile(r"(tffold|records|tests|benchmarks|examples|configs|docs|\.ci)/[\w./-]*")
SETTING = re.compile(r"(?<![\w./])(model|loss|data|train|predict|validation)\.([a-z_][\w.]*\w)")

page_by_page = pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))


# What is said


def test_readme_is_short():
    assert len((ROOT / "README.md").read_bytes()) <= 8_000


def test_feature_table_is_the_generated_one():
    text = (ROOT / "docs" / "features.md").read_text()
    table = re.search(r"<!-- features -->\n(.*)<!-- /features -->", text, re.DOTALL).group(1)
    assert table.strip() == schema.markdown().strip()


def test_architecture_names_every_room():
    drawing = documents.blocks(ROOT / "docs" / "architecture.md")[0].text
    named = set(re.findall(r"(\w+)/", drawing))
    rooms = {path.parent.name for path in ROOT.glob("tffold/*/__init__.py")} | {"records"}
    assert rooms <= named, f"missing in the drawing: {sorted(rooms - named)}"
    for name in named:
        assert any((ROOT / top / name).is_dir() for top in ("", "tffold", "records")), name
    for name in re.findall(r"\w+\.py", drawing):
        assert (
            list(ROOT.glob(f"tffold/{name}"))
            or list(ROOT.glob(f"*/*/{name}"))
            or list(ROOT.glob(f"records/{name}"))
        ), name


@page_by_page
def test_links_lead_somewhere(page):
    for target in documents.links(page):
        path, _, anchor = target.partition("#")
        place = (page.parent / path).resolve() if path else page
        assert place.exists(), target
        assert not anchor or anchor in documents.anchors(place), target


@page_by_page
def test_every_block_is_marked(page):
    assert not re.search(r"\n\n {4,}\S", documents.prose(page)), "indented code: use a fence"
    for block in documents.blocks(page):
        if block.kind == "sh":
            assert block.note == "run" or len(block.note) > len(NOT_RUN), str(block)
            assert block.note == "run" or block.note.startswith(NOT_RUN), str(block)
        else:
            assert block.kind in ("text", "yaml", "python"), str(block)


@page_by_page
def test_files_and_folders_named_are_there(page):
    """In this repository, or written by the code, or made by a command on the same page."""
    tracked = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT, capture_output=True, text=True, check=False,
    ).stdout.split()  # fmt: skip
    files = tracked or [str(p.relative_to(ROOT)) for p in ROOT.rglob("*.*")]
    code = "".join(
        path.read_text() for top in ("records", "tffold") for path in ROOT.glob(f"{top}/**/*.py")
    )
    used = "".join(b.text + b.note for b in documents.blocks(page) if b.kind in ("sh", "yaml"))
    for span in documents.spans(page):
        if FOLDER.fullmatch(span):
            assert (ROOT / span).exists(), span
        elif FILE.fullmatch(span) and span not in FOREIGN_FILES:
            pieces = [piece for piece in re.split(r"<\w+>|\*|_N", span) if piece.strip("./")]
            assert (
                any(("/" + file).endswith("/" + span) for file in files)
                or all(piece.rsplit("/", 1)[-1] in code for piece in pieces)
                or span in used
            ), span


@page_by_page
def test_settings_and_options_named_are_there(page, tmp_path):
    known = set()
    for key in config_file.flatten(config_file.to_dict(Config())):
        words = key.split(".")
        known |= {".".join(words[:count]) for count in range(1, len(words) + 1)}
    options = {
        option
        for command in documents.entry_points()
        for option in documents.parser(command)._option_string_actions
    } | FOREIGN_OPTIONS
    (tmp_path / "nothing.yaml").write_text("{}\n")
    for span in documents.spans(page):
        for found in SETTING.finditer(span):
            assert found.group() in known or FILE.fullmatch(span), span
        if SETTING.match(span) and "=" in span:
            config_file.load_config(tmp_path / "nothing.yaml", [span])
        for option in re.findall(r"(?<![\w-])--[a-z][\w-]*", span):
            assert option in options, span
        if span.startswith(("make ", "pip ", "python ")):
            for words in documents.commands(span):
                check_command(words)


# What is run


def check_command(words: list[str]) -> None:
    """Holds a command against what it calls, without running it."""
    program, rest = Path(words[0]).name, words[1:]
    if program in documents.entry_points():
        if rest:
            check_call(program, [os.path.expandvars(word) for word in rest])
    elif program == "make":
        targets = re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE)
        for word in rest:
            assert "=" in word or word in targets, words
    elif program == "pip":
        for names in re.findall(r"\[([\w,]+)\]", " ".join(rest)):
            assert set(names.split(",")) <= documents.extras(), words
    elif program == "python" and rest[0] == "-m":
        assert rest[1] == "pytest" or importlib.util.find_spec(rest[1]), words
    elif program == "python":
        script = (ROOT / rest[0]).read_text()
        for option in (word for word in rest[1:] if word.startswith("--")):
            assert f'"{option}"' in script, words
    else:
        assert program in PROGRAMS, words


def check_call(program: str, words: list[str]) -> None:
    """Options, and settings of the configuration named."""
    if words == ["--help"]:
        return
    options = documents.parse(program, words)
    if program not in ("tffold-fit", "tffold-predict"):
        return
    given = [options.config, *options.overrides] if program == "tffold-fit" else options.configs
    settings = [word for word in given if "=" in word]
    for config in given:
        if "=" not in config:
            config_file.load_config(config, settings)


@pytest.mark.parametrize(
    "block",
    [block for page in PAGES for block in documents.blocks(page) if block.kind == "sh"],
    ids=str,
)
def test_commands_are_there(block, tmp_path, monkeypatch):
    """Programs, options, settings, extras and targets of every block, run or not."""
    write_configs(block.page, tmp_path)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SLURM_ARRAY_TASK_ID", "3")
    for words in documents.commands(block.text):
        check_command(words)


def write_configs(page: Path, folder: Path) -> None:
    """The configurations that a page shows, under the names that it gives them."""
    if not (folder / "configs").exists():
        (folder / "configs").symlink_to(ROOT / "configs")
    for block in documents.blocks(page):
        if block.kind == "yaml" and block.note:
            name = block.note.removeprefix("config=")
            assert name != block.note, f"{page}: write yaml config=FILE"
            (folder / name).write_text(block.text)
            config_file.load_config(folder / name)


def small_settings() -> list[str]:
    """Overrides that make any configuration one of seconds: tiny widths, two steps."""
    full = config_file.flatten(config_file.to_dict(Config()))
    tiny = config_file.flatten(config_file.to_dict(Config(model=tiny_config())))
    chosen = {"model.zero_init", "model.heads.predicted_aligned_error"}  # not sizes
    sizes = [f"{key}={value}" for key, value in tiny.items() if value != full[key]]
    return [
        *(size for size in sizes if size.split("=")[0] not in chosen),
        "model.num_recycle=0", "model.remat=false", "data.crop_size=16", "data.max_msa_clusters=8",
        "data.max_extra_msa=8", "data.size_buckets=[128]", "predict.num_seeds=1",
        "data.train_filter.sample_by_length=false", "train.batch_size=1", "train.steps=2",
        "train.log_every=1", "train.probe_steps=0", "validation.every=2",
        "validation.num_recycle=0",
    ]  # fmt: skip


SHIM = """#!{python}
import sys
from {module} import main
if __name__ == "__main__":  # workers import this file
    arguments = sys.argv[1:]
    if {small!r}:  # behind CONFIG and the settings that follow it, so that these win
        end = next((i for i, word in enumerate(arguments) if word.startswith("-")), len(arguments))
        arguments[end:end] = {small!r}
    sys.exit(main(arguments))
"""

CHAINS = ("1ubq_A", "1a8o_A", "4cup_A")
UBIQUITIN = "MQIFVKTLTGKTITLEVEPSDTIENVKAKIQDKEGIPPDQQRLIFAGKQLEDGRTLSDYNIQKESTLHLVLRLRGG"
# These pages begin with nothing, and convert for themselves.
FROM_NOTHING = ("README.md", "converting.md")


def run(folder: Path, text: str) -> None:
    """Runs a shell text in a folder of the world; fails with what it printed."""
    cache = (folder / "cache").resolve()  # of compiled programs, one for all pages
    environment = {
        **os.environ,
        "PATH": f"{folder}/bin:{os.environ['PATH']}",
        "PYTHONPATH": str(ROOT),
        "XDG_CACHE_HOME": str(cache),
        "TF_XLA_FLAGS": f"--tf_xla_persistent_cache_directory={cache}",
        "CUDA_VISIBLE_DEVICES": "-1",
        "TF_CPP_MIN_LOG_LEVEL": "3",
        # Nothing here is about speed, so XLA may leave its own optimisation out.
        "XLA_FLAGS": "--xla_backend_optimization_level=0",
    }
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", text], cwd=folder, env=environment, text=True,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False,
    )  # fmt: skip
    assert done.returncode == 0, f"{text}\n{done.stdout[-3000:]}"


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """A folder with what the pages take for granted: structures, records, lists, a run."""
    folder = tmp_path_factory.mktemp("world")
    for name in ("Makefile", "benchmarks", "configs", "examples", "pyproject.toml", "setup.cfg"):
        (folder / name).symlink_to(ROOT / name)
    (folder / "cache").symlink_to(tmp_path_factory.mktemp("cache"))
    programs = folder / "bin"
    programs.mkdir()
    small = small_settings()
    for name, module in documents.entry_points().items():
        settings = small if name in ("tffold-fit", "tffold-predict") else []
        text = SHIM.format(python=sys.executable, small=settings, module=module)
        (programs / name).write_text(text)
    python = f'#!/bin/sh\nexec {sys.executable} "$@"'
    (programs / "python").write_text(python + "\n")
    (folder / ".venv" / "bin").mkdir(parents=True)  # for make: an environment that is there
    (folder / ".venv" / "bin" / "python").write_text(f"{python} {' '.join(small)}\n")
    (folder / ".venv" / ".installed-cpu").write_text("")
    for script in [*programs.iterdir(), folder / ".venv" / "bin" / "python"]:
        script.chmod(0o755)

    demo = ROOT / "examples" / "demo"
    for name in ("structures", "pdb_mmcif"):
        (folder / name).mkdir()
    for chain in CHAINS:
        file = f"{chain[:4]}.cif.gz"
        for name in ("structures", "pdb_mmcif"):
            (folder / name / file).symlink_to(demo / "mmcif" / file)
        source = demo / "alignments" / chain
        for place in (f"alignments/{chain}", f"openproteinset/pdb/{chain}/a3m"):
            (folder / place).mkdir(parents=True)
            (folder / place / "uniref90_hits.sto.gz").symlink_to(source / "uniref90_hits.sto.gz")
        (folder / "openproteinset" / "pdb" / chain / "hhr").symlink_to(source)
    (folder / "query.fasta").write_text(f">1ubq_A\n{UBIQUITIN}\n")
    (folder / "duplicate_pdb_chains.txt").write_text("1ubq_A 1xqq_A\n4cup_A\n")
    (folder / "validation_chains.txt").write_text("1a8o_A\n")
    (folder / "clusters.txt").write_text("1ubq_A 1xqq_A\n1a8o_A\n4cup_A\n")
    (folder / "chains_cluster.tsv").write_text("1ubq_A\t1ubq_A\n1a8o_A\t1a8o_A\n1a8o_A\t4cup_A\n")
    _write_params(folder / "alphafold_params" / "params_model_1_ptm.npz", small)
    run(folder, "tffold-convert --mmcif structures --alignments alignments --output data "
        "--validation-chains validation_chains.txt")  # fmt: skip
    run(folder, "tffold-fit configs/initial_training.yaml data.train=data/train "
        "train.run_dir=runs/first")  # fmt: skip
    return folder


def _write_params(path: Path, settings: list[str]) -> None:
    """A parameter file for the tiny ``model_1_ptm``."""
    from tffold.model.alphafold import AlphaFold
    from tffold.weights import npz

    config = config_file.load_config(ROOT / "configs" / "model_1_ptm.yaml", settings)
    npz.write_npz(path, model_params(AlphaFold(config.model, seed=1)))


@pytest.mark.slow
@pytest.mark.parametrize(
    "page",
    [page for page in PAGES if any(block.runs for block in documents.blocks(page))],
    ids=lambda page: page.name,
)
def test_commands_run(page, world, tmp_path):
    """All runnable blocks of a page, one after the other in one folder."""
    folder = tmp_path / "here"
    shutil.copytree(world, folder, symlinks=True)
    if page.name in FROM_NOTHING:
        shutil.rmtree(folder / "data")
        shutil.rmtree(folder / "runs")
    write_configs(page, folder)
    for block in documents.blocks(page):
        if block.runs:
            run(folder, block.text)
