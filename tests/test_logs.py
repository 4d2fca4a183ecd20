"""What a run says: printed plainly by the command lines, of the chief alone; else nothing."""

from __future__ import annotations

import logging
import subprocess
import sys

import pytest

from tffold import logs


@pytest.fixture
def shown():
    logger = logging.getLogger(logs.ROOT)
    level = logger.level
    logs.show()
    logs.show()  # each line is still printed once
    yield
    logs.set_chief(True)
    logger.removeHandler(logs._PRINTER)
    logger.setLevel(level)


def test_lines_are_plain_and_warnings_say_so(shown, capsys):
    logging.getLogger("tffold.train.run").info("step %d", 3)
    logging.getLogger("tffold.pictures.board").warning("no ink, 100%")
    assert capsys.readouterr().out == "step 3\nwarning: no ink, 100%\n"


def test_only_the_chief_speaks_but_for_its_own_records(shown, capsys):
    logs.set_chief(False)
    logging.getLogger("tffold.train.run").warning("the chief says it")
    logging.getLogger("tffold.data.reader").warning("skipped: mine")
    assert capsys.readouterr().out == "warning: skipped: mine\n"


def test_a_library_is_silent():
    code = "import logging, tffold; logging.getLogger('tffold.train.run').warning('heard')"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout + run.stderr == ""
