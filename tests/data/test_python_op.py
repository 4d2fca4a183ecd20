"""Python inside a graph must not keep the process from ending."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

from tffold.data.python_op import python_op

# Without the gate about one such process in four hangs.
_SCRIPT = """
import tensorflow as tf
from tffold.data.python_op import python_op

def busy(number):
    return sum(range(200_000)) * 0 + number

dataset = tf.data.Dataset.range(1 << 40).map(
    lambda x: python_op(busy, [x], tf.int64, stateful=True), num_parallel_calls=4
)
iterator = iter(dataset.prefetch(2))
print(int(next(iterator)))
"""


def test_a_live_iterator_does_not_hang_the_exit():
    run = subprocess.run(
        [sys.executable, "-c", _SCRIPT],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
        cwd=Path(__file__).parents[2],
    )
    assert run.returncode == 0 and run.stdout.strip() == "0"


def test_values_and_errors_pass():
    doubled = python_op(lambda x: 2 * x, [tf.constant([1, 2])], tf.int32, stateful=False)
    np.testing.assert_array_equal(doubled, [2, 4])

    def fail(_):
        raise ValueError("no such thing")

    graph = tf.function(lambda x: python_op(fail, [x], tf.int32, stateful=True))
    with pytest.raises(tf.errors.InvalidArgumentError, match="ValueError: no such thing"):
        graph(tf.constant(1))
