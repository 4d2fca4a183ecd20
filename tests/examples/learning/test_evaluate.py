"""A tiny network, with made-up weights, on made-up chains: every number of the evaluation."""

from __future__ import annotations

import json

import numpy as np
import pytest
from predicting import small_config
from synthetic import chain, write_shard
from tiny import model_params

from examples.learning import evaluate
from examples.learning.controls import CONTROLS
from tffold import config_file
from tffold.model.alphafold import AlphaFold
from tffold.weights import npz


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    folder = tmp_path_factory.mktemp("evaluate")
    config = small_config()
    config.validation.num_recycle, config.validation.max_length = 1, 30
    (folder / "tiny.yaml").write_text(config_file.to_yaml(config))
    npz.write_npz(folder / "tiny.npz", model_params(AlphaFold(config.model, 1)))
    chains = [chain(30, rows, seed=rows, chain_id=f"c{rows}_A") for rows in (10, 20, 40)]
    chains.append(chain(31, 5, chain_id="long_A"))
    for kind, some in (("validation", chains), ("train", chains[:1])):
        (folder / kind).mkdir()
        write_shard(folder / kind / "chains-00000.tfrecord", some)
    return folder


@pytest.fixture(scope="module")
def found(world):
    arguments = [
        str(world / "tiny.npz"), "--config", str(world / "tiny.yaml"), "--records", str(world),
        "--output", str(world / "out.json"), "--quiet",
    ]  # fmt: skip
    assert evaluate.main(arguments) == 0
    return json.loads((world / "out.json").read_text())


@pytest.mark.slow
def test_every_chain_with_every_control(found):
    assert [c["chain"] for c in found["chains"]] == ["c10_A", "c20_A", "c40_A"]  # not the long one
    assert [c["rows"] for c in found["chains"]] == [10, 20, 40]
    for one in found["chains"]:
        assert one["recycles"].keys() == {"0", "1", "3"} and one["controls"].keys() == set(CONTROLS)
        usual = {name: one["numbers"][name] for name in evaluate.SHOWN if name in one["numbers"]}
        assert usual == one["recycles"]["1"] != one["recycles"]["3"]
        # 40 rows or fewer: cut to 64 they are what they were, cut to 4 they are not.
        assert one["controls"]["rows_64"] == pytest.approx(usual, abs=1e-3)
        for name in ("query_alone", "shuffled_columns", "rows_4"):
            assert one["controls"][name]["lddt_ca"] != one["numbers"]["lddt_ca"]
        assert len(one["plddt"]) == len(one["lddt"]) == 30
        known = [x for x in one["lddt"] if x is not None]
        assert np.mean(one["plddt"]) == pytest.approx(
            one["numbers"]["plddt"], abs=3.0
        )  # its mean is over known residues alone
        assert 0.0 <= min(known) <= max(known) <= 100.0


@pytest.mark.slow
def test_means_and_classes(found):
    values = [one["numbers"]["lddt_ca"] for one in found["chains"]]
    assert found["mean"]["lddt_ca"] == {
        "mean": pytest.approx(np.mean(values), abs=1e-4),
        "error": pytest.approx(np.std(values, ddof=1) / np.sqrt(3), abs=1e-4),
        "chains": 3,
    }
    assert [(c["rows_from"], c["chains"]) for c in found["by_depth"]] == [(1, 1), (16, 2)]
    bands = found["calibration"]["bands"]
    known = sum(x is not None for one in found["chains"] for x in one["lddt"])
    assert sum(band["residues"] for band in bands) == known
    assert found["recycles"].keys() == {"0", "1", "3"}
    assert found["passes"] == 1 and len(found["crc32c"]) == 8
    assert set(found["baselines"]["covariation"]["chains"]) == {"c10_A", "c20_A", "c40_A"}


def test_calibration_by_hand():
    chains = [
        {"plddt": [95.0, 85.0], "lddt": [90.0, np.nan]},
        {"plddt": [15.0, 12.0], "lddt": [10.0, 20.0]},
    ]
    found = evaluate.calibration(chains)
    assert found["bands"] == [
        {"from": 10, "residues": 2, "plddt": 13.5, "lddt": 15.0},
        {"from": 90, "residues": 1, "plddt": 95.0, "lddt": 90.0},
    ]
    assert found["mean_error"] == pytest.approx((5 + 5 + 8) / 3)
    assert found["chain_correlation"] == pytest.approx(1.0)
    assert evaluate.correlation(np.ones(3), np.arange(3.0)) is None


def test_means_leave_out_what_is_no_number():
    assert evaluate.mean([{"a": 1.0}, {"a": 3.0, "b": np.nan}]) == {
        "a": {"mean": 2.0, "error": 1.0, "chains": 2}
    }


def test_baselines_alone(world, capsys):
    """They need no weights; without shards there is one clear error."""
    arguments = ["none", "--records", str(world), "--output", str(world / "base.json")]
    assert evaluate.main(arguments) == 0
    found = json.loads((world / "base.json").read_text())
    assert "mean" not in found and "c40_A" in found["baselines"]["constant"]["chains"]
    assert "covariation" in capsys.readouterr().out
    arguments[2] = str(world / "nowhere")
    assert evaluate.main(arguments) == 2
    assert "no shards here (name tffold-convert's --output)" in capsys.readouterr().err
