"""Assemblies of several chains: reading them by number, and the residues of a crop (Evans 2021).

What belongs to a sequence is read once for each entity, one table after another; here it is
laid on the residues of the crop, of whichever copy they are.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from records.chains import Assembly
from records.example import ENTITY_ID, PER_ENTITY
from records.schema import ENTITY, ENTITY_DIMENSIONS, NUM_HITS, NUM_RES
from tffold.config import DataConfig
from tffold.data import decode_assembly, keys
from tffold.data.choices import first_templates
from tffold.data.decode import CHAIN_ID
from tffold.data.decode_assembly import CHAIN_ENTITY, ENTITY_LISTS
from tffold.data.keys import Draw
from tffold.data.reader import RecordSet, RecordTable

Tensor = Any

_ENTITY_RES = f"{PER_ENTITY}{NUM_RES}"
ENTITY_HITS = f"{PER_ENTITY}{NUM_HITS}"
_BEYOND = 2.0  # more than any draw: sorts behind all of them


class AssemblyTable(RecordTable):
    """``RecordTable`` of records of any number of chains."""

    def __init__(self, sets: Sequence[RecordSet], *, labels: bool = True) -> None:
        super().__init__(sets, labels=labels)
        layouts = [layout for records in sets for layout in records.layouts or ()]

        def ragged(name: str, dtype: Any) -> tuple[Tensor, Tensor]:
            lists = [layout[name] for layout in layouts]
            splits = np.cumsum([0, *map(len, lists)])
            return tf.constant(np.concatenate(lists), dtype), tf.constant(splits, tf.int64)

        self._lists = {name: ragged(name, tf.int64) for name in ENTITY_LISTS}
        self._lists[CHAIN_ENTITY] = ragged(ENTITY_ID, tf.int32)

    def layout(self, number: Tensor) -> dict[str, Tensor]:
        """``chain_entity`` [C] and ``entity_num_…`` [E] of a record, as its index has them."""
        return {
            name: values[splits[number] : splits[number + 1]]
            for name, (values, splits) in self._lists.items()
        }

    def read(self, number: Tensor, choices: Mapping[str, Tensor]) -> tuple[dict, Tensor]:
        """The raw features of a record and whether it is whole.

        Returns: see ``decode_assembly.read_assembly``; beside them ``chain_id``,
            ``chain_entity`` [C] and ``entity_num_…`` [E] int32.
        """
        layout = self.layout(number)
        entry = self._entry(number)
        raw, ok = decode_assembly.read_assembly({**entry, **layout, **choices}, labels=self._labels)
        sizes = {name: tf.cast(value, tf.int32) for name, value in layout.items()}
        return raw | sizes | {CHAIN_ID: entry[CHAIN_ID]}, ok


def training_templates(
    config: DataConfig, num_hits: Tensor, *, seed: int, position: Tensor
) -> dict[str, Tensor]:
    """The templates of each entity, drawn as a monomer's are (``choices.training_choices``).

    Args:
        num_hits: [E] int64, in the record.

    Returns: ``hits`` [E, max_templates], of which the first ``num_hits`` [E] count.
    """
    top, entities = config.template_top, tf.range(tf.size(num_hits))
    places = tf.fill([tf.size(num_hits)], position)
    # The number of templates, their order.
    draws = keys.doubles(1 + top, seed, places, Draw.ENTITY_TEMPLATES, entities[:, None])
    available = tf.minimum(tf.cast(num_hits, tf.int32), top)
    ranks = tf.where(tf.range(top) < available[:, None], draws[:, 1:], _BEYOND)
    order = tf.argsort(ranks, axis=-1, stable=True)
    return first_templates(config, order, keys.integer(draws[:, 0], available))


def best_templates(config: DataConfig, num_hits: Tensor) -> dict[str, Tensor]:
    """The first hits of each entity, likewise."""
    order = tf.zeros_like(num_hits, tf.int32)[:, None] + tf.range(max(config.max_templates, 1))
    return first_templates(config, order, tf.cast(num_hits, tf.int32))


def raw_of(assembly: Assembly, num_templates: int, *, labels: bool) -> dict[str, np.ndarray]:
    """What ``AssemblyTable.read`` gives of an assembly that lies in memory.

    Args:
        assembly: without ``labels`` its structure may be missing, without templates (and rows
            to pair) their features.
        num_templates: as many hits of each entity are taken, its first.
    """
    entities = assembly.entities
    counts = [min(len(e.get("template_aatype", ())), num_templates) for e in entities]
    raw: dict[str, Any] = {}
    for name, feature in decode_assembly.stored(labels=labels).items():
        shape = [size or 0 for size in decode_assembly.flat_shape(feature)]
        if feature.per != ENTITY:
            raw[name] = np.asarray(assembly.features[name], feature.dtype)
            continue
        # Whatever axes an entity has, they are laid into one.
        tables = [
            np.asarray(entity.get(name, np.zeros(shape)), feature.dtype)[
                : count if feature.axes(NUM_HITS) else None
            ].reshape(-1, *shape[1:])
            for entity, count in zip(entities, counts, strict=True)
        ]
        raw[name] = np.concatenate(tables)
    sizes = [
        [len(e["aatype"]), len(e["msa"]), len(e.get("template_aatype", ()))]
        + [len(e.get("uniprot_msa", ()))]
        for e in entities
    ]
    raw |= {
        f"{PER_ENTITY}{name}": np.array(column, np.int32)
        for name, column in zip(ENTITY_DIMENSIONS, zip(*sizes, strict=True), strict=True)
    }
    raw |= {"num_hits": np.array(counts, np.int32)}
    return raw | {CHAIN_ENTITY: np.array(assembly.entity_id, np.int32)}


def chain_lengths(raw: Mapping[str, Tensor]) -> Tensor:
    """The residues of each chain [C] int32."""
    return tf.gather(raw[_ENTITY_RES], raw[CHAIN_ENTITY] - 1)


def residues_of_crop(raw: Mapping[str, Tensor], crop: Tensor, num_templates: int) -> dict:
    """The raw features with what is of residues laid on those of the crop.

    Args:
        raw: a read assembly; crop: [R'] int32, places among the residues of all chains.
        num_templates: slots of each chain; template k of all chains is in slot k, and
            those of a chain that has fewer stay empty.

    Returns: ``raw`` with ``aatype``, ``between_segment_residues`` and the structure [R', ...],
        ``template_…`` [T, R', ...]; and ``asym_id``, ``entity_id`` and ``sym_id`` [R'], from 1.
        ``residue_index`` counts from 0 in each chain.
    """
    entity_res, chain_entity = raw[_ENTITY_RES], raw[CHAIN_ENTITY]
    length = chain_lengths(raw)
    chain = tf.gather(tf.repeat(tf.range(tf.size(length)), length), crop)
    residue = crop - tf.gather(tf.cumsum(length, exclusive=True), chain)
    copy = tf.range(tf.size(length)) - tf.searchsorted(chain_entity, chain_entity)
    entity = tf.gather(chain_entity, chain) - 1
    of_entity = tf.gather(tf.cumsum(entity_res, exclusive=True), entity) + residue
    found = dict(raw)
    for name in ("aatype", "between_segment_residues"):
        found[name] = tf.gather(raw[name], of_entity)
    for name in ("all_atom_positions", "all_atom_mask", "confidence"):
        if name in raw:
            found[name] = tf.gather(raw[name], crop)
    found |= {
        "residue_index": residue,
        "asym_id": chain + 1,
        "entity_id": entity + 1,
        "sym_id": tf.gather(copy, chain) + 1,
    }
    if num_templates:
        count, slot = raw["num_hits"], tf.range(num_templates)[:, None]
        first = tf.gather(tf.cumsum(count * entity_res, exclusive=True), entity) + residue
        there = slot < tf.gather(count, entity)
        # The place before the first is an empty residue.
        place = tf.where(there, 1 + first + slot * tf.gather(entity_res, entity), 0)
        for name in ("aatype", "all_atom_positions", "all_atom_masks"):
            values = raw[f"template_{name}"]
            values = tf.pad(values, [[1, 0]] + [[0, 0]] * (values.shape.rank - 1))
            found[f"template_{name}"] = tf.gather(values, place)
        found["template_mask"] = tf.cast(tf.reduce_any(there, axis=1), tf.float32)
    return found


def assembly_labels(raw: Mapping[str, Tensor], mask: Tensor) -> dict[str, Tensor]:
    """The truth of all chains, before any crop, for their permutation.

    Args:
        raw: a read assembly; mask: [A, 37] its atoms that are confident enough.
    """
    length = chain_lengths(raw)
    return {
        "assembly_atom_positions": raw["all_atom_positions"],
        "assembly_atom_mask": mask,
        "assembly_chain_start": tf.cumsum(length, exclusive=True),
        "assembly_chain_length": length,
        "assembly_chain_entity": raw[CHAIN_ENTITY],
    }
