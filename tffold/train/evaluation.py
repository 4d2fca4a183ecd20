"""AlphaFold on whole chains under the averaged weights: every metric, and what pictures need."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import keras
import numpy as np
import tensorflow as tf

from records import chemistry
from tffold import geometry, metrics
from tffold.config import Config
from tffold.data import pipeline
from tffold.data.reader import Damage, RecordSet
from tffold.inference import ForwardProgram
from tffold.losses.table import compute_losses
from tffold.losses.violations import find_violations, violation_metrics
from tffold.model.alphafold import select_pass
from tffold.train.feed import next_element
from tffold.train.trainer import AlphaFoldTrainer

_LOG = logging.getLogger(__name__)
CA = chemistry.ATOM_ORDER["CA"]
Arrays = dict[str, np.ndarray]


@dataclass
class ChainResult:
    """One chain's evaluation.

    ``numbers``: metrics and losses by name. ``plddt`` [L] 0..100. ``changes``: by how much (Å) each
    recycling pass but the first changed the structure. ``drawing``: arrays for pictures and
    structures, of chosen chains alone.
    """

    chain_id: str
    num_res: int
    numbers: dict[str, float]
    plddt: list[float] = field(default_factory=list)
    changes: list[float] = field(default_factory=list)
    drawing: Arrays | None = None


class Evaluation(Protocol):
    """What validation measures: chains in a fixed order, the drawn ones among them."""

    chain_ids: list[str]
    drawn: list[int]

    def evaluate(self, chosen: Sequence[int], draw: bool) -> Iterator[ChainResult]:
        """Measures these of ``chain_ids`` under the averaged weights at hand."""
        ...


class ChainEvaluation:
    """``data.validation`` without masking, deletion or crop; the loss without clamp.

    Chains of one size bucket go to the replicas together. Chains whose Cα are all unknown, and
    damaged records where they are skipped, yield nothing.

    Args:
      trainer: holds the weights and the cluster.

    Raises:
      InputError: shards that cannot be read.
    """

    def __init__(self, config: Config, trainer: AlphaFoldTrainer) -> None:
        self.config, self.trainer = config, trainer
        self.data = config.data_for_model
        # No cell is masked, so there is nothing to guess.
        self.loss = dataclasses.replace(config.loss, masked_msa_weight=0.0)
        self.program = ForwardProgram(trainer.network)
        records = RecordSet(self.data.validation, Damage(self.data.on_corrupt))
        self.records = records
        settings = config.validation
        whole = [i for i, size in enumerate(records.num_res) if size <= settings.max_length]
        if len(whole) < len(records):
            _LOG.info(
                "validation leaves out %d of %d chains: longer than validation.max_length=%d",
                len(records) - len(whole),
                len(records),
                settings.max_length,
            )
        # Shortest first: chains of one bucket, and so of one compiled program, stand together.
        self.indices = sorted(whole, key=lambda i: (records.num_res[i], i))
        self.chain_ids = [records.chain_id[i] for i in self.indices]
        self.sizes = [int(records.num_res[i]) for i in self.indices]
        self.drawn = _drawn(self.chain_ids, settings.draw_chains, settings.draw_count)
        self._datasets: dict[tuple, tf.data.Dataset] = {}
        strategy = trainer.cluster.strategy
        self._pass = tf.function(
            lambda *inputs: strategy.run(self._replica_pass, inputs), autograph=False
        )
        self._scores = tf.function(
            lambda *inputs: strategy.run(self._replica_scores, inputs), autograph=False
        )
        self._compiled_scores = tf.function(self._score, autograph=False, jit_compile=True)

    def evaluate(self, chosen: Sequence[int], draw: bool) -> Iterator[ChainResult]:
        """See ``Evaluation``."""
        masked = self._masked_msas([i for i in self.drawn if i in chosen]) if draw else {}
        num_recycle = self.config.validation.num_recycle
        for group in self._groups(chosen, num_recycle):
            outputs, changes = self._run(group)
            last = [select_pass(features, num_recycle) for _, features in group]
            scores = self._local(self._scores, [self._for_scores(o) for o in outputs], last)
            for (chain_id, _), output, batch, score, change in zip(
                group, outputs, last, scores, changes, strict=True
            ):
                arrays = tf.nest.map_structure(keras.ops.convert_to_numpy, _small(output))
                result = self._result(chain_id, arrays, batch, score)
                if result is None:
                    continue
                result.changes = change[1:]
                if chain_id in masked:
                    result.drawing = drawing(arrays, batch, self.config) | masked[chain_id]
                yield result

    def _groups(
        self, chosen: Sequence[int], num_recycle: int, masked: bool = False
    ) -> Iterator[list[tuple[str, dict[str, tf.Tensor]]]]:
        """As many chains of one padded size as there are local replicas, or fewer."""
        key = (tuple(chosen), num_recycle, masked)
        if key not in self._datasets:  # seconds to make
            self._datasets[key] = pipeline.validation_dataset(
                dataclasses.replace(self.data, mask_msa_in_inference=masked),
                num_recycle=num_recycle,
                chosen=[self.indices[i] for i in chosen],
            )
        group: list[tuple[str, dict[str, tf.Tensor]]] = []
        iterator = iter(self._datasets[key])
        while (element := next_element(iterator, None)) is not None:
            features = {name: value[0] for name, value in element.items()}
            chain_id = features.pop(pipeline.CHAIN_ID).numpy().decode()
            if group and group[0][1]["aatype"].shape != features["aatype"].shape:
                yield group
                group = []
            group.append((chain_id, features))
            if len(group) == self.trainer.cluster.local_replicas:
                yield group
                group = []
        if group:
            yield group

    def _run(
        self, group: list[tuple[str, dict[str, tf.Tensor]]]
    ) -> tuple[list[dict[str, Any]], list[list[float]]]:
        """All passes of at most one chain for each replica: last outputs, changes by chain."""
        chains = [features for _, features in group]
        first = self.trainer.network.first_previous(chains[0]["aatype"].shape[1])
        previous = [first] * len(chains)
        changes: list[list[float]] = [[] for _ in chains]
        outputs: list[dict[str, Any]] = []
        for index in range(chains[0]["aatype"].shape[0]):
            batches = [{k: x[index : index + 1] for k, x in chain.items()} for chain in chains]
            results = self._local(self._pass, batches, previous)
            outputs = [output for output, _, _ in results]
            previous = [after for _, after, _ in results]
            for seen, (_, _, change) in zip(changes, results, strict=True):
                seen.append(float(change))
        return outputs, changes

    def _local(self, function: Callable, *inputs: list[Any]) -> list[Any]:
        """``function`` on the replicas; idle ones repeat the first chain."""
        cluster, count = self.trainer.cluster, len(inputs[0])
        idle = cluster.local_replicas - count
        results = function(*(cluster.to_replicas(one + [one[0]] * idle) for one in inputs))
        return cluster.from_replicas(results)[:count]

    def _replica_pass(self, batch: Any, previous: Any) -> Any:
        average = [tf.convert_to_tensor(v.value) for v in self.trainer.state_variables.average]
        return self.program.compiled_pass(average, batch, previous)

    def _replica_scores(self, outputs: Any, batch: Any) -> Any:
        return self._compiled_scores(outputs, batch)

    def _score(self, outputs: Any, batch: Any) -> dict[str, tf.Tensor]:
        """Losses and violations: what is compiled beside the network."""
        batch = dict(batch) | {"use_clamped_fape": tf.zeros([])}
        total, parts = compute_losses(outputs, batch, self.loss, self.config.model.heads)
        parts.pop("total_loss")
        losses = {f"loss/{k}": x for k, x in parts.items() if "/metrics/" not in k}
        positions = outputs["structure_module"]["final_atom14_positions"]
        found = find_violations(batch, positions, self.loss)
        violations = violation_metrics(batch, positions, found)
        return {"loss/total": total} | losses | violations

    @staticmethod
    def _for_scores(outputs: dict[str, Any]) -> dict[str, Any]:
        return {name: value for name, value in outputs.items() if name != "representations"}

    def _result(
        self, chain_id: str, outputs: Any, batch: Arrays, scores: dict[str, Any]
    ) -> ChainResult | None:
        batch = {name: np.asarray(value) for name, value in batch.items()}
        num_res = int(batch["seq_length"])
        if not batch["all_atom_mask"][:, CA].any():
            _LOG.warning("validation leaves out %s: no Cα of it is known", chain_id)
            return None
        numbers = metrics.chain_metrics(outputs, batch, self.config.model.heads)
        if "predicted_tm" in numbers:
            error = numbers["predicted_tm"] - numbers["tm_score"]
            numbers["predicted_tm_error"] = abs(error)
        numbers |= {name: float(value) for name, value in scores.items()}
        plddt = np.asarray(metrics.predicted_lddt(outputs["predicted_lddt"]["logits"]))
        return ChainResult(chain_id, num_res, numbers, plddt[:num_res].astype(float).tolist())

    def _masked_msas(self, chosen: Sequence[int]) -> dict[str, Arrays]:
        """By chain: what one more pass, over masked cells, reads into them; only to be drawn."""
        found = {}
        for group in self._groups(chosen, 0, masked=True) if chosen else ():
            for (chain_id, features), outputs in zip(group, self._run(group)[0], strict=True):
                rows = features["msa_row_mask"][0].numpy() > 0
                num_res = int(features["seq_length"][0])
                # The first 23 channels of `msa_feat` are the residue type (supplement, table 1).
                cells = {
                    "msa": features["true_msa"][0],
                    "msa_shown": tf.argmax(features["msa_feat"][0, ..., :23], -1),
                    "msa_guess": tf.argmax(outputs["masked_msa"]["logits"], -1),
                    "msa_chosen": features["bert_mask"][0],
                }
                found[chain_id] = {k: x.numpy()[rows, :num_res] for k, x in cells.items()}
        return found


def drawing(outputs: Any, batch: Arrays, config: Config) -> Arrays:
    """What pictures and structure files need of one chain, without padding.

    The predicted atoms are superposed on the true ones by their Cα.
    """
    batch = {name: np.asarray(value) for name, value in batch.items()}
    num_res = int(batch["seq_length"])
    chain = slice(0, num_res)
    predicted = outputs["structure_module"]["final_atom_positions"][chain]
    true, mask = batch["all_atom_positions"][chain], batch["all_atom_mask"][chain]
    known = mask[:, CA].astype("float32")
    motion = geometry.superpose(predicted[:, CA], true[:, CA], known)
    moved = geometry.rigid.apply(geometry.rigid.expand(motion), predicted.reshape(-1, 3))
    heads = config.model.heads
    lddt = geometry.lddt_per_residue(predicted[:, CA], true[:, CA], known)
    logits = outputs["distogram"]["logits"][chain, chain]
    arrays = {
        "aatype": batch["aatype"][chain],
        "residue_index": batch["residue_index"][chain],
        "positions": keras.ops.convert_to_numpy(moved).reshape(predicted.shape),
        "atom_exists": batch["atom37_atom_exists"][chain],
        "true_positions": true,
        "true_mask": mask,
        "plddt": metrics.predicted_lddt(outputs["predicted_lddt"]["logits"][chain]),
        "lddt": 100.0 * keras.ops.convert_to_numpy(lddt),
        "distogram": metrics.expected_distance(logits, heads),
        "contacts": metrics.contact_probability(logits, heads),
        "pseudo_beta": batch["pseudo_beta"][chain],
        "pseudo_beta_mask": batch["pseudo_beta_mask"][chain],
    }
    if "predicted_aligned_error" in outputs:
        logits = outputs["predicted_aligned_error"]["logits"][chain, chain]
        arrays["pae"] = metrics.predicted_aligned_error(logits, heads)
    return {name: keras.ops.convert_to_numpy(value) for name, value in arrays.items()}


def _small(outputs: dict[str, Any]) -> dict[str, Any]:
    """The outputs that leave the device."""
    structure = outputs["structure_module"]["final_atom_positions"]
    heads = ("distogram", "predicted_lddt", "predicted_aligned_error")
    found = {name: {"logits": outputs[name]["logits"]} for name in heads if name in outputs}
    return {"structure_module": {"final_atom_positions": structure}} | found


def _drawn(chain_ids: list[str], wanted: list[str], count: int) -> list[int]:
    """Indices of the chains to draw."""
    missing = [name for name in wanted if name not in chain_ids]
    if missing:
        _LOG.warning("'validation.draw_chains': not validated: %s", ", ".join(missing))
    found = [i for i, name in enumerate(chain_ids) if name in wanted]
    return found if wanted else list(range(min(count, len(chain_ids))))
