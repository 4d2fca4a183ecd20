"""``tffold-check``: its settings, its exit codes, its report, and a whole check."""

from __future__ import annotations

import json

import pytest

from tffold.check import machine, run
from tffold.check.report import judge
from tffold.cli import check


@pytest.fixture
def parts(monkeypatch):
    """Runs no process: notes what was asked and answers with ``lines``."""
    asked, lines = [], [judge("numbers", "float32 outputs", True, "well")]

    def run_part(part, request, limits, tell, environment):
        asked.append((part, request, limits, environment))
        for line in lines:
            tell(line)
        return lines

    monkeypatch.setattr(run, "run_part", run_part)
    return asked, lines


def test_all_passed(parts, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("TF_CONFIG", "{}")
    report = tmp_path / "report.json"
    words = ["demo", "--report", str(report), "train.batch_size=4", "--cpu-devices", "8"]
    assert check.main(words) == 0
    # The forecast is arithmetic and needs no process.
    assert [part for part, *_ in parts[0]] == [part for part in run.PARTS if part != "forecast"]
    for part, request, limits, environment in parts[0]:
        assert request.config.train.batch_size == 4 and request.cpu_devices == 8
        assert limits.memory > 0
        # Only the strategy's part meets the other processes.
        assert ("TF_CONFIG" in environment) == (part == "strategy")
    assert json.loads(report.read_text())["passed"]
    assert "all passed" in capsys.readouterr().out


def test_one_failed_line_is_exit_code_1(parts, tmp_path, capsys):
    parts[1].append(judge("numbers", "same bits twice", False, "no"))
    report = tmp_path / "report.json"
    assert check.main(["--parts", "numbers", "--report", str(report)]) == check.EXIT_FAILED
    assert not json.loads(report.read_text())["passed"]
    assert "1 failed: numbers: same bits twice" in capsys.readouterr().out


def test_two_builds_of_tensorflow_end_it(parts, tmp_path, monkeypatch, capsys):
    builds = {"tensorflow": "2.20.0", "tensorflow-cpu": "2.20.0"}
    monkeypatch.setattr(machine, "versions_installed", lambda: builds)
    assert check.main(["--report", str(tmp_path / "r.json")]) == check.EXIT_FAILED
    assert not parts[0]
    assert "must be put right first" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["nowhere.yaml"], "nowhere.yaml"),
        (["train.stepz=3"], "train.steps"),
        (["--parts", "numbers,magic"], "magic"),
    ],
)
def test_bad_input_is_one_line(parts, words, said, capsys):
    assert check.main(words) == check.EXIT_INPUT
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: ") and said in line


def test_interrupted(parts, tmp_path, monkeypatch, capsys):
    def interrupt(*arguments):
        raise KeyboardInterrupt

    monkeypatch.setattr(run, "run_part", interrupt)
    report = tmp_path / "r.json"
    words = ["--parts", "numbers", "--report", str(report)]
    assert check.main(words) == check.EXIT_INTERRUPTED
    assert not json.loads(report.read_text())["passed"]
    assert "nothing is left running" in capsys.readouterr().err


def test_importing_the_command_line_needs_no_tensorflow():
    import subprocess
    import sys

    code = "import sys, tffold.cli.check; sys.exit('tensorflow' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
