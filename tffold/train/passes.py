"""Forward passes and scores of whole chains, one for each replica, under the averaged weights."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import tensorflow as tf

from tffold.config import Config
from tffold.inference import ForwardProgram
from tffold.losses.table import compute_losses
from tffold.losses.violations import find_violations, violation_metrics
from tffold.model.alphafold import host_passes
from tffold.train.permutation import matched
from tffold.train.step import Batch
from tffold.train.trainer import AlphaFoldTrainer


class ReplicaPasses:
    """What validation computes on accelerators.

    Args:
      trainer: holds the weights and the cluster.
    """

    def __init__(self, config: Config, trainer: AlphaFoldTrainer) -> None:
        self.config, self.trainer, self.heads = config, trainer, config.model.heads
        # No cell is masked, so there is nothing to guess.
        self.loss = dataclasses.replace(config.loss, masked_msa_weight=0.0)
        self.program = ForwardProgram(trainer.network)
        strategy = trainer.cluster.strategy
        self._pass = tf.function(
            lambda *inputs: strategy.run(self._replica_pass, inputs), autograph=False
        )
        self._scores = tf.function(
            lambda *inputs: strategy.run(self._compiled_scores, inputs), autograph=False
        )
        self._compiled_scores = tf.function(self._score, autograph=False, jit_compile=True)

    def run(self, chains: list[Batch]) -> tuple[list[dict[str, Any]], list[list[float]]]:
        """The last outputs of each chain, and by how much (Å) each pass changed its structure.

        ``chains``: features [C, ...] of one size, of at most one chain for each local replica.
        """
        num_pass, num_res = chains[0]["aatype"].shape
        first = self.trainer.network.first_previous(num_res)
        changes: list[list[float]] = [[] for _ in chains]
        outputs: list[dict[str, Any]] = []

        def batches(index: int) -> list[dict[str, tf.Tensor]]:
            return [{k: x[index : index + 1] for k, x in chain.items()} for chain in chains]

        def run_pass(batches: list, previous: list) -> tuple[list, list, list]:
            results = self._local(self._pass, batches, previous)
            outputs, after, change = zip(*results, strict=True)
            return list(outputs), list(after), list(change)

        passes = host_passes(run_pass, [first] * len(chains), map(batches, range(num_pass)))
        for last, found in passes:
            outputs = last
            for seen, change in zip(changes, found, strict=True):
                seen.append(float(change))
        return outputs, changes

    def scores(self, outputs: list[dict[str, Any]], batches: list[Batch]) -> list[dict[str, Any]]:
        """Losses and violations of each chain; ``batches`` are the features of the last pass."""
        needed = [{k: x for k, x in one.items() if k != "representations"} for one in outputs]
        return self._local(self._scores, needed, batches)

    def _local(self, function: Callable, *inputs: list[Any]) -> list[Any]:
        """``function`` on the replicas; idle ones repeat the first chain."""
        cluster, count = self.trainer.cluster, len(inputs[0])
        idle = cluster.local_replicas - count
        results = function(*(cluster.to_replicas(one + [one[0]] * idle) for one in inputs))
        return cluster.from_replicas(results)[:count]

    def _replica_pass(self, batch: Any, previous: Any) -> Any:
        average = [tf.convert_to_tensor(v.value) for v in self.trainer.averaged]
        return self.program.compiled_pass(average, batch, previous)

    def _score(self, outputs: Any, batch: Any) -> dict[str, tf.Tensor]:
        """Losses and violations: compiled apart from the network."""
        batch = dict(matched(self.config, outputs, batch)) | {"use_clamped_fape": tf.zeros([])}
        total, parts = compute_losses(outputs, batch, self.loss, self.heads)
        parts.pop("total_loss")
        losses = {f"loss/{k}": x for k, x in parts.items() if "/metrics/" not in k}
        positions = outputs["structure_module"]["final_atom14_positions"]
        found = find_violations(batch, positions, self.loss)
        violations = violation_metrics(batch, positions, found, self.loss)
        return {"loss/total": total} | losses | violations


def what_is_read(outputs: dict[str, Any]) -> dict[str, Any]:
    """The outputs that leave the device."""
    structure = outputs["structure_module"]["final_atom_positions"]
    heads = ("distogram", "predicted_lddt", "predicted_aligned_error")
    found = {name: {"logits": outputs[name]["logits"]} for name in heads if name in outputs}
    return {"structure_module": {"final_atom_positions": structure}} | found
