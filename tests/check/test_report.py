"""Lines, the verdict over them, and the report."""

from __future__ import annotations

import json
import math

import pytest

from records.errors import InputError
from tffold.check.report import (
    all_passed,
    judge,
    left_out,
    measured,
    values_of,
    write_json,
)

GOOD = judge("part", "one", True, "well", size=3)
BAD = judge("part", "two", False, "not well")
OTHERS = [measured("part", "three", "so much", seconds=math.inf), left_out("part", "four", "why")]


def test_only_a_failed_line_spoils_it():
    assert all_passed([GOOD, *OTHERS])
    assert not all_passed([GOOD, BAD])
    assert not all_passed([])


def test_a_line_says_its_verdict_first():
    assert str(GOOD) == "pass      part: one: well"
    assert str(BAD).startswith("fail ")


def test_numbers_are_found_by_part_and_name():
    assert values_of([GOOD, *OTHERS]) == {"part.one.size": 3, "part.three.seconds": math.inf}


def test_the_report_is_json_without_infinities(tmp_path):
    write_json(tmp_path / "new" / "report.json", [GOOD, *OTHERS], {"about": [1.5]})
    tree = json.loads((tmp_path / "new" / "report.json").read_text())
    assert tree["passed"] and tree["about"] == [1.5]
    assert tree["lines"][0]["values"] == {"size": 3}
    assert tree["lines"][1]["values"] == {"seconds": "inf"}


def test_a_report_that_cannot_be_written_is_one_error(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="--report"):
        write_json(tmp_path / "file" / "report.json", [GOOD], {})
