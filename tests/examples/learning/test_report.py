"""The report's pictures say what the files say."""

from __future__ import annotations

import json

import numpy as np
import pytest

from examples.learning import report
from examples.learning.evaluate import summarise
from records.errors import InputError


def write_run(folder, steps=400, gain=1.0):
    """Metrics of a run that learns; it went back once, from step 200 to step 151."""
    folder.mkdir()
    lines = []
    for step in [*range(1, 201), *range(151, steps + 1)]:
        lddt = gain * (1 - np.exp(-step / 200))
        row = {"step": step, "samples": 4 * step, "metric/lddt_ca": lddt, "bad": None}
        lines.append(row | {"loss/distogram/loss": 3 - lddt})
        if step % 50 == 0:
            held = {
                "lddt_ca": 0.8 * lddt, "gdt_ts": 0.5 * lddt, "tm_score": 0.6 * lddt,
                "plddt": 90 * lddt, **{
                    f"{kind}contact_precision_{top}": lddt / (2 + number)
                    for kind in ("", "medium_") for number, top in enumerate(("l5", "l2", "l"))
                },
            }  # fmt: skip
            lines.append(
                {"step": step} | {f"validation/{name}": value for name, value in held.items()}
            )
    (folder / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return folder


def chain(number, rng):
    true = np.cumsum(rng.normal(size=(60, 3)), axis=0) * 2
    lddt = rng.random(60) * 100
    numbers = {
        "lddt_ca": lddt.mean() / 100 + 0.001 * number, "tm_score": 0.5, "rmsd_ca": 5.0,
        "contact_precision_l5": 0.3, "medium_contact_precision_l5": 0.4,
    }  # fmt: skip
    return {
        "chain": f"c{number}_A", "residues": 60, "rows": 10 * number + 1, "numbers": numbers,
        "recycles": {"0": numbers, "1": numbers}, "controls": {"query_alone": numbers},
        "plddt": np.clip(lddt + rng.normal(size=60) * 10, 0, 99).tolist(), "lddt": lddt.tolist(),
        "drawing": {
            "true": true.tolist(), "predicted": (true + rng.normal(size=true.shape)).tolist(),
            "known": [0] + [1] * 59,
        },
    }  # fmt: skip


@pytest.fixture
def evaluation(tmp_path):
    rng = np.random.default_rng(0)
    chains = [chain(number, rng) for number in range(9)]
    found = summarise(chains, ["query_alone"]) | {"chains": chains}
    found["baselines"] = {"constant": {"mean": {"lddt_ca": {"mean": 0.2, "error": 0.01}}}}
    (tmp_path / "evaluation.json").write_text(json.dumps(found))
    return found


def texts(axes):
    return {line.get_label(): line.get_xydata() for line in axes.lines}


def test_metrics_of_a_run_that_went_back(tmp_path):
    """Samples, not steps; a repeated step once; a line that is being written is left out."""
    folder = write_run(tmp_path / "run")
    with open(folder / "metrics.jsonl", "a") as file:
        file.write('{"step": 401, "sam')
    found = report.read_metrics(folder)
    np.testing.assert_array_equal(found["metric/lddt_ca"][:, 0], 4 * np.arange(1, 401))
    np.testing.assert_array_equal(found["validation/lddt_ca"][:, 0], 200 * np.arange(1, 9))
    assert "bad" not in found
    (folder / "metrics.jsonl").write_text("no json\n{}\n")
    with pytest.raises(InputError, match="line 1: not a line of metrics"):
        report.read_metrics(folder)


def test_curves_are_drawn_in_thousands_of_samples(tmp_path):
    series = report.read_metrics(write_run(tmp_path / "run"))
    figure = report.curves(series)
    structure, contacts, confidence, _ = figure.axes
    held = texts(structure)["lDDT-Cα, held out"]
    np.testing.assert_allclose(held[:, 0], 0.2 * np.arange(1, 9))
    np.testing.assert_allclose(held[:, 1], series["validation/lddt_ca"][:, 1])
    assert {"long range, L/5", "medium range, L"} <= set(texts(contacts))
    np.testing.assert_allclose(texts(confidence)["100 lDDT-Cα, held out"][:, 1], 100 * held[:, 1])


def test_smoothing_keeps_a_constant_and_the_ends():
    np.testing.assert_allclose(report.smooth(np.full(7, 3.0), 4), 3.0)
    np.testing.assert_allclose(report.smooth(np.arange(5.0), 3), [0.5, 1, 2, 3, 3.5])


def test_gallery_is_of_the_best_the_median_and_the_worst(evaluation):
    order = sorted(evaluation["chains"], key=lambda one: -one["numbers"]["lddt_ca"])
    assert [one["chain"] for one in evaluation["gallery"]] == [
        order[place]["chain"] for place in (0, 4, 8)
    ]
    figure = report.gallery(evaluation)
    assert [axes.get_title().split(":")[0] for axes in figure.axes] == ["best", "median", "worst"]


def test_all_pictures(tmp_path, evaluation, capsys):
    run, half = write_run(tmp_path / "run"), write_run(tmp_path / "half", gain=0.5)
    out, told = tmp_path / "out", ["--evaluation", str(tmp_path / "evaluation.json")]
    assert report.main([str(run), *told, "--output", str(out)]) == 0
    assert report.main([f"whole={run}", f"half={half}", "--output", str(out)]) == 0
    names = {path.stem for path in out.glob("*.png")}
    assert names == {"curves", "comparison", "calibration", "controls", "gallery"}
    assert report.main([str(tmp_path / "nowhere"), "--output", str(out)]) == 2
    assert "nowhere: cannot be read (name a run folder)" in capsys.readouterr().err
    (tmp_path / "evaluation.json").write_text("{}")
    assert report.main([*told, "--output", str(out)]) == 2
    assert "an evaluation without weights" in capsys.readouterr().err
