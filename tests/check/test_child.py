"""A part that crashes, hangs or eats all memory is a line that fails, and leaves nothing behind."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tffold.check import child
from tffold.check.child import ENDED, OUT_OF_MEMORY, Limits, Request, run_part
from tffold.check.report import FAIL, PASS
from tffold.config import Config

SUPPORT = Path(__file__).parents[1] / "support"


@pytest.fixture(scope="module", autouse=True)
def sick_part(tmp_path_factory):
    """The child finds the sick part as a module of ``tffold.check``."""
    folder = tmp_path_factory.mktemp("site")
    (folder / "sitecustomize.py").write_text(
        "import sys, importlib.util, importlib.abc\n"
        "class Finder(importlib.abc.MetaPathFinder):\n"
        "    def find_spec(self, name, path, target=None):\n"
        "        if name == 'tffold.check.sick_part':\n"
        f"            file = {str(SUPPORT / 'sick_part.py')!r}\n"
        "            return importlib.util.spec_from_file_location(name, file)\n"
        "sys.meta_path.insert(0, Finder())\n"
    )
    with pytest.MonkeyPatch.context() as patch:
        before = os.environ.get("PYTHONPATH", "")
        patch.setenv("PYTHONPATH", os.pathsep.join([str(folder), before]).strip(os.pathsep))
        yield


MINUTE = Limits(60.0)


def run(how: str, limits: Limits = MINUTE, tell=lambda line: None):
    config = Config()
    config.train.run_dir = "this one"
    return run_part("sick_part", Request(config, options={"how": how}), limits, tell)


def alive(pid: int) -> bool:
    return Path(f"/proc/{pid}").exists()


def test_a_healthy_part_tells_its_lines_as_they_come():
    told = []
    lines = run("well", tell=told.append)
    assert [line.name for line in lines] == ["began", "ended well"] == [x.name for x in told]
    assert lines[1].text == "this one" and lines[0].status == PASS
    assert lines[0].values["pid"] != os.getpid()


@pytest.mark.parametrize(
    ("how", "limits", "said", "memory"),
    [
        ("aborts", MINUTE, "died by SIGABRT", False),
        ("hangs", Limits(3.0), "no answer in 3 s", False),
        ("eats", Limits(60.0, memory=300_000_000), "more than 0.30 GB", True),
        ("device is full", MINUTE, "out of memory", True),
        ("raises", MINUTE, "ValueError: a plain mistake", False),
    ],
)
def test_each_bad_ending_is_a_line_that_says_why(how, limits, said, memory):
    first, last = run(how, limits)
    assert first.status == PASS and (last.name, last.status) == (ENDED, FAIL)
    assert said in last.text
    assert last.values[OUT_OF_MEMORY] == memory
    assert not alive(first.values["pid"])


def test_an_interrupted_check_leaves_nothing_running():
    pids = []

    def interrupt(line):
        pids.append(line.values["pid"])
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run("hangs", tell=interrupt)
    assert not alive(pids[0])


def test_memory_of_processes_is_read():
    assert child.resident(os.getpid()) > 1_000_000
    assert child.resident(2**30) == 0
    assert child.available_memory() > 1_000_000
