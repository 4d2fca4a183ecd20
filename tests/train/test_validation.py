"""Validation with the toy network: when, what is best, when to stop, what is written and seen."""

from __future__ import annotations

import csv
import json
import math

import keras
import numpy as np
import pytest
import tensorflow as tf
from fake import FakeEvaluation, fake_config, fake_drawing
from listening import listening
from run_fake import fake_task
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from records import durable
from records.errors import InputError
from tffold.pictures import board, plots
from tffold.structures.files import read_pdb
from tffold.train import gallery, validation
from tffold.train.evaluation import ChainResult
from tffold.train.monitor import read_metrics
from tffold.train.run import train, validate
from tffold.weights import checkpoint

RISING = {step: 0.1 * step for step in range(1, 30)}
SQUARE = ("distogram", "contacts", "pae")
PICTURES = ("backbone", "contacts", "distances", "distogram", "masked_msa", "pae", "plddt")


def settings(folder, every=2, patience=0, **fields):
    config = fake_config(run_dir=str(folder), **fields)
    config.data.validation = ["made up"]
    config.validation.every, config.validation.patience = every, patience
    return config


def task_with(scores, made, drawn=()):
    """Toy task whose evaluations have these scores; ``made`` collects them."""

    def evaluation(config, trainer):
        made.append(FakeEvaluation(trainer, scores, drawn))
        return made[-1]

    task = fake_task(dropout=0.0)
    return task.__class__(**{**task.__dict__, "evaluation": evaluation})


def go(folder, scores=None, callbacks=(), drawn=(), **fields):
    made = []
    with listening() as said:
        outcome = train(
            settings(folder, **fields), task_with(scores, made, drawn), False, callbacks
        )
    state = {name: keras.ops.convert_to_numpy(v) for name, v in outcome.trainer.named_state()}
    return state, said, outcome, made[0]


def evaluated(folder):
    return sorted(int(path.name[5:]) for path in (folder / "validation").iterdir())


def progress(folder, step):
    saved = checkpoint.load(folder / "checkpoints" / checkpoint.folder_name(step))
    return saved.description["validation"]


def test_means_leave_out_what_a_chain_has_not():
    chains = [
        ChainResult("a", 5, {"x": 1.0, "y": math.nan}),
        ChainResult("b", 5, {"x": 4.0, "z": 2.0}),
    ]
    summary = validation.mean_over_chains(7, chains, 0.0)
    assert summary.means == {"x": 2.5, "z": 2.0}
    assert summary.counts == {"x": 2, "z": 1}


def interface(first, second, dockq, iptm, tm):
    scores = {"dockq": dockq, "predicted_iptm": iptm, "interface_tm": tm}
    return {"chains": [first, second], **scores, "iptm_error": abs(iptm - tm)}


def test_interfaces_have_a_table_and_ipTM_is_calibrated_over_all(tmp_path):
    chains = [
        ChainResult("mono", 5, {"lddt_ca": 1.0}),
        ChainResult("di", 9, {"dockq": 0.8}, interfaces=[interface("A", "B", 0.8, 0.9, 0.7)]),
        ChainResult("tri", 9, {"dockq": 0.3}, interfaces=[
            interface("A", "B", 0.4, 0.5, 0.6),
            interface("B", "C", 0.2, 0.1, 0.2) | {"x": math.inf},
        ]),
    ]  # fmt: skip
    found = validation.calibration(chains)
    assert found["iptm_error"] == pytest.approx((0.2 + 0.1 + 0.1) / 3)
    iptm, tm, dockq = [0.9, 0.5, 0.1], [0.7, 0.6, 0.2], [0.8, 0.4, 0.2]
    assert found["iptm_correlation"] == pytest.approx(np.corrcoef(iptm, tm)[0, 1])
    assert found["iptm_dockq_correlation"] == pytest.approx(np.corrcoef(iptm, dockq)[0, 1])
    assert validation.calibration(chains[:1]) == {}
    assert set(validation.calibration(chains[:2])) == {"iptm_error"}
    summary = validation.mean_over_chains(3, chains, 0.0)
    assert summary.means["dockq"] == pytest.approx(0.55) and summary.counts["dockq"] == 2
    assert "DockQ 0.55" in validation.summary_line(summary)
    validation.write_tables(tmp_path, summary)
    rows = list(csv.DictReader((tmp_path / "interfaces.csv").open()))
    assert [(r["complex"], r["first"], r["second"]) for r in rows] == [
        ("di", "A", "B"), ("tri", "A", "B"), ("tri", "B", "C"),
    ]  # fmt: skip
    assert [float(r["dockq"]) for r in rows] == [0.8, 0.4, 0.2]
    record = json.loads((tmp_path / "validation.json").read_text())
    assert record["interfaces"] == pytest.approx(found)
    assert "interfaces" not in record["chains"][0]
    assert record["chains"][2]["interfaces"][1]["x"] is None
    validation.write_tables(tmp_path / "alone", validation.mean_over_chains(3, chains[:1], 0.0))
    assert not (tmp_path / "alone" / "interfaces.csv").exists()


def test_a_complex_is_drawn_and_written_by_chains(tmp_path):
    arrays = fake_drawing() | {"chain": np.repeat([1, 2], [5, 3])}
    arrays["residue_index"] = np.r_[0:5, 0:3]
    result = ChainResult("di", 8, {"lddt_ca": 0.5, "dockq": 0.25}, drawing=arrays)
    gallery.write_structures(tmp_path, 3, result)
    for kind in ("predicted", "true"):
        first, second = read_pdb(tmp_path / f"di.{kind}.pdb")
        assert (first.chain_id, second.chain_id) == ("A", "B")
        assert second.residue_index[-1] == 3
    drawn = gallery.pictures(result)
    assert set(drawn) == set(PICTURES)
    figure = drawn["pae"]()
    assert [tuple(line.get_xdata()) for line in figure.axes[0].lines][0] == (4.5, 4.5)
    assert "DockQ 0.25" in drawn["backbone"]().axes[0].get_title()
    many = arrays | {"chain": np.arange(1, 9)}
    result.drawing = {k: np.concatenate([v] * 8) for k, v in many.items() if k not in SQUARE}
    result.drawing["chain"] = np.arange(1, 65)
    gallery.write_structures(tmp_path / "many", 3, result)
    assert {path.name for path in (tmp_path / "many").iterdir()} == {
        "di.predicted.cif", "di.true.cif",
    }  # fmt: skip


def test_every_so_many_steps_the_averaged_weights_are_measured(tmp_path):
    _, said, outcome, _ = go(tmp_path, every=3, steps=7)
    assert evaluated(tmp_path) == [3, 6]
    lines = [line for line in said if line.startswith("validation at")]
    assert len(lines) == 2 and "5 chains" in lines[0]
    # The toy's score is a function of the averaged weights of the step.
    record = json.loads((tmp_path / "validation/step-00000006/validation.json").read_text())
    go(tmp_path / "six", every=3, steps=6)
    saved = checkpoint.load(tmp_path / "six/checkpoints/step-00000006")
    size = sum(np.abs(v).sum() for name, v in saved.arrays.items() if name.startswith("average/"))
    assert record["chains"][0]["lddt_ca"] == pytest.approx(1 / (1 + size), rel=1e-5)
    assert record["mean"]["lddt_ca"] == pytest.approx(1 / (1 + size) + 0.02, rel=1e-5)


def test_validation_changes_no_number_of_training(tmp_path):
    validated, *_ = go(tmp_path / "with", steps=5)
    plain, *_ = go(tmp_path / "without", steps=5, every=1000)
    for name, value in plain.items():
        np.testing.assert_array_equal(value, validated[name], err_msg=name)


def test_the_best_checkpoint_stays(tmp_path):
    scores = {2: 0.3, 4: 0.8, 6: 0.5, 8: 0.7}
    _, said, outcome, _ = go(tmp_path, scores, steps=8, keep_checkpoints=1)
    assert checkpoint.steps_in(tmp_path / "checkpoints") == [8]
    assert checkpoint.steps_in(tmp_path / "best") == [4]
    best = outcome.summary["best"]
    assert best["step"] == 4 and best["lddt_ca"] == pytest.approx(0.82)
    assert checkpoint.load(best["checkpoint"]).step == 4
    assert [line.endswith("the best so far") for line in said if "validation at" in line] == [
        True,
        True,
        False,
        False,
    ]


def test_training_stops_when_the_score_has_not_risen_for_long_enough(tmp_path):
    scores = {2: 0.3, 4: 0.8, 6: 0.5, 8: 0.8, 10: 0.9}
    state, said, _, _ = go(tmp_path, scores, steps=12, patience=2)
    assert int(state["step"]) == 8
    assert any("stopping early" in line and "since step 4" in line for line in said)
    # The same command again: it is over, and stays so.
    state, said, _, again = go(tmp_path, scores, steps=12, patience=2)
    assert int(state["step"]) == 8 and again.asked == []
    state, *_ = go(tmp_path, scores | {12: 0.1}, steps=12, patience=9)
    assert int(state["step"]) == 12


def test_best_and_patience_survive_a_resume(tmp_path):
    scores = {1: 0.2, 2: 0.9, 3: 0.8, 4: 0.7, 5: 0.95, 6: 0.1}
    options = {"every": 1, "patience": 3, "checkpoint_every": 1}
    whole, _, _, _ = go(tmp_path / "whole", scores, steps=6, **options)
    for steps in (1, 3, 4, 6):
        parts, _, _, _ = go(tmp_path / "parts", scores, steps=steps, **options)
    for name, value in whole.items():
        np.testing.assert_array_equal(value, parts[name], err_msg=name)
    assert progress(tmp_path / "whole", 6) == progress(tmp_path / "parts", 6)
    assert progress(tmp_path / "whole", 6)["since_best"] == 1
    assert checkpoint.steps_in(tmp_path / "parts/best") == [5]


def test_an_older_best_takes_the_place_of_a_later_one_from_before_a_rewind(tmp_path):
    go(tmp_path, {2: 0.1, 4: 0.2, 6: 0.9}, steps=6)
    assert checkpoint.steps_in(tmp_path / "best") == [6]
    for step in (4, 6):  # as if they had been lost
        folder = tmp_path / "checkpoints" / checkpoint.folder_name(step)
        (folder / "arrays.safetensors").write_bytes(b"")
    go(tmp_path, {4: 0.5, 6: 0.3}, steps=6)
    assert checkpoint.steps_in(tmp_path / "best") == [4]


def test_a_validation_that_was_interrupted_is_made_up_for(tmp_path):
    class Interrupt(keras.callbacks.Callback):
        def on_train_batch_end(self, batch, logs=None):
            if batch == 3:
                self.model.stop_training = True

    _, _, _, first = go(tmp_path, RISING, callbacks=[Interrupt()], steps=6)
    assert evaluated(tmp_path) == [2]
    assert checkpoint.steps_in(tmp_path / "checkpoints")[-1] == 4
    go(tmp_path, RISING, steps=6)
    assert evaluated(tmp_path) == [2, 4, 6]


def test_an_evaluation_asked_to_stop_counts_for_nothing(tmp_path):
    _, _, outcome, made = go(tmp_path, RISING, steps=2)
    made.asked.clear()
    assert validation.evaluate(made, outcome.trainer, stopped=lambda: True) is None
    summary = validation.evaluate(made, outcome.trainer)
    assert [chain.chain_id for chain in summary.chains] == made.chain_ids


def test_tables_hold_every_number_of_every_chain(tmp_path):
    go(tmp_path, RISING, steps=2)
    folder = tmp_path / "validation/step-00000002"
    rows = list(csv.DictReader((folder / "chains.csv").open()))
    assert [row["chain"] for row in rows] == [f"chain{i}" for i in range(5)]
    assert float(rows[4]["lddt_ca"]) == pytest.approx(0.24)
    assert rows[3]["tm_score"] == "0.25" and rows[2]["tm_score"] == ""
    record = json.loads((folder / "validation.json").read_text())
    assert record["step"] == 2
    assert record["mean"]["tm_score"] == 0.25 and record["count"]["tm_score"] == 1
    assert record["mean"]["loss/total"] == 4.0 and record["count"]["loss/total"] == 5
    assert record["chains"][1]["recycling_changes"] == [3.0, 1.0]
    (line,) = [line for line in read_metrics(tmp_path) if "validation/lddt_ca" in line]
    assert line["step"] == 2 and line["validation_loss/total"] == 4.0
    assert line["validation_recycling/change_2"] == 1.0


def test_structures_carry_plddt_and_lie_on_each_other(tmp_path):
    _, _, _, made = go(tmp_path, RISING, drawn=[0], steps=4)
    (result,) = made.evaluate([0], draw=True)
    for step in (2, 4):  # frames of a film
        folder = tmp_path / "validation" / f"step-{step:08d}"
        (predicted,) = read_pdb(folder / "chain0.predicted.pdb")
        (true,) = read_pdb(folder / "chain0.true.pdb")
        drawing = result.drawing
        np.testing.assert_allclose(predicted.b_factors[:, 1], drawing["plddt"], atol=0.006)
        np.testing.assert_array_equal(predicted.aatype, drawing["aatype"])
        np.testing.assert_allclose(
            predicted.atom_positions[:, 1], drawing["positions"][:, 1], atol=6e-4
        )
        known = drawing["true_mask"][:, 1] > 0
        assert true.residue_index.tolist() == (np.flatnonzero(known) + 1).tolist()
        np.testing.assert_allclose(
            true.atom_positions[:, 1], drawing["true_positions"][known, 1], atol=6e-4
        )
        assert "chain2.predicted.pdb" not in {path.name for path in folder.iterdir()}


def test_tensorboard_holds_every_tag_at_every_step_in_its_size(tmp_path):
    go(tmp_path, RISING, drawn=[0, 1], steps=4)
    events = EventAccumulator(str(tmp_path / "tensorboard"), {"tensors": 0}).Reload()
    tags = set(events.Tags()["tensors"])
    sizes = {
        "backbone": (600, 500),
        "contacts": (500, 420),
        "distances": (1250, 400),
        "distogram": (500, 420),
        "masked_msa": (1200, 400),
        "pae": (500, 420),
        "plddt": (800, 300),
    }
    assert sorted(sizes) == sorted(PICTURES)
    for chain in ("chain0", "chain1"):
        for name, size in sizes.items():
            found = events.Tensors(f"{chain}/{name}")
            assert [event.step for event in found] == [2, 4], name
            for event in found:
                width, height, png = tf.make_ndarray(event.tensor_proto)
                assert (int(width), int(height)) == size, name
                shape = tf.io.decode_png(png).shape
                assert shape == (*size[::-1], 3), name
        for kind in ("VERTEX", "FACE", "COLOR"):
            found = events.Tensors(f"{chain}/backbone_{kind}")
            assert [event.step for event in found] == [2, 4]
            array = tf.make_ndarray(found[0].tensor_proto)
            assert array.shape[0] == 1 and array.shape[2] == 3 and array.shape[1] > 100
    scalars = {
        "validation/lddt_ca",
        "validation/tm_score",
        "validation/plddt",
        "validation_loss/total",
        "validation_recycling/change_1",
        "perf/validation_seconds",
    }
    histograms = {"validation_residues/plddt", "validation_recycling/last_change"}
    for name in scalars | histograms:
        assert [event.step for event in events.Tensors(name)] == [2, 4], name
        # A tag belongs to one plugin: a histogram under a scalar's name is not shown.
        plugin = events.SummaryMetadata(name).plugin_data.plugin_name
        assert plugin == ("histograms" if name in histograms else "scalars"), name
    assert {"loss/total", "loss/square", "metric/closeness", "optim/gradient_norm/fake"} <= tags
    for name in ("config", "data", "environment", "model", "_hparams_/session_start_info"):
        assert name in tags, name
    assert not any(tag.startswith("chain2") for tag in tags)


def test_texts_say_what_is_trained_on_what(tmp_path):
    go(tmp_path, RISING, steps=1)
    events = EventAccumulator(str(tmp_path / "tensorboard"), {"tensors": 0}).Reload()

    def text(name):
        (event,) = events.Tensors(name)
        return tf.make_ndarray(event.tensor_proto).item().decode()

    assert "made up" in text("data")
    # 5 x 4 + 4 x 4 + 3 + 4 parameters in four arrays.
    assert "| fake | 4 | 43 |" in text("model") and "| **all** | 4 | 43 |" in text("model")
    assert "tensorflow" in text("environment") and "| replicas | 1 |" in text("environment")
    assert "learning_rate: 0.05" in text("config")


def test_a_failing_picture_is_told_once_and_the_others_are_drawn(tmp_path, monkeypatch):
    def broken(*arguments, **options):
        raise RuntimeError("no ink")

    monkeypatch.setattr(plots, "contact_map", broken)
    state, said, _, _ = go(tmp_path, RISING, drawn=[0], steps=4)
    assert int(state["step"]) == 4
    (warning,) = [line for line in said if "warning" in line]
    assert "contacts" in warning and "no ink" in warning and "training goes on" in warning
    events = EventAccumulator(str(tmp_path / "tensorboard"), {"tensors": 0}).Reload()
    tags = set(events.Tags()["tensors"])
    assert "chain0/pae" in tags and "chain0/contacts" not in tags


def test_a_full_disk_under_the_logs_is_told_once_and_training_goes_on(tmp_path, monkeypatch):
    def full(*arguments, **options):
        raise OSError(28, "No space left on device")

    class FullWriter:
        def as_default(self, step):
            full()

        flush = close = full

    plain, *_ = go(tmp_path / "plain", RISING, steps=4)
    monkeypatch.setattr(board.tf.summary, "create_file_writer", lambda path: FullWriter())
    monkeypatch.setattr(durable, "sync_file", full)
    monkeypatch.setattr(validation.gallery.structure_files, "pdb_text", full)
    state, said, _, _ = go(tmp_path / "full", RISING, drawn=[0], steps=4)
    warnings = [line for line in said if "warning" in line]
    cannot = ("logs", "validation", "structure", "config.yaml", "summary.json")
    assert len(warnings) == len(cannot), warnings
    for part in (f"{what} cannot" for what in cannot):
        assert len([line for line in warnings if part in line and "No space" in line]) == 1
    for name, value in plain.items():
        np.testing.assert_array_equal(value, state[name], err_msg=name)


def test_a_checkpoint_is_evaluated_by_itself(tmp_path):
    go(tmp_path, steps=4)
    during = json.loads((tmp_path / "validation/step-00000004/validation.json").read_text())
    for source in ("", "checkpoints/step-00000004", "best"):
        config = settings(tmp_path / "alone")
        task = task_with(None, [], drawn=[0])
        with listening() as said:
            summary = validate(config, task, str(tmp_path / source))
        expected = progress(tmp_path, 4)["best_step"] if source == "best" else 4
        assert summary.step == expected
        assert any("lddt_ca" in line for line in said)
        folder = tmp_path / "alone/validation" / f"step-{expected:08d}"
        alone = json.loads((folder / "validation.json").read_text())
        if expected == 4:
            assert alone["mean"] == during["mean"]
        assert (folder / "chain0.predicted.pdb").exists()
    assert not (tmp_path / "alone/checkpoints").exists()


def test_weights_to_evaluate_must_exist_and_fit(tmp_path):
    with pytest.raises(InputError, match="nowhere: neither a checkpoint"):
        validate(settings(tmp_path), fake_task(), str(tmp_path / "nowhere"))
    with pytest.raises(InputError, match="nothing to validate on"):
        validate(fake_config(run_dir=str(tmp_path)), fake_task(), str(tmp_path))


def test_chosen_steps_are_profiled(tmp_path):
    go(tmp_path, steps=5, every=9, profile="2:4")
    assert len(list(tmp_path.glob("tensorboard/plugins/profile/*/*.xplane.pb"))) == 1
