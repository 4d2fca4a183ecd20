"""The conversion on Apache Beam."""

import sys

import pytest
from conversions import content, convert


def test_beam_is_an_extra(tmp_path, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "apache_beam", None)
    convert(tmp_path / "out", "--runner", "DirectRunner", code=2)
    assert "pip install 'tffold[beam]'" in capsys.readouterr().err


def test_beam_gives_the_bytes_of_the_job_array(tmp_path):
    pytest.importorskip("apache_beam", reason="tffold[beam] is not installed")
    for part in range(3):
        convert(tmp_path / "array", "--shard", f"{part}/3")
    beam_args = ["--runner", "DirectRunner", "--parts", "3"]
    convert(tmp_path / "beam", *beam_args)
    assert content(tmp_path / "beam") == content(tmp_path / "array")
    convert(tmp_path / "beam", *beam_args)
    convert(tmp_path / "beam", *beam_args, "--overwrite")
    assert content(tmp_path / "beam") == content(tmp_path / "array")
