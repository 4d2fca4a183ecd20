"""Stored cases of pairing: alignments of chains, and DeepMind's ``pair_and_merge`` of them."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

from records.chains import Assembly, species_key
from records.chemistry import GAP_INDEX as GAP
from tffold.data import pairing
from tffold.data.inputs import hhblits_to_restype
from tffold.data.pairing import Alignments, merge_alignments


def paths(folder: Path) -> list[Path]:
    return sorted(folder.glob("pairing_*.npz"))


def alignments(rows: Sequence[np.ndarray], deletions: Sequence[np.ndarray]) -> Alignments:
    """The entities' tables one after another, as a record's bytes are."""

    def flat(tables: Sequence[np.ndarray]) -> Any:
        for table in tables:
            assert table.min(initial=0) >= 0 and table.max(initial=0) < 256
        return tf.constant(np.concatenate([np.ravel(t) for t in tables]).astype(np.uint8))

    return Alignments(flat(rows), flat(deletions), tf.constant([len(t) for t in rows], tf.int32))


@functools.cache
def _graph(limits: tuple[int, ...]) -> Any:
    letters, numbers = tf.TensorSpec([None], tf.uint8), tf.TensorSpec([None], tf.int32)
    tables = Alignments(letters, letters, numbers)
    species = tf.TensorSpec([None], tf.int64)
    names = ("num_res", "num_copies", "entity", "column")

    def merged(msa: Alignments, uniprot: Alignments, species: Any, *rest: Any) -> dict[str, Any]:
        return merge_alignments(msa, uniprot, species, **dict(zip(names, rest, strict=True)))

    signature = [tables, tables, species, *[numbers] * len(names)]
    return tf.function(merged, input_signature=signature, autograph=False)


def merge(
    entities: Sequence[dict[str, Any]], num_copies: Sequence[int], entity: Any, column: Any
) -> dict[str, np.ndarray]:
    """``merge_alignments`` as in a data set's graph, of entities that have ``msa``, ``deletions``,
    ``hits``, ``hit_deletions`` and ``species``."""
    of = {name: [one[name] for one in entities] for name in entities[0]}
    # A graph holds the limits with which it was made.
    limits = (pairing.MAX_ROWS, pairing.MAX_PAIRED_ROWS, pairing.MAX_OF_SPECIES)
    made = _graph(limits)(
        alignments(of["msa"], of["deletions"]),
        alignments(of["hits"], of["hit_deletions"]),
        tf.constant(np.concatenate(of["species"]), tf.int64),
        tf.constant([one["msa"].shape[1] for one in entities], tf.int32),
        tf.constant(num_copies, tf.int32),
        tf.constant(entity, tf.int32),
        tf.constant(column, tf.int32),
    )
    return {name: value.numpy() for name, value in made.items()}


def columns(sizes: Sequence[int], copies: Sequence[int]) -> tuple[np.ndarray, np.ndarray]:
    """``entity`` and ``column`` of all residues of entities of these sizes."""
    groups = list(zip(sizes, copies, strict=True))
    return (
        np.concatenate([np.full(size * count, e) for e, (size, count) in enumerate(groups)]),
        np.concatenate([np.tile(np.arange(size), count) for size, count in groups]),
    )


class PairingCase:
    """One file: ``in/<chain>/*`` and ``out/*``."""

    def __init__(self, path: Path) -> None:
        self.name = path.stem
        self.arrays = dict(np.load(path))

    def out(self, name: str) -> np.ndarray:
        return self.arrays[f"out/{name}"]

    def _chain(self, chain: str) -> dict[str, Any]:
        def table(name: str) -> np.ndarray:
            return self.arrays[f"in/{chain}/{name}"]

        found = {"msa": table("msa"), "deletions": table("deletion_matrix_int")}
        none = found["msa"][:0]  # chains that are not paired may have nothing to pair
        if f"in/{chain}/msa_all_seq" in self.arrays:
            species = table("msa_species_identifiers_all_seq")
            found["hits"] = table("msa_all_seq")
            found["hit_deletions"] = table("deletion_matrix_int_all_seq")
        else:
            species, found["hits"], found["hit_deletions"] = [], none, none
        found["species"] = np.array([species_key(bytes(s).decode()) for s in species], np.int64)
        return found

    def merged(self) -> dict[str, np.ndarray]:
        """What ours makes of it: entities by first appearance, copies one after another."""
        chains = list(dict.fromkeys(n.split("/")[1] for n in self.arrays if n.startswith("in/")))
        groups: dict[bytes, list[str]] = {}
        for chain in chains:
            groups.setdefault(self.arrays[f"in/{chain}/aatype"].tobytes(), []).append(chain)
        entities = [self._chain(group[0]) for group in groups.values()]
        copies = [len(group) for group in groups.values()]
        sizes = [one["msa"].shape[1] for one in entities]
        entity, column = columns(sizes, copies)
        np.testing.assert_array_equal(entity + 1, self.out("entity_id"))
        return merge(entities, copies, entity, column)

    def check(self) -> None:
        """Every row, deletion and mask is DeepMind's."""
        made = self.merged()
        letters = hhblits_to_restype(made["msa"]).numpy()
        np.testing.assert_array_equal(letters, self.out("msa"))
        np.testing.assert_array_equal(made["deletion_matrix"], self.out("deletion_matrix"))
        np.testing.assert_array_equal(made["bert_cells"], self.out("bert_mask"))
        np.testing.assert_array_equal(made["cluster_bias_mask"], self.out("cluster_bias_mask"))
        assert self.out("msa_mask").all()


def paired_by_definition(
    entities: Sequence[dict[str, Any]], copies: Sequence[int]
) -> tuple[list[list[int]], list[int]]:
    """Rows of each chain, -1 where it has none; chain by chain, as DeepMind's code does it."""
    chains = [e for e, count in enumerate(copies) for _ in range(count)]
    everybody = sorted({s for one in entities for s in one["species"][1:]} - {0})
    found = {len(chains): [[0] * len(chains)]}
    for species in everybody:
        own = []
        for one in entities:
            rows = [r for r in range(1, len(one["hits"])) if one["species"][r] == species]
            same = (one["hits"] == one["msa"][0]).sum(1)
            own.append(sorted(rows, key=lambda row, same=same: -same[row]))
        present = [own[e] for e in chains if own[e]]
        if len(present) > 1 and max(map(len, present)) <= pairing.MAX_OF_SPECIES:
            for rank in range(min(map(len, present))):
                pair = [own[e][rank] if own[e] else -1 for e in chains]
                found.setdefault(len(present), []).append(pair)
    order = []
    for count in sorted(found, reverse=True):
        order += sorted(found[count], key=lambda pair: abs(np.prod(pair)))
    return order, chains


def merged_by_definition(
    entities: Sequence[dict[str, Any]], copies: Sequence[int]
) -> tuple[np.ndarray, np.ndarray, np.ndarray, int]:
    """Rows, deletions and bert cells over all chains, and how many rows are paired."""
    pairs, chains = paired_by_definition(entities, copies)
    if len(entities) == 1:
        pairs = []
    starts = np.cumsum([0, *(entities[e]["msa"].shape[1] for e in chains)])
    width = starts[-1]

    def part(name, pair):
        filling = GAP if name == "hits" else 0
        one = [
            np.full(entities[e]["msa"].shape[1], filling)
            if row < 0
            else entities[e]["msa"][0] if row == 0 and name == "hits"
            else np.zeros(entities[e]["msa"].shape[1], int) if row == 0
            else entities[e][name][row]
            for e, row in zip(chains, pair, strict=True)
        ]  # fmt: skip
        return np.concatenate(one)

    rows = [part("hits", p) for p in pairs[: pairing.MAX_PAIRED_ROWS]]
    deletions = [part("hit_deletions", p) for p in pairs[: pairing.MAX_PAIRED_ROWS]]
    cells = [np.ones(width) for _ in rows]
    for e, one in enumerate(entities):
        where = [c for c, of in enumerate(chains) if of == e]
        used = {tuple(one["hits"][p[where[0]]]) for p in pairs if p[where[0]] > 0}
        if pairs:
            used.add(tuple(one["msa"][0]))
        keep = [n for n, row in enumerate(one["msa"]) if tuple(row) not in used]
        shown = [p[where[0]] for p in pairs[: pairing.MAX_PAIRED_ROWS]]
        full = sum(r == 0 or (r > 0 and (one["hits"][r] != GAP).any()) for r in shown)
        for n in keep[: pairing.MAX_ROWS - full]:
            for name, filling, into in (("msa", GAP, rows), ("deletions", 0, deletions)):
                row = np.full(width, filling)
                for c in where:
                    row[starts[c] : starts[c + 1]] = one[name][n]
                into.append(row)
            inside = np.zeros(width)
            inside[starts[where[0]] : starts[where[-1] + 1]] = 1
            cells.append(inside)
    return np.array(rows), np.array(deletions), np.array(cells), len(pairs)


def flat_assembly(assembly: Assembly) -> dict[str, Any]:
    """An assembly as ``pairing.merge_assembly`` reads it, with all its residues in the crop."""
    entities = assembly.entities
    uniprot = [one.get("uniprot_msa", one["msa"][:0]) for one in entities]
    hit_deletions = [one.get("uniprot_deletion_matrix", one["msa"][:0]) for one in entities]
    msa = alignments([e["msa"] for e in entities], [e["deletion_matrix"] for e in entities])
    hits = alignments(uniprot, hit_deletions)
    species = [np.asarray(one.get("uniprot_species", ()), np.int64) for one in entities]
    ids = {name: tf.constant(value) for name, value in assembly.residue_chains().items()}
    aatype = [entities[entity - 1]["aatype"] for entity in assembly.entity_id]
    return {
        **dict(zip(("msa", "deletion_matrix", "entity_num_msa"), msa, strict=True)),
        "uniprot_msa": hits.msa,
        "uniprot_deletion_matrix": hits.deletions,
        "entity_num_uniprot": hits.num_rows,
        "uniprot_species": tf.constant(np.concatenate(species)),
        "entity_num_res": tf.constant([len(one["aatype"]) for one in entities]),
        "chain_entity": tf.constant(assembly.entity_id),
        "residue_index": tf.constant(assembly.features["residue_index"]),
        "is_distillation": tf.constant(0, tf.uint8),
        "aatype": tf.constant(np.concatenate(aatype)),
        **ids,
    }
