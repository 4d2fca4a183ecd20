"""AlphaFold on whole chains under the averaged weights: every metric, and what pictures need."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import keras
import numpy as np
import tensorflow as tf

from tffold import metrics
from tffold.config import Config
from tffold.data import pipeline
from tffold.data.reader import Damage, RecordSet
from tffold.model.alphafold import select_pass
from tffold.structures.files import chain_names
from tffold.train.drawing import CA, Arrays, drawing, masked_cells
from tffold.train.feed import next_element
from tffold.train.passes import ReplicaPasses, what_is_read
from tffold.train.permutation import matched
from tffold.train.trainer import AlphaFoldTrainer

_LOG = logging.getLogger(__name__)


@dataclass
class ChainResult:
    """One chain's, or one complex's, evaluation.

    ``numbers``: metrics and losses by name. ``plddt`` [L] 0..100. ``changes``: by how much (Å) each
    recycling pass but the first changed the structure. ``interfaces``: of a complex, each with the
    names of its two ``chains`` and its scores. ``drawing``: arrays for pictures and structures, of
    chosen chains alone.
    """

    chain_id: str
    num_res: int
    numbers: dict[str, float]
    plddt: list[float] = field(default_factory=list)
    changes: list[float] = field(default_factory=list)
    interfaces: list[dict[str, Any]] = field(default_factory=list)
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
        self.passes = ReplicaPasses(config, trainer)
        records = RecordSet(self.data.validation, Damage(self.data.on_corrupt), self.data)
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
        self.drawn = _drawn(self.chain_ids, settings.draw_chains, settings.draw_count)
        self._datasets: dict[tuple, tf.data.Dataset] = {}

    def evaluate(self, chosen: Sequence[int], draw: bool) -> Iterator[ChainResult]:
        """See ``Evaluation``."""
        masked = self._masked_msas([i for i in self.drawn if i in chosen]) if draw else {}
        num_recycle = self.config.validation.num_recycle
        for group in self._groups(chosen, num_recycle):
            outputs, changes = self.passes.run([features for _, features in group])
            last = [select_pass(features, num_recycle) for _, features in group]
            scores = self.passes.scores(outputs, last)
            for (chain_id, _), output, batch, score, change in zip(
                group, outputs, last, scores, changes, strict=True
            ):
                arrays = tf.nest.map_structure(keras.ops.convert_to_numpy, what_is_read(output))
                batch = matched(self.config, arrays, batch)
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
        missing = {self.chain_ids[i]: self.indices[i] for i in chosen}
        iterator = iter(self._datasets[key])
        check = self.records.check_shards
        while (element := next_element(iterator, None, check_shards=check)) is not None:
            features = {name: value[0] for name, value in element.items()}
            chain_id = features.pop(pipeline.CHAIN_ID).numpy().decode()
            missing.pop(chain_id, None)
            if group and group[0][1]["aatype"].shape != features["aatype"].shape:
                yield group
                group = []
            group.append((chain_id, features))
            if len(group) == self.trainer.cluster.local_replicas:
                yield group
                group = []
        if group:
            yield group
        for record in missing.values():
            self.records.report(record)

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
        interfaces: list[metrics.Interface] = []
        if "asym_id" in batch:
            whole, interfaces = metrics.complex_metrics(outputs, batch, self.config.model.heads)
            numbers |= whole
        numbers |= {name: float(value) for name, value in scores.items()}
        names = chain_names(int(batch.get("asym_id", np.ones(1)).max()))
        told = [
            {"chains": [names[one.first - 1], names[one.second - 1]], **one.scores}
            for one in interfaces
        ]
        plddt = np.asarray(metrics.predicted_lddt(outputs["predicted_lddt"]["logits"]))
        said = plddt[:num_res].astype(float).tolist()
        return ChainResult(chain_id, num_res, numbers, said, interfaces=told)

    def _masked_msas(self, chosen: Sequence[int]) -> dict[str, Arrays]:
        """By chain: what one more pass, over masked cells, reads into them; only to be drawn."""
        found = {}
        for group in self._groups(chosen, 0, masked=True) if chosen else ():
            outputs, _ = self.passes.run([features for _, features in group])
            for (chain_id, features), output in zip(group, outputs, strict=True):
                found[chain_id] = masked_cells(output, select_pass(features, 0))
        return found


def _drawn(chain_ids: list[str], wanted: list[str], count: int) -> list[int]:
    """Indices of the chains to draw."""
    missing = [name for name in wanted if name not in chain_ids]
    if missing:
        _LOG.warning("'validation.draw_chains': not validated: %s", ", ".join(missing))
    found = [i for i, name in enumerate(chain_ids) if name in wanted]
    return found if wanted else list(range(min(count, len(chain_ids))))
