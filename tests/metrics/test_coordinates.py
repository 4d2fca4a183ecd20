"""Distances within chains, by hand and compiled."""

import numpy as np
import pytest
import tensorflow as tf
from points import chain, line, rotation
from reference import load_batch, load_expected, nest

from tffold import metrics


@pytest.fixture
def rng():
    return np.random.default_rng(0)


def test_drmsd_by_hand(rng):
    ones = np.ones(3, "float32")
    # Distances 1, 3, 2 against 1, 5, 4: off by 0, 2, 2.
    found = metrics.drmsd(line(0, 1, 3), line(0, 1, 5), ones)
    assert float(found) == pytest.approx(np.sqrt(8 / 3), rel=1e-4)
    assert float(metrics.drmsd(line(0, 1, 3), line(0, 1, 5), np.array([1.0, 1, 0], "f"))) < 1e-4
    assert float(metrics.drmsd(line(0, 1, 3), line(0, 1, 5), np.array([0.0, 1, 0], "f"))) == 0
    x = chain(rng, 9).astype("float32")
    assert float(metrics.drmsd(-x @ rotation(rng).astype("f"), x, np.ones(9, "f"))) < 1e-3


@pytest.fixture(scope="module")
def example():
    batch = {name: value[-1] for name, value in load_batch("case_a").items()}
    outputs = nest(load_expected("case_a"))
    return outputs, batch


def test_compiled(example):
    outputs, batch = example
    structure = {
        "structure_module": {
            "final_atom_positions": outputs["structure_module"]["final_atom_positions"]
        }
    }
    labels = {name: batch[name] for name in ("all_atom_positions", "all_atom_mask")}
    compiled = tf.function(metrics.ca_metrics, jit_compile=True)(structure, labels)
    for name, value in metrics.ca_metrics(structure, labels).items():
        assert float(compiled[name]) == pytest.approx(float(value), rel=1e-4)
