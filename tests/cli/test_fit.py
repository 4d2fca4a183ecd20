"""``tffold-fit``: one clear line for each mistake, and an exit code for each ending."""

from __future__ import annotations

import importlib.util
import os
import signal

import pytest

from tffold import compile_cache
from tffold.cli import fit
from tffold.train import run, task
from tffold.train.callbacks import NonFiniteError


@pytest.fixture
def config(tmp_path):
    path = tmp_path / "run.yaml"
    path.write_text(f"train: {{run_dir: {tmp_path / 'run'}}}")
    return str(path)


@pytest.fixture(autouse=True)
def programs_kept_here(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv(compile_cache.FLAGS, "")  # and as it was afterwards


def errors(capsys) -> list[str]:
    return capsys.readouterr().err.splitlines()


def test_unknown_key_is_one_line(config, capsys):
    assert fit.main([config, "train.stepz=5"]) == fit.EXIT_INPUT
    (line,) = errors(capsys)
    assert line.startswith("error: ") and "train.steps" in line


def test_missing_file_is_one_line(capsys):
    assert fit.main(["nowhere.yaml"]) == fit.EXIT_INPUT
    (line,) = errors(capsys)
    assert "nowhere.yaml" in line


def test_missing_tensorflow_is_one_line(config, capsys, monkeypatch):
    find = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name: None if name == "tensorflow" else find(name)
    )
    assert fit.main([config]) == fit.EXIT_INPUT
    (line,) = errors(capsys)
    assert "tffold[cpu]" in line and "tffold[tpu]" in line


SMALL = (
    "model.evoformer.num_block=0",
    "model.extra_msa_stack.num_block=0",
    "model.structure_module.num_layer=1",
    "model.msa_channel=8",
    "model.pair_channel=8",
    "train.batch_size=1",
)


@pytest.mark.parametrize("shards", ["", "nowhere/*.tfrecord"])
def test_missing_data_is_one_line(config, capsys, tmp_path, shards):
    chosen = f"data.train=[{tmp_path / shards}]" if shards else "data.train=[]"
    assert fit.main([config, chosen, *SMALL]) == fit.EXIT_INPUT
    (line,) = errors(capsys)
    assert line.startswith("error: ")


@pytest.mark.parametrize(("caught", "code"), [(0, 0), (signal.SIGTERM, 75), (signal.SIGINT, 130)])
def test_each_ending_has_its_code(config, capsys, tmp_path, monkeypatch, caught, code):
    summary = {
        "step": 3,
        "loss": [2.0, None],
        "lddt_ca": [0.1, 0.5],
        "seconds_per_step": 0.5,
        "checkpoint": "somewhere/step-00000003",
        "tensorboard": "somewhere/tensorboard",
    }
    seen = {}

    def train(config, task, allow_config_change, compile_apart):
        seen.update(steps=config.train.steps, allowed=allow_config_change, apart=compile_apart)
        return run.Outcome(None, summary, caught)

    monkeypatch.setattr(run, "train", train)
    words = [config, "train.steps=1", "--allow-config-change", "train.steps=50"]
    assert fit.main(words) == code  # an option may stand between settings
    assert seen == {"steps": 50, "allowed": True, "apart": False}
    assert str(tmp_path / "cache") in os.environ[compile_cache.FLAGS]
    output = capsys.readouterr().out
    for part in ("0.1", "0.5", "first 2, last not finite", "tensorboard --logdir somewhere"):
        assert part in output


def test_compiling_apart_without_a_cache_is_one_line(config, capsys):
    assert fit.main([config, "--compile-apart", "--compile-cache", "none"]) == fit.EXIT_INPUT
    (line,) = errors(capsys)
    assert "--compile-cache" in line


def test_validate_evaluates_and_trains_nothing(config, monkeypatch):
    seen = []

    def validate(config, task, source):
        seen.append((config.validation.num_recycle, source))

    monkeypatch.setattr(run, "validate", validate)
    monkeypatch.setattr(run, "train", lambda *arguments, **options: pytest.fail("trained"))
    assert fit.main([config, "validation.num_recycle=7", "--validate", "somewhere"]) == 0
    assert seen == [(7, "somewhere")]


@pytest.mark.parametrize(
    ("data", "said"),
    [("data.validation=[]", "data.validation"), ("data.validation=[none/*.tfrecord]", "none/")],
)
def test_nothing_to_validate_is_one_line(config, capsys, data, said):
    assert fit.main([config, data, *SMALL, "--validate", "somewhere"]) == fit.EXIT_INPUT
    (line,) = errors(capsys)
    assert line.startswith("error: ") and said in line


def test_staying_non_finite_has_its_code(config, capsys, monkeypatch):
    def train(*arguments, **options):
        raise NonFiniteError("chains: 1abc_A")

    monkeypatch.setattr(run, "train", train)
    monkeypatch.setattr(task, "alphafold_task", lambda: None)
    assert fit.main([config]) == fit.EXIT_NON_FINITE
    assert "1abc_A" in errors(capsys)[0]


def test_importing_the_command_line_needs_no_tensorflow():
    import subprocess
    import sys

    code = "import sys, tffold.cli.fit, records.cli; sys.exit('tensorflow' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
