"""Which residues of an assembly a training example holds (Evans et al. 2021, section 7.2).

Half of the crops are runs of successive residues of each chain, half lie around a residue of an
interface; one crop serves all passes.  What is drawn is a function of (seed, position); where
there are few enough residues all are kept.  Residues stay in the order of the chains.
"""

from __future__ import annotations

from typing import Any

import tensorflow as tf

from records.chemistry import ATOM_ORDER
from tffold.data import keys
from tffold.data.keys import Draw

Tensor = Any

INTERFACE_DISTANCE = 10.0  # Å between Cα of two chains
_TIE = 1e-3  # Å for each place in the order: no two residues are equally near
_CA = ATOM_ORDER["CA"]
_ROWS = 512  # of the table of distances at a time


def contiguous_crop(length: Tensor, size: int, draws: Tensor) -> tuple[Tensor, Tensor]:
    """A run of residues of each chain (Evans, Algorithm 1): starts and numbers, each [C].

        shuffle the chains                                                      (1)
        for all chains k:                                                       (2 to 4)
            largest = min(N_res - n_added, n_k)                                 (5)
            smallest = min(n_k, max(0, N_res - (n_added + n_remaining)))        (6)
            crop_size ~ uniform(smallest, largest)                              (7)
            start ~ uniform(0, n_k - crop_size)                                 (8, 9)

    ``n_added`` are the residues taken before, ``n_remaining`` those of the chains to come.  A
    chain may get none.

    Args:
        length: [C] int32; size: N_res, fewer than there are residues.
        draws: [3, C] in [0, 1): what shuffles, sizes and starts.
    """
    order = tf.argsort(draws[0], stable=True)
    shuffled = tf.gather(length, order)
    remaining = tf.reduce_sum(length) - tf.cumsum(shuffled)

    def take(budget: Tensor, chain: tuple[Tensor, Tensor, Tensor]) -> Tensor:
        whole, later, draw = chain
        smallest = tf.minimum(whole, tf.maximum(budget - later, 0))
        return budget - smallest - keys.integer(draw, tf.minimum(whole, budget) - smallest)

    budgets = tf.scan(take, (shuffled, remaining, tf.gather(draws[1], order)), tf.constant(size))
    taken = tf.concat([[size], budgets[:-1]], 0) - budgets
    taken = tf.gather(taken, tf.argsort(order))
    return keys.integer(draws[2], length - taken), taken


def interface_residues(ca: Tensor, known: Tensor, chain: Tensor) -> Tensor:
    """Which residues [A] have a Cα within 10 Å of another chain's.

    DISCREPANCY: OpenFold compares atoms of equal names; Cα alone, as in Uni-Fold, take a
    hundredth of the work.

    Args:
        ca: [A, 3] Å; known: [A], whether it is resolved; chain: [A] int32.
    """
    num_res = tf.shape(ca)[0]
    blocks = tf.range((num_res + _ROWS - 1) // _ROWS)

    def of_block(block: Tensor) -> Tensor:
        rows = tf.minimum(block * _ROWS + tf.range(_ROWS), num_res - 1)
        offset = tf.gather(ca, rows)[:, None] - ca[None]
        near = tf.reduce_sum(tf.square(offset), axis=-1) < INTERFACE_DISTANCE**2
        other = tf.gather(chain, rows)[:, None] != chain[None]
        return tf.reduce_any(near & other & known[None], axis=-1)

    signature = tf.TensorSpec([_ROWS], tf.bool)
    found = tf.map_fn(of_block, blocks, fn_output_signature=signature, parallel_iterations=1)
    return tf.reshape(found, [-1])[:num_res] & known


def spatial_crop(ca: Tensor, known: Tensor, centre: Tensor, size: int) -> Tensor:
    """The ``size`` residues nearest to one, in order: [size] int32 (Evans, Algorithm 2).

    Distances are those of Cα, of equal ones the first is nearer; unresolved residues come last.
    """
    places = tf.range(tf.shape(ca)[0])
    distance = tf.norm(ca - ca[centre], axis=-1) + _TIE * tf.cast(places, tf.float32)
    order = tf.argsort(tf.where(known, distance, float("inf")), stable=True)
    return tf.sort(order[:size])


def draw_crop(
    positions: Tensor,
    mask: Tensor,
    length: Tensor,
    *,
    size: int,
    spatial_probability: float,
    seed: int,
    position: Tensor,
) -> Tensor:
    """The residues of the crop, in order: [min(A, size)] int32.

    Args:
        positions: [A, 37, 3] Å; mask: [A, 37]; length: [C] residues of each chain.
        spatial_probability: of a crop around an interface, if there is one.
    """
    num_res, num_chains = tf.reduce_sum(length), tf.size(length)
    chain = tf.repeat(tf.range(num_chains), length)
    kind = keys.doubles(2, seed, position, Draw.CROP)

    def contiguous() -> Tensor:
        # [3 C] -> [3, C]
        draws = keys.doubles(3 * num_chains, seed, position, Draw.CROP, 1)
        start, taken = contiguous_crop(length, size, tf.reshape(draws, [3, -1]))
        place = tf.range(num_res) - tf.repeat(tf.cumsum(length, exclusive=True), length)
        place -= tf.gather(start, chain)
        return tf.cast(tf.where((place >= 0) & (place < tf.gather(taken, chain)))[:, 0], tf.int32)

    def spatial() -> Tensor:
        ca, known = positions[:, _CA], mask[:, _CA] > 0
        interface = tf.cast(tf.where(interface_residues(ca, known, chain))[:, 0], tf.int32)
        count = tf.size(interface)

        def around() -> Tensor:
            centre = interface[keys.integer(kind[1], count - 1)]
            return spatial_crop(ca, known, centre, size)

        return tf.cond(count > 0, around, contiguous)

    def cropped() -> Tensor:
        return tf.cond(kind[0] < spatial_probability, spatial, contiguous)

    return tf.cond(num_res <= size, lambda: tf.range(num_res), cropped)
