"""Checkpoints are written while training goes on, whole, in order, one copy at a time."""

from __future__ import annotations

import threading
import weakref

import keras
import numpy as np
import pytest
from fake import fake_config
from listening import listening
from toy_run import go

from tffold.train import checkpointer
from tffold.train.checkpointer import Checkpointer
from tffold.train.saving import copy_state
from tffold.train.validation import Progress
from tffold.weights import checkpoint


class Trainer:
    """A state that says which step it is of."""

    def __init__(self):
        self.count = keras.Variable(0, dtype="int32", trainable=False)

    @property
    def step(self):
        return int(self.count)

    def named_state(self):
        yield "step", self.count


def drive(folder, steps, actions=None, best=(), terminated=lambda: False, **train):
    """Calls a Checkpointer as training does; ``actions``: what happens at the end of a step."""
    trainer = Trainer()
    config = fake_config(**train)
    saver = Checkpointer(trainer, config, folder, Progress(), terminated)
    with saver:
        saver.on_train_begin()
        for step in range(1, steps + 1):
            saver.on_train_batch_begin(step - 1)
            trainer.count.assign(step)
            if step in best:
                saver.save_best()
            (actions or {}).get(step, lambda: None)()
            saver.on_train_batch_end(step - 1)
            if step % config.train.checkpoint_every == 0 or step == steps:
                saver.on_epoch_end(0)
        saver.on_train_end()


def steps_in(folder):
    found = checkpoint.steps_in(folder / "checkpoints")
    for step in found:
        loaded = checkpoint.load(folder / "checkpoints" / checkpoint.folder_name(step))
        assert loaded.arrays["step"] == step == loaded.step
    return found


@pytest.fixture
def clock(monkeypatch):
    """A second passes at each look: one for each step, and for each checkpoint."""
    seconds = iter(range(1000))
    monkeypatch.setattr(checkpointer, "_now", lambda: next(seconds))


@pytest.fixture
def gate(monkeypatch):
    """Checkpoints are not written before it opens."""
    gate, save = threading.Event(), checkpoint.save

    def wait(*arguments, **more):
        assert gate.wait(60), "training waits for the checkpoint"
        return save(*arguments, **more)

    monkeypatch.setattr(checkpoint, "save", wait)
    yield gate
    gate.set()


def full(*arguments):
    raise OSError(28, "No space left")


@pytest.mark.slow
def test_training_goes_on_and_what_is_written_is_the_state_then(tmp_path, gate):
    then = {}

    class Watch(keras.callbacks.Callback):
        def on_train_batch_end(self, batch, logs=None):
            if batch + 1 == 3:
                then.update(copy_state(self.model))
            if batch + 1 == 5:
                then["written"] = checkpoint.steps_in(tmp_path / "checkpoints")
                gate.set()

    go(tmp_path, steps=5, checkpoint_every=3, callbacks=[Watch()])
    assert then.pop("written") == []
    assert checkpoint.steps_in(tmp_path / "checkpoints") == [3, 5]
    saved = checkpoint.load(tmp_path / "checkpoints" / "step-00000003").arrays
    assert saved.keys() == then.keys()
    for name, value in then.items():
        np.testing.assert_array_equal(saved[name], value, err_msg=name)


def test_there_is_one_copy_of_the_state_at_most(tmp_path, monkeypatch):
    copies, others = [], []

    class Held(dict):
        pass

    def counted(trainer):
        others.append(sum(copy() is not None for copy in copies))
        held = Held(copy_state(trainer))
        copies.append(weakref.ref(held))
        return held

    monkeypatch.setattr(checkpointer, "copy_state", counted)
    drive(tmp_path, 6, best=(2, 3, 5), checkpoint_every=1, keep_checkpoints=2)
    assert others == [0] * 6  # the best and the last of a step share one
    assert steps_in(tmp_path) == [5, 6]
    assert checkpoint.steps_in(tmp_path / "best") == [5]
    assert not any(copy() for copy in copies)


def test_by_the_clock_besides_steps(tmp_path, monkeypatch, clock):
    monkeypatch.setattr(checkpointer.Writer, "busy", False)
    words = {"checkpoint_every": 5, "keep_checkpoints": 9}
    # The clock counts from the last checkpoint, whatever that one was due by.
    drive(tmp_path / "both", 11, checkpoint_every_seconds=3.0, **words)
    assert steps_in(tmp_path / "both") == [3, 5, 8, 10, 11]
    drive(tmp_path / "steps", 11, **words)
    assert steps_in(tmp_path / "steps") == [5, 10, 11]


def test_what_is_due_by_the_clock_waits_for_no_writing(tmp_path, gate, clock):
    words = {"checkpoint_every": 1000, "checkpoint_every_seconds": 1.0, "keep_checkpoints": 9}
    drive(tmp_path, 6, {4: gate.set}, **words)
    steps = steps_in(tmp_path)
    assert steps[0] == 1 and not {2, 3} & set(steps) and steps[-1] == 6


def test_a_failed_writing_is_raised_after_the_step_at_hand(tmp_path, monkeypatch):
    drive(tmp_path, 2)
    failed, reached = threading.Event(), []

    def fail(*arguments):
        failed.set()
        full()

    def wait():
        reached.append(5)
        assert failed.wait(60)
        while any(thread.name == "writer" for thread in threading.enumerate()):
            pass

    monkeypatch.setattr(checkpoint, "write_arrays", fail)
    actions = {5: wait, 6: lambda: reached.append(6)}
    with pytest.raises(checkpoint.CheckpointError, match="No space left.*intact"):
        drive(tmp_path, 100, actions, checkpoint_every=4)
    assert reached == [5]
    assert steps_in(tmp_path) == [2]


def stop(gate, error):
    threading.Timer(0.1, gate.set).start()
    raise error


def test_whatever_ends_training_the_writing_is_finished(tmp_path, gate):
    with pytest.raises(ValueError, match="own"):
        drive(tmp_path, 6, {3: lambda: stop(gate, ValueError("of the user's own"))})
    assert steps_in(tmp_path) == [2]


def test_a_writing_that_fails_then_is_told_too(tmp_path, monkeypatch, gate):
    monkeypatch.setattr(checkpoint, "write_arrays", full)
    with listening() as said, pytest.raises(ValueError, match="own"):
        drive(tmp_path, 6, {3: lambda: stop(gate, ValueError("of the user's own"))})
    assert len(said) == 1 and "No space left" in said[0]


def test_an_interrupt_does_not_wait(tmp_path, gate):
    def interrupt():
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        drive(tmp_path, 6, {3: interrupt})
    assert steps_in(tmp_path) == []


@pytest.mark.parametrize(
    "share, seconds, given_up",
    [
        (0.1, 1.4, True),  # 14 s for one: both need 1.9 times as much, and a copy
        (0.9, 12.6, False),  # this one is nearly there
        (0.1, 1.0, False),  # both are there in 20 s
        (0.1, 4.0, False),  # not even the newer one alone
        (0.0, 4.0, False),  # who knows
    ],
)
def test_a_writing_is_given_up_only_if_so_a_newer_one_is_whole_in_time(share, seconds, given_up):
    times = iter([100.0, 100.0 + seconds])
    writing = checkpointer._Writing(1000, lambda: next(times))
    writing.tell(int(share * 1000))
    assert writing.give_up_for_newer(copying=1.0) == given_up
    if given_up:
        with pytest.raises(checkpointer._GivenUp):
            writing.tell(1)
    else:
        writing.tell(1)


@pytest.mark.parametrize("sent, steps", [(True, [5]), (False, [4, 5])])
def test_sigterm_gives_up_what_is_written_for_the_last_step(tmp_path, monkeypatch, sent, steps):
    begun, go_on, signals = threading.Event(), threading.Event(), []
    write_arrays, give_up = checkpoint.write_arrays, checkpointer._Writing.give_up_for_newer

    def slow(file, arrays):
        if arrays["step"] == 4:
            file.write(b"")
            begun.set()
            assert go_on.wait(60)
        return write_arrays(file, arrays)

    def terminate():
        assert begun.wait(60)
        if sent:
            signals.append(True)
        else:
            go_on.set()

    def asked(writing, copying):
        writing._clock = lambda: writing._begun + 1.5
        writing._done = writing._size // 4  # of an int32
        found = give_up(writing, copying)
        go_on.set()
        return found

    monkeypatch.setattr(checkpoint, "write_arrays", slow)
    monkeypatch.setattr(checkpointer._Writing, "give_up_for_newer", asked)
    monkeypatch.setattr(checkpointer, "NOTICE", 10.0)
    drive(tmp_path, 5, {5: terminate}, terminated=lambda: bool(signals), checkpoint_every=4)
    assert steps_in(tmp_path) == steps
