"""The centres of chains, by hand."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf

from tffold.config import HeadsConfig, LossConfig
from tffold.losses.chains import chain_center_loss

CA = 1
CHAIN = np.array([1, 1, 2, 2, 2, 3])


def loss(predicted, true, mask=None, chain=CHAIN):
    """Of Cα [R, 3] alone."""
    mask = np.ones(len(chain)) if mask is None else np.asarray(mask)

    def atoms(ca):
        positions = np.zeros((len(chain), 37, 3), "float32")
        positions[:, CA] = ca
        return tf.constant(positions)

    atom_mask = np.zeros((len(chain), 37), "float32")
    atom_mask[:, CA] = mask
    batch = {
        "asym_id": tf.constant(chain, tf.int32),
        "all_atom_positions": atoms(true),
        "all_atom_mask": tf.constant(atom_mask),
    }
    outputs = {"structure_module": {"final_atom_positions": atoms(predicted)}}
    return float(chain_center_loss(outputs, batch, LossConfig(), HeadsConfig())["loss"])


def at(*centres, chain=CHAIN):
    """Chains whose centres lie on the x axis, their residues around them."""
    x = np.zeros((len(chain), 3))
    for number, centre in enumerate(centres, start=1):
        inside = np.flatnonzero(chain == number)
        x[inside, 0] = centre
        x[inside, 1] = 9.0 * (np.arange(len(inside)) - (len(inside) - 1) / 2)
    return x


def test_by_hand():
    true = at(0, 30, 100)
    # Chains 1 and 2 are 20 Å nearer, of which 4 Å are free; six of nine ordered pairs differ.
    assert loss(at(0, 10, 100), true) == pytest.approx(2 * (16 / 20) ** 2 / 9, rel=1e-4)
    both = at(0, 10, 80)  # 1-2 as before, 1-3 20 Å nearer, 2-3 as in truth
    assert loss(both, true) == pytest.approx(4 * (16 / 20) ** 2 / 9, rel=1e-4)


def test_it_only_pushes_apart():
    true = at(0, 30, 100)
    for good in (at(0, 30, 100), at(0, 27, 100), at(0, 300, 1000)):
        assert loss(good, true) == 0.0


def test_unresolved_residues_and_padding_do_not_count():
    chain = np.array([1, 1, 2, 2, 3, 0, 0])
    true, predicted = at(0, 30, 100, chain=chain), at(0, 10, 100, chain=chain)
    expected = 2 * (16 / 20) ** 2
    known = [1, 1, 1, 1, 1, 0, 0]
    assert loss(predicted, true, known, chain) == pytest.approx(expected / 9, rel=1e-4)
    # Without chain 3 there are four pairs.
    assert loss(predicted, true, [1, 1, 1, 1, 0, 0, 0], chain) == pytest.approx(
        expected / 4, rel=1e-4
    )
    # A residue that truth does not know moves no centre.
    predicted[0], true[0] = 1e3, -1e3
    known[0] = 0
    true[1, 1] = predicted[1, 1] = 0.0
    assert loss(predicted, true, known, chain) == pytest.approx(expected / 9, rel=1e-4)
    assert loss(predicted, true, np.zeros(7), chain) == 0.0
