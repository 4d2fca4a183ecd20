"""The largest crop by bisection, and better settings: on a machine that is made up."""

from __future__ import annotations

import pytest

from tffold.check import search
from tffold.check.child import ENDED, OUT_OF_MEMORY
from tffold.check.report import FAIL, MEASURED, Line, measured
from tffold.config import Config
from tffold.config_file import load_config


def answer(rate: float, peak: int = 10**9) -> list[Line]:
    return [
        measured("speed", "step", "", samples_per_second=rate),
        measured("speed", "memory", "", peak_bytes=peak),
    ]


def ended(memory: bool) -> list[Line]:
    return [Line("speed", ENDED, FAIL, "it ended", {OUT_OF_MEMORY: memory})]


def fits_up_to(largest: int, tried: list[int]):
    def measure(config, **options):
        tried.append(config.data.crop_size)
        return answer(1.0) if config.data.crop_size <= largest else ended(True)

    return measure


@pytest.mark.parametrize("largest", [16, 100, 160, 255])
def test_too_little_memory_finds_the_largest_crop(largest):
    tried = []
    found, *rest = search.largest_crop(Config(), fits_up_to(largest, tried))
    crop = found.values["crop_size"]
    assert crop <= largest < crop + 2 * search.CROP_UNIT
    assert len(tried) <= 5 and max(tried) < 256
    assert [line.name for line in rest] == ["step", "memory"]


def test_nothing_fits():
    (line,) = search.largest_crop(Config(), fits_up_to(0, []))
    assert line.status == FAIL and "not even" in line.text


def test_another_fault_ends_the_search():
    (line,) = search.largest_crop(Config(), lambda config, **options: ended(False))
    assert line.name == ENDED


def machine(config, brief, examples):
    """bfloat16 helps most, smaller slices a little, none do not fit; no remat is slower."""
    model = config.model
    if not model.slice_mib:
        return ended(True)
    rate = 10.0 * (2.0 if model.bfloat16 else 1.0) * (1.2 if model.slice_mib == 64 else 1.0)
    rate *= {"all": 1.0, "cheap": 1.02, "none": 0.8, "nested": 0.85}[model.remat]
    return answer(rate * (1.1 if examples == 2 else 1.0))


def test_tuning_takes_what_helps_and_prints_it(tmp_path):
    lines = {line.name: line for line in search.tune(Config(), answer(10.0), machine)}
    assert lines["tune model.slice_mib=0"].text == "does not fit"
    assert "0.80 of before" in lines["tune model.remat=none"].text
    assert "1.10" in lines["tune 2 examples a replica at once"].text
    best = lines["best settings"]
    assert best.values["settings"] == {"model.bfloat16": True, "model.slice_mib": 64}
    assert "2.40 times" in best.text and best.status == MEASURED
    (tmp_path / "best.yaml").write_text(best.values["fragment"])
    config = load_config(tmp_path / "best.yaml")
    assert config.model.bfloat16 and config.model.slice_mib == 64


def test_where_nothing_helps_nothing_is_changed():
    *_, best = search.tune(Config(), answer(10.0), lambda config, **options: answer(10.1))
    assert best.values["settings"] == {} and "as they are" in best.text


def test_good_settings_that_do_not_go_together_are_not_combined():
    def measure(config, **options):
        model = config.model
        if model.bfloat16 and model.slice_mib == 64:
            return answer(5.0)
        return answer(30.0 if model.bfloat16 else 12.0 if model.slice_mib == 64 else 10.0)

    *_, best = search.tune(Config(), answer(10.0), measure)
    assert best.values["settings"] == {"model.bfloat16": True}
