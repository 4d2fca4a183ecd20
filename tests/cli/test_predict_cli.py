"""``tffold-predict``: exit codes, one-line errors, and a whole run in a process of its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import google_crc32c
import numpy as np
import pytest
from predicting import small_config

from tffold import compile_cache, config_file
from tffold.cli import predict
from tffold.model.alphafold import AlphaFold
from tffold.model.module import parameter_key
from tffold.predict import session
from tffold.weights import checkpoint, npz

pytestmark = pytest.mark.slow

SEQUENCE = "MKVLAAGIWQRSTNDEFYHCP"


@pytest.fixture
def run_folder(tmp_path):
    """A run folder: its configuration, and a checkpoint whose average is not its weights."""
    folder = tmp_path / "run"
    folder.mkdir()
    config = small_config()
    (folder / "config.yaml").write_text(config_file.to_yaml(config))
    weights = {v.path: np.asarray(v) for v in AlphaFold(config.model, seed=5).trainable_variables}
    arrays = {f"parameters/{path}": value for path, value in weights.items()}
    arrays |= {f"average/{path}": 0.5 * value for path, value in weights.items()}
    checkpoint.save(folder / "checkpoints", 7, arrays, {}, keep=1)
    return folder


@pytest.fixture
def fasta(tmp_path):
    path = tmp_path / "q.fasta"
    path.write_text(f">one\n{SEQUENCE}\n>bad\nMK1\n")
    return path


def command(run_folder, fasta, tmp_path, *more):
    return [
        str(run_folder / "config.yaml"), "--params", str(run_folder), "--input", str(fasta),
        "--output", str(tmp_path / "out"), "--single-sequence", "--quiet", *more,
    ]  # fmt: skip


def test_a_whole_run_in_a_process(run_folder, fasta, tmp_path):
    """Some fail, the rest is there; programs are kept; the second run has nothing to do."""
    cache = tmp_path / "cache"
    arguments = command(run_folder, fasta, tmp_path, "--compile-cache", str(cache))
    arguments += ["predict.num_seeds=1", "--distill"]
    environment = {**os.environ, "CUDA_VISIBLE_DEVICES": "-1"}
    kept: list[set[Path]] = []
    for seen in ("1 predicted, 0 there already, 1 failed", "0 predicted, 1 there already, 1"):
        done = subprocess.run(
            [sys.executable, "-m", "tffold.cli.predict", *arguments],
            capture_output=True, text=True, env=environment, check=False,
        )  # fmt: skip
        assert done.returncode == predict.EXIT_FAILED, done.stderr
        assert seen in done.stdout and "line 4, column 3" in done.stdout
        kept.append(set(cache.glob("*/tffold*.pb")))
    record = json.loads((tmp_path / "out" / "one" / "prediction.json").read_text())
    config = small_config()
    half = [
        0.5 * np.asarray(v) for v in AlphaFold(config.model, seed=5).trainable_variables
    ]  # the average, not the weights
    checksum = 0
    for array in half:
        checksum = google_crc32c.extend(checksum, np.ascontiguousarray(array).tobytes())
    (model,) = record["models"]
    assert (model["name"], model["crc32c"]) == ("run", f"{checksum:08x}")
    assert (tmp_path / "out" / "distillation" / "manifest.jsonl").exists()
    # The network's, and small ones that make its input.
    assert max(path.stat().st_size for path in cache.glob("*/tffold*.pb")) > 100_000
    assert kept[0] == kept[1]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({0: "nowhere.yaml"}, ["nowhere.yaml"]),
        ({0: "predict.num_seeds=2"}, ["no configuration"]),
        ({2: "nowhere"}, ["nowhere", "a checkpoint or a run folder"]),
        ({4: "nowhere.fasta"}, ["nowhere.fasta"]),
    ],
)
def test_bad_input_is_one_line(run_folder, fasta, tmp_path, capsys, change, words):
    arguments = command(run_folder, fasta, tmp_path, "--compile-cache", "none")
    for place, value in change.items():
        arguments[place] = value
    assert predict.main(arguments) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: ") and all(word in line for word in words)


@pytest.mark.parametrize(
    ("more", "words"),
    [
        (["predict.rank_by=size"], ["predict.rank_by", "plddt, ptm"]),
        (["predict.rank_by=ptm", "model.heads.predicted_aligned_error=false"], ["rank_by is ptm"]),
        (["model.template.enabled=false"], ["does not fit", "fitting presets"]),
        (["--search", "found"], ["no database to search"]),
        (["--distill", "--reference", "nowhere.npz"], ["nowhere.npz"]),
        (["--alignments", "nowhere"], ["nowhere"]),
    ],
)
def test_bad_settings_are_one_line(run_folder, fasta, tmp_path, capsys, more, words):
    arguments = command(run_folder, fasta, tmp_path, "--compile-cache", "none", *more)
    assert predict.main(arguments) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert all(word in line.replace("'", "") for word in words)


def test_weights_that_come_with_a_configuration(run_folder, fasta, tmp_path, capsys, monkeypatch):
    """Found beside it, by its name or its path, in half precision; none is one clear line."""
    config, asked = small_config(), []
    monkeypatch.setattr(config_file, "PACKAGED", tmp_path)
    (tmp_path / "small.yaml").write_text(config_file.to_yaml(config))
    weights = {
        parameter_key(v.path): np.asarray(v)
        for v in AlphaFold(config.model, seed=5).trainable_variables
    }
    npz.write_npz(tmp_path / "small.npz", weights, "float16")

    def go(config):
        arguments = command(run_folder, fasta, tmp_path, "--compile-cache", "none")
        return predict.main([config, *arguments[3:]])

    def models(configs, sources, *more):
        asked.append(sources)
        return load_models(configs, sources, *more)

    load_models = session.load_models
    monkeypatch.setattr(session, "load_models", models)
    assert go("small") == predict.EXIT_FAILED  # one target is bad
    assert (tmp_path / "out" / "one" / "ranked_0.pdb").exists()
    assert go(str(tmp_path / "small.yaml")) == predict.EXIT_FAILED
    assert asked == [[str(tmp_path / "small.npz")]] * 2
    capsys.readouterr()
    assert go(str(run_folder / "config.yaml")) == 2
    assert "no weights come with this configuration (pass --params)" in capsys.readouterr().err


def test_raw_weights_are_the_weights_themselves(run_folder):
    average, raw = (npz.read_any(run_folder, raw) for raw in (False, True))
    variable = AlphaFold(small_config().model, seed=5).trainable_variables[0]
    key = parameter_key(variable.path)
    np.testing.assert_array_equal(raw[key], np.asarray(variable))
    np.testing.assert_array_equal(average[key], 0.5 * np.asarray(variable))


def test_runs_are_named_by_their_folders():
    named = predict._named(["configs/model_1.yaml", "runs/a/config.yaml", "runs/b/config.yaml"])
    assert list(named) == ["model_1", "a", "b"]
    with pytest.raises(ValueError, match="two configurations are called 'a'"):
        predict._named(["x/a.yaml", "runs/a/config.yaml"])


def test_each_machine_has_its_own_programs(tmp_path, monkeypatch):
    monkeypatch.delenv(compile_cache.FLAGS, raising=False)
    first = compile_cache.enable(tmp_path)
    assert str(first) in os.environ[compile_cache.FLAGS]
    true = Path.read_text
    monkeypatch.setattr(
        Path,
        "read_text",
        lambda self, *a, **k: "flags: other\n" if self.name == "cpuinfo" else true(self, *a, **k),
    )
    assert compile_cache.enable(tmp_path) != first
    (tmp_path / "file").write_text("")
    with pytest.raises(ValueError, match="--compile-cache"):
        compile_cache.enable(tmp_path / "file")
