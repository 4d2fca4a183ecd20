"""A run of the toy network in this process."""

from __future__ import annotations

import keras
import numpy as np
from fake import fake_config
from listening import listening
from run_fake import fake_task

from tffold.train.run import train


def go(folder, poison=(), callbacks=(), allow=False, model=None, **fields):
    """Trains in ``folder``; returns the final state by name and what was said."""
    config = fake_config(run_dir=str(folder), **fields)
    for name, value in (model or {}).items():
        setattr(config.model, name, value)
    with listening() as said:
        outcome = train(config, fake_task(frozenset(poison), dropout=0.0), allow, callbacks)
    state = {name: keras.ops.convert_to_numpy(v) for name, v in outcome.trainer.named_state()}
    return state, said, outcome


def assert_same(one, other):
    assert one.keys() == other.keys()
    for name, value in one.items():
        np.testing.assert_array_equal(value, other[name], err_msg=name)
