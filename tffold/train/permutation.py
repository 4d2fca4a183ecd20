"""Which copy of the truth each predicted chain is held against (Evans et al. 2021, section 7.3).

Copies of one sequence have no names of their own: a prediction is as good with any two of them
exchanged. So before the loss each chain's labels are taken from the copy that lies where the chain
was predicted. The batch holds the truth of the whole assembly for it (``assembly_...``), as a crop
need not hold the same residues of all copies.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from keras import ops

from records import chemistry
from tffold.config import Config
from tffold.data.targets import structure_labels
from tffold.geometry import rigid
from tffold.geometry.superposition import superpose

Tensor = Any
Batch = Mapping[str, Tensor]

_CA = chemistry.ATOM_ORDER["CA"]
_UNRESOLVED_SQ = 1e8  # Å²: a copy without a Cα in common is taken last
_NEVER = float("inf")


def permuted(batch: Batch, predicted: Tensor) -> dict[str, Tensor]:
    """The batch with every chain's labels from the copy that ``assign_chains`` gives it.

    Args:
        batch: one example without recycling axis; predicted: Cα [R, 3] Å.
    """
    number = ops.maximum(batch["asym_id"] - 1, 0)
    copy = ops.take(assign_chains(batch, predicted), number)
    index = ops.take(batch["assembly_chain_start"], copy) + batch["residue_index"]
    mask = ops.take(batch["assembly_atom_mask"], index, axis=0) * batch["seq_mask"][:, None]
    positions = ops.take(batch["assembly_atom_positions"], index, axis=0) * mask[..., None]
    return dict(batch) | structure_labels(batch["aatype"], positions, mask)


def matched(config: Config, outputs: Mapping[str, Any], batch: Batch) -> Batch:
    """The batch, its labels as the copies of truth lie that the predicted chains are held against.

    With ``loss.permute_chains`` alone, and where the batch has the truth of the whole assembly.
    """
    if not config.loss.permute_chains or "assembly_atom_positions" not in batch:
        return batch
    return permuted(batch, outputs["structure_module"]["final_atom_positions"][:, _CA])


def assign_chains(batch: Batch, predicted: Tensor) -> Tensor:
    """By predicted chain the true copy of its entity that it is held against: int32 [C].

    1. The anchor is a true chain of the entity with the fewest copies, of these the longest.
    2. Truth is superposed on each predicted copy of it, by the Cα that both have.
    3. The predicted chain and the free true copy of its entity with the least deviation are taken,
       and again, until each chain has a copy.
    4. The superposition is kept that leaves the least deviation over all residues.

    Chains are numbered from 0 in the order of ``asym_id``. No two get the same copy. A chain
    of which the crop has no residue keeps its own, or gets what is left.

    DISCREPANCY: the paper draws the anchor's true copy; here it is the one that shares most Cα
    with the crop. And it gives each predicted chain in turn the best copy that is left, here
    the best pair comes first, so that the order of the chains does not matter.
    """
    predicted = ops.stop_gradient(predicted)
    true, known = _candidates(batch)
    num_chain = known.shape[0]
    numbers = ops.arange(1, num_chain + 1, dtype="int32")
    member = ops.cast(ops.equal(batch["asym_id"][None, :], numbers[:, None]), "float32")
    member = member * batch["seq_mask"][None, :]  # [q, r]
    count = ops.sum(known[None] * member[:, None], axis=-1)  # [q, k]
    anchor = _anchor(batch, count)
    # [k, r, 3] -> [1, r, 3]; a superposition for each predicted chain p
    anchor_true, anchor_known = (ops.take(x, anchor[None], axis=0) for x in (true, known))
    motion = superpose(anchor_true, predicted[None], anchor_known * member)
    moved = rigid.apply(rigid.expand(motion, 2), true[None])  # [p, k, r, 3]
    distance_sq = ops.sum(ops.square(moved - predicted), axis=-1) * known[None]
    total = ops.sum(distance_sq[:, None] * member[None, :, None], axis=-1)  # [p, q, k]

    entity = batch["assembly_chain_entity"]
    fits = ops.logical_and(ops.equal(entity[:, None], entity[None, :]), entity[:, None] > 0)
    cost = ops.where(count > 0.0, total / ops.maximum(count, 1.0), _UNRESOLVED_SQ)
    chosen = _take_least(ops.where(fits, cost, _NEVER))  # [p, q, k]
    deviation = ops.sum(chosen * total, axis=(-1, -2)) / ops.maximum(
        ops.sum(chosen * count, axis=(-1, -2)), 1.0
    )
    possible = ops.take(count, anchor[None], axis=1)[:, 0] > 0.0  # [p]
    best = ops.argmin(ops.where(possible, deviation, _NEVER), axis=-1)
    found = ops.take(chosen, best[None], axis=0)[0]  # [q, k]
    found = ops.where(ops.any(possible), found, ops.eye(num_chain))
    return ops.cast(ops.argmax(found, axis=-1), "int32")


def _candidates(batch: Batch) -> tuple[Tensor, Tensor]:
    """Each residue's true Cα if its chain were copy k: [k, r, 3] and whether it is known [k, r]."""
    entity = batch["assembly_chain_entity"]
    same = ops.equal(entity[:, None], batch["entity_id"][None, :])
    index = batch["assembly_chain_start"][:, None] + batch["residue_index"][None, :]
    index = ops.where(same, index, 0)
    true = ops.take(batch["assembly_atom_positions"][:, _CA], index, axis=0)
    known = ops.take(batch["assembly_atom_mask"][:, _CA], index, axis=0)
    return true, known * ops.cast(same, "float32") * batch["seq_mask"][None, :]


def _anchor(batch: Batch, count: Tensor) -> Tensor:
    """Number of the true chain that is superposed: int32 []; see ``assign_chains``.

    ``count`` [q, k]: Cα that the crop's chain q and copy k share.
    """
    entity = batch["assembly_chain_entity"]
    same = ops.equal(entity[:, None], entity[None, :])
    copies = ops.sum(ops.cast(same, "int32"), axis=-1)
    shared = ops.cast(ops.sum(count, axis=0), "int32")  # [k]
    # Ranked by copies, then length, then Cα in common; what shares none is out.
    order = -copies
    for further in (batch["assembly_chain_length"], shared):
        best = ops.max(ops.where(shared > 0, order, -(2**30)))
        order = ops.where(ops.equal(order, best), further, -(2**30))
    return ops.argmax(ops.where(shared > 0, order, -(2**30)), axis=-1)


def _take_least(cost: Tensor) -> Tensor:
    """The cheapest pair (q, k), then the cheapest of what is left, and so on: 0 and 1 [p, q, k].

    ``cost`` [p, q, k], infinite where q and k do not fit.
    """
    num_chain = cost.shape[-1]
    chosen = ops.zeros_like(cost)
    for _ in range(num_chain):
        # [p, q, k] -> [p, q k]
        flat = ops.reshape(cost, (-1, num_chain * num_chain))
        pair = ops.one_hot(ops.argmin(flat, axis=-1), num_chain * num_chain, dtype="float32")
        pair = pair * ops.cast(ops.min(flat, axis=-1, keepdims=True) < _NEVER, "float32")
        # [p, q k] -> [p, q, k]
        pair = ops.reshape(pair, ops.shape(cost))
        chosen = chosen + pair
        taken = ops.sum(pair, axis=-1, keepdims=True) + ops.sum(pair, axis=-2, keepdims=True)
        cost = ops.where(taken > 0.0, _NEVER, cost)
    return chosen
