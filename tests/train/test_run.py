"""Runs of the toy network: resumed, started from another, skipped, refused, and logged."""

from __future__ import annotations

import json
from types import SimpleNamespace

import keras
import numpy as np
import pytest
import tensorflow as tf
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from toy_run import assert_same, go

from records.errors import InputError
from tffold import config_file
from tffold.config import Config
from tffold.train import run
from tffold.train.callbacks import NonFiniteError
from tffold.train.monitor import read_metrics
from tffold.train.trainer import AlphaFoldTrainer
from tffold.weights import checkpoint


def test_resumed_in_parts_is_bit_for_bit_the_same(tmp_path):
    whole, _, _ = go(tmp_path / "whole", steps=6)
    go(tmp_path / "parts", steps=1)
    go(tmp_path / "parts", steps=4)
    parts, said, _ = go(tmp_path / "parts", steps=6)
    assert any("at step 4" in line for line in said)
    assert_same(whole, parts)
    assert int(whole["step"]) == 6


def test_a_run_that_is_done_traces_no_step(tmp_path, monkeypatch):
    go(tmp_path, steps=2)
    monkeypatch.setattr(AlphaFoldTrainer, "trace", lambda *_: pytest.fail("traced"))
    state, _, _ = go(tmp_path, steps=2)
    assert int(state["step"]) == 2


def test_another_seed_is_another_run(tmp_path):
    one, _, _ = go(tmp_path / "one", steps=2)
    other, _, _ = go(tmp_path / "other", steps=2, seed=1)
    assert any(not np.array_equal(one[name], other[name]) for name in one)


def test_a_damaged_checkpoint_costs_steps_not_the_run(tmp_path):
    whole, _, _ = go(tmp_path / "run", steps=6)
    arrays = tmp_path / "run" / "checkpoints" / "step-00000006" / "arrays.safetensors"
    data = bytearray(arrays.read_bytes())
    data[-3] ^= 64
    arrays.write_bytes(data)
    again, said, _ = go(tmp_path / "run", steps=6)
    assert any("step-00000006" in line and "falling back" in line for line in said)
    assert any("at step 4" in line for line in said)
    assert_same(whole, again)
    assert [line["step"] for line in read_metrics(tmp_path / "run")] == [1, 2, 4, 6]


def test_nan_skips_the_update_and_names_the_chain(tmp_path):
    clean, _, _ = go(tmp_path / "clean", steps=2)
    state, said, _ = go(tmp_path / "bad", steps=3, poison=[2])
    assert int(state["step"]) == 3 and int(state["updates"]) == 2
    for name in clean:
        if name != "step":
            np.testing.assert_array_equal(clean[name], state[name], err_msg=name)
    (warning,) = [line for line in said if "not finite" in line and "warning" in line]
    assert "step 2" in warning and "c2_2" in warning and "c2_1" not in warning
    last = read_metrics(tmp_path / "bad")[-1]
    assert last["loss"] is None and last["bad_examples"] == 1


def test_nan_in_a_row_ends_the_run_with_the_chains(tmp_path):
    with pytest.raises(NonFiniteError, match=r"3 steps in a row.*c3_2, c4_2, c5_2"):
        go(tmp_path, steps=9, poison=[1, 3, 4, 5], max_non_finite_steps=3)
    assert checkpoint.steps_in(tmp_path / "checkpoints") == [2, 4]


def test_a_changed_configuration_is_refused_with_the_difference(tmp_path):
    go(tmp_path, steps=2)
    with pytest.raises(InputError, match=r"train.learning_rate: 0.05 -> 0.01.*--allow-config"):
        go(tmp_path, steps=4, learning_rate=0.01)
    state, _, _ = go(tmp_path, steps=4, learning_rate=0.01, allow=True)
    assert int(state["step"]) == 4


def test_a_checkpoint_of_an_older_version_is_read_as_its_settings_are_written_now():
    def saved(**changes):
        tree = config_file.to_dict(Config())
        for key, value in changes.items():
            section, name = key.split("__")
            tree[section][name] = value
        return SimpleNamespace(description={"config": tree})

    older = saved(model__remat=True)  # as it was written before it had three values
    del older.description["config"]["data"]["cache_gb"], older.description["config"]["predict"]
    run.check_same_config(older, Config(), allowed=False)
    with pytest.raises(InputError, match="model.remat: 'none' -> 'all'"):
        run.check_same_config(saved(model__remat=False), Config(), allowed=False)
    with pytest.raises(InputError, match="model.gone: 1 -> None"):
        run.check_same_config(saved(model__gone=1), Config(), allowed=False)


def test_what_changes_no_number_may_change(tmp_path):
    whole, _, _ = go(tmp_path / "whole", steps=4)
    go(tmp_path / "parts", steps=2)
    parts, _, _ = go(
        tmp_path / "parts", steps=4, log_every=1, checkpoint_every=3, keep_checkpoints=1
    )
    assert_same(whole, parts)
    assert checkpoint.steps_in(tmp_path / "parts" / "checkpoints") == [4]


@pytest.mark.parametrize("source", ["first", "first/checkpoints/step-00000004"])
def test_a_stage_starts_from_the_last_ones_weights_alone(tmp_path, source):
    first, _, _ = go(tmp_path / "first", steps=4)
    second, said, outcome = go(
        tmp_path / "second", steps=0, learning_rate=0.01, init_from=str(tmp_path / source)
    )
    for name, value in first.items():
        if name.startswith(("parameters/", "average/")):
            np.testing.assert_array_equal(second[name], value)
    assert int(second["step"]) == int(second["updates"]) == 0
    assert not any(np.any(v) for name, v in second.items() if "moment" in name)
    assert any("starting from" in line for line in said)


def test_init_from_nothing_is_an_error(tmp_path):
    with pytest.raises(InputError, match="neither a checkpoint nor a run"):
        go(tmp_path / "run", init_from=str(tmp_path / "nowhere"))


def test_keras_callbacks_work(tmp_path):
    calls = []
    callbacks = [
        keras.callbacks.LambdaCallback(
            on_train_batch_end=lambda step, logs: calls.append(step),
            on_epoch_end=lambda epoch, logs: calls.append(f"epoch {epoch}"),
        ),
        keras.callbacks.CSVLogger(str(tmp_path / "log.csv")),
        keras.callbacks.EarlyStopping(monitor="metric/closeness", mode="max", baseline=2.0),
    ]
    state, _, _ = go(tmp_path / "run", callbacks=callbacks, steps=20)
    # Closeness never exceeds 1: stopped at the end of an early epoch, each two steps long.
    assert calls[:3] == [0, 1, "epoch 0"]
    stopped = int(state["step"])
    assert stopped < 20 and calls[-2:] == [stopped - 1, f"epoch {stopped // 2 - 1}"]
    header, row, *_ = (tmp_path / "log.csv").read_text().splitlines()
    assert "loss" in header.split(",") and row.startswith("0,")


def test_logs_hold_every_scalar_where_it_is_looked_for(tmp_path):
    go(tmp_path, steps=4)
    lines = read_metrics(tmp_path)
    assert [line["step"] for line in lines] == [1, 2, 4]
    assert [line["samples"] for line in lines] == [4, 8, 16]
    events = EventAccumulator(str(tmp_path / "tensorboard"), {"tensors": 0}).Reload()
    tags = set(events.Tags()["tensors"])
    assert {
        "loss/total",
        "loss/square",
        "metric/closeness",
        "optim/learning_rate",
        "optim/gradient_norm",
        "perf/step_seconds",
        "perf/data_wait_seconds",
        "perf/samples_per_second",
        "config",
    } <= tags
    assert [event.step for event in events.Tensors("loss/total")] == [1, 2, 4]
    value = float(tf.make_ndarray(events.Tensors("loss/total")[0].tensor_proto))
    assert value == pytest.approx(lines[0]["loss"])


def test_first_loss_is_that_of_the_first_step_and_summary_says_so(tmp_path):
    _, _, outcome = go(tmp_path, steps=4)
    lines = read_metrics(tmp_path)
    summary = json.loads((tmp_path / "summary.json").read_text())
    assert summary == outcome.summary
    assert summary["loss"] == [lines[0]["loss"], lines[-1]["loss"]]
    assert summary["checkpoint"].endswith("step-00000004")


def test_probe_measures_the_same_batches_before_and_after(tmp_path):
    go(tmp_path, steps=4, probe_steps=3)
    go(tmp_path, steps=4, probe_steps=3)  # nothing left to do: no third measurement
    before, after = (line for line in read_metrics(tmp_path) if "probe/loss" in line)
    assert (before["step"], after["step"]) == (0, 4)
    training = [line for line in read_metrics(tmp_path) if "loss" in line]
    # Step 0's batch is the first of the three; nothing had been learnt then.
    go(tmp_path / "one", steps=1, probe_steps=1)
    alone = read_metrics(tmp_path / "one")
    assert alone[0]["probe/loss"] == pytest.approx(training[0]["loss"], rel=1e-5)
    assert after["probe/loss"] < before["probe/loss"]


def test_logs_that_cannot_be_written_do_not_stop_training(tmp_path):
    (tmp_path / "metrics.jsonl").mkdir(parents=True)  # in the way
    state, said, _ = go(tmp_path, steps=3)
    assert int(state["step"]) == 3
    assert len([line for line in said if "logs cannot be written" in line]) == 1


def test_what_a_run_says_of_itself_is_whole_or_absent(tmp_path, monkeypatch):
    """And none of it ends a run that cannot write it."""
    monkeypatch.setattr(run, "write_whole", _full)
    _, said, outcome = go(tmp_path, steps=2)
    assert outcome.summary["step"] == 2
    for name in ("config.yaml", "summary.json"):
        assert [line for line in said if f"{name} cannot be written (" in line]
        assert not (tmp_path / name).exists()


def _full(*arguments):
    raise OSError(28, "No space left")


def test_a_full_disk_ends_the_run_with_the_last_checkpoint_intact(tmp_path, monkeypatch):
    go(tmp_path, steps=2)
    monkeypatch.setattr(checkpoint, "write_arrays", _full)
    with pytest.raises(checkpoint.CheckpointError, match="No space left"):
        go(tmp_path, steps=6)
    assert checkpoint.steps_in(tmp_path / "checkpoints") == [2]
    assert checkpoint.load_latest(tmp_path / "checkpoints").step == 2
