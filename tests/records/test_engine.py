"""Shards, parts of a job array, crashes and kills: the bytes are always the same."""

import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace

import pytest
from conversions import INPUT, ROOT, WRITTEN, content, conversion_of, convert, manifest, records_of
from synthetic import data_of

from records import convert as convert_module
from records import engine, pool, shards
from records.convert import convert_file
from records.errors import InputError
from records.manifest import Journal


def test_same_bytes_whatever_the_workers(converted, tmp_path):
    assert content(convert(tmp_path / "out", workers=2)) == content(converted)


def test_small_shards_and_parts(converted, tmp_path, monkeypatch):
    """Shards roll over by size; the parts of a job array hold every chain once."""
    monkeypatch.setattr(convert_module, "_UNIT_CHAINS", 1)  # files handed over in pieces
    conversion = conversion_of(shard_bytes=60_000)
    engine.run(conversion, tmp_path / "small", workers=0, progress=False)
    names = [p.name for p in shards.find_shards([tmp_path / "small"])]
    assert names == [f"chains-{n:05d}.tfrecord" for n in range(len(names))] and len(names) > 2
    assert all(p.stat().st_size < 90_000 for p in shards.find_shards([tmp_path / "small"]))
    for part in range(3):
        engine.run(
            replace(conversion, part=part, parts=3), tmp_path / "parts", workers=0, progress=False
        )
    assert len(list((tmp_path / "parts").glob("summary-*of00003.json"))) == 3
    want = records_of(converted)
    parts = shards.find_shards([tmp_path / "parts"])
    assert sum(len(data_of(shard)) for shard in parts) == len(WRITTEN)
    for folder in ("small", "parts"):
        found = records_of(tmp_path / folder)
        assert sorted(found) == sorted(want)
        assert all(len(found[c]["msa"]) == len(want[c]["msa"]) for c in want)
        assert manifest(tmp_path / folder).keys() == manifest(converted).keys()


@pytest.mark.parametrize("damage", [None, "journal", "partial", "lost"])
@pytest.mark.parametrize("stop_after", [1, 4, 7, 9])
def test_goes_on_after_a_crash_with_the_same_bytes(tmp_path, monkeypatch, stop_after, damage):
    """Only what was not done is done; what the crash damaged is done again."""
    conversion = conversion_of(60_000, "--validation-from", "2004-01-01")
    engine.run(conversion, tmp_path / "whole", workers=0, progress=False)
    names = [task.name for task in conversion.tasks]
    done = []

    def counted(task, options, start=0):
        if len(done) == stop_after:
            raise KeyboardInterrupt
        done.append(task.name)
        return convert_file(task, options, start)

    monkeypatch.setattr(pool, "convert_file", counted)
    with pytest.raises(KeyboardInterrupt):
        engine.run(conversion, tmp_path / "cut", workers=0, progress=False)
    assert not list((tmp_path / "cut").glob("manifest*"))
    partials = sorted((tmp_path / "cut").glob("*/.*.partial"))
    assert partials
    if damage == "journal":
        with open(tmp_path / "cut" / ".journal.jsonl", "ab") as journal:
            journal.write(b'{"chain": "torn')
    for partial in partials:
        if damage == "partial":
            partial.write_bytes(partial.read_bytes()[:-100])
        if damage == "lost":
            partial.unlink()
    redone = []
    monkeypatch.setattr(
        pool, "convert_file", lambda *a: redone.append(a[0].name) or convert_file(*a)
    )
    engine.run(conversion, tmp_path / "cut", workers=0, progress=False)
    assert content(tmp_path / "cut") == content(tmp_path / "whole")
    if damage in (None, "journal"):
        assert redone == names[stop_after:]
    else:
        assert set(redone) > set(names[stop_after:])


def test_crash_inside_a_file(tmp_path, monkeypatch):
    """A file of three chains, handed over one by one, goes on at the third."""
    monkeypatch.setattr(convert_module, "_UNIT_CHAINS", 1)
    conversion = conversion_of()
    engine.run(conversion, tmp_path / "whole", workers=0, progress=False)

    def counted(task, options, start=0):
        if (task.name, start) == ("1lcd", 2):
            raise KeyboardInterrupt
        return convert_file(task, options, start)

    monkeypatch.setattr(pool, "convert_file", counted)
    with pytest.raises(KeyboardInterrupt):
        engine.run(conversion, tmp_path / "cut", workers=0, progress=False)
    redone = []

    def noted(task, options, start=0):
        redone.append((task.name, start))
        return convert_file(task, options, start)

    monkeypatch.setattr(pool, "convert_file", noted)
    engine.run(conversion, tmp_path / "cut", workers=0, progress=False)
    assert redone[0] == ("1lcd", 2)
    assert content(tmp_path / "cut") == content(tmp_path / "whole")


def test_lost_record_before_a_rejected_chain(tmp_path, monkeypatch):
    """1lcd_A is written, then B and C are rejected; A's record is lost in the crash."""
    conversion = conversion_of()
    engine.run(conversion, tmp_path / "whole", workers=0, progress=False)

    def counted(task, options, start=0):
        if task.name == "1pzp":
            raise KeyboardInterrupt
        return convert_file(task, options, start)

    monkeypatch.setattr(pool, "convert_file", counted)
    with pytest.raises(KeyboardInterrupt):
        engine.run(conversion, tmp_path / "cut", workers=0, progress=False)
    (partial,) = (tmp_path / "cut").glob("*/.*.partial")
    partial.write_bytes(partial.read_bytes()[:-1])
    monkeypatch.setattr(pool, "convert_file", convert_file)
    engine.run(conversion, tmp_path / "cut", workers=0, progress=False)
    assert content(tmp_path / "cut") == content(tmp_path / "whole")


def test_killed_for_good(converted, tmp_path):
    """SIGKILL at several moments, with workers: started again, the bytes are the same."""
    command = [
        sys.executable, "-m", "records.cli", *INPUT, "--output", str(tmp_path / "out"),
        "--workers", "2", "--quiet",
    ]  # fmt: skip
    journal = tmp_path / "out" / ".journal.jsonl"
    for lines in (2, 6, 11):
        process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL)
        while process.poll() is None:
            if journal.exists() and journal.read_bytes().count(b"\n") >= lines:
                process.send_signal(signal.SIGKILL)
                break
            time.sleep(0.002)
        process.wait()
        for shard in (tmp_path / "out").glob("train/chains*.tfrecord"):
            data_of(shard)  # what has a name is whole
    subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.DEVNULL)
    assert content(tmp_path / "out") == content(converted)


def test_one_process_at_a_time(tmp_path):
    conversion = conversion_of()
    (tmp_path / "out").mkdir()
    journal = Journal(tmp_path / "out" / ".journal.jsonl", conversion.fingerprint())
    with pytest.raises(InputError, match="another process"):
        engine.run(conversion, tmp_path / "out", workers=0, progress=False)
    journal.close()
    assert engine.run(conversion, tmp_path / "out", workers=0, progress=False).written == 9


def test_other_plan_other_folder(converted, tmp_path, capsys):
    shutil.copytree(converted, tmp_path / "out")
    convert(tmp_path / "out", "--max-msa-rows", "5", code=2)
    message = capsys.readouterr().err
    assert message.startswith("error: ") and "--overwrite" in message
    assert message.count("\n") == 1
    convert(tmp_path / "out", "--max-msa-rows", "5", "--overwrite")
    assert {len(f["msa"]) for f in records_of(tmp_path / "out").values()} == {5}
    (tmp_path / "out" / "train" / "chains-00000.tfrecord").write_bytes(b"")
    convert(tmp_path / "out", "--max-msa-rows", "5", code=2)
    assert "missing or was changed" in capsys.readouterr().err
