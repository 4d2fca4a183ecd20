"""The conversion on Apache Beam."""

import multiprocessing
import pickle
import subprocess
import sys

import pytest
from conversions import INPUT, ROOT, content, convert
from dask_cluster import dask_cluster

from records.beam import _arguments, convert_part
from records.errors import InputError


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


def on_dask(cluster, output):
    """The command, in a process of its own."""
    command = [
        sys.executable, "-m", "records.cli", *INPUT, "--output", str(output), "--quiet",
        "--runner", "DaskRunner", "--parts", "4", "--dask_scheduler_file", str(cluster.file),
    ]  # fmt: skip
    return subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, cwd=ROOT
    )


def test_a_worker_of_a_dask_cluster_is_killed_midway_and_the_bytes_are_those_of_the_job_array(
    tmp_path,
):
    pytest.importorskip("distributed", reason="tffold[dask] is not installed")
    for part in range(4):
        convert(tmp_path / "array", "--shard", f"{part}/4")
    out = tmp_path / "dask"
    with dask_cluster(tmp_path, 2, "--no-nanny") as cluster:
        process = on_dask(cluster, out)
        begun = cluster.kill_one_at_work(lambda file: ".journal-" in file.name, process)
        part = begun.name.removeprefix(".journal-").removesuffix(".jsonl")
        assert not (out / f"summary-{part}.json").exists()
        told, _ = process.communicate(timeout=200)
        assert process.returncode == 0, told
        assert [worker.poll() for worker in cluster.workers].count(None) == 1
    assert content(out) == content(tmp_path / "array")


def test_dask_gives_each_worker_a_part_at_a_time_unless_told_otherwise():
    name = "apache_beam.runners.dask.dask_runner.DaskRunner"
    assert _arguments("DaskRunner", []) == [f"--runner={name}", "--dask_partition_size=1"]
    for given in (["--dask_npartitions=3"], ["--dask_partition_size", "7"]):
        assert _arguments("DaskRunner", given) == [f"--runner={name}", *given]
    assert _arguments("DirectRunner", ["--x"]) == ["--runner=DirectRunner", "--x"]


def test_a_worker_that_may_not_start_processes_says_so(monkeypatch, tmp_path):
    monkeypatch.setitem(multiprocessing.current_process()._config, "daemon", True)
    with pytest.raises(InputError, match="--no-nanny") as raised:
        convert_part(0, 1, str(tmp_path), False)
    assert str(pickle.loads(pickle.dumps(raised.value))) == str(raised.value)
