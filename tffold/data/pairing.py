"""One alignment for all chains of a complex (AlphaFold-Multimer, Evans et al. 2021, 7.2).

Rows of different sequences (entities) are paired where they are of one species: the most
similar to its query with the most similar to the other's, and so on.  Paired rows stand
above; below them each entity has a block of its unpaired rows, with gaps beside it.  The
copies of an entity have the same row side by side.

Which rows there are depends on whole sequences; of the rows that are left the columns of the
crop alone are taken.  Nothing here is random.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import tensorflow as tf

from records.chemistry import GAP_INDEX

Tensor = Any

MAX_ROWS = 2048  # of a chain: paired and unpaired
MAX_PAIRED_ROWS = MAX_ROWS // 2
MAX_OF_SPECIES = 600  # a species with more rows of one chain is not paired
ABSENT = -1


class Alignments(NamedTuple):
    """The alignments of E entities, of different widths R_e and heights N_e, in flat arrays.

    ``msa`` and ``deletions`` [Σ N_e·R_e] uint8, entity by entity, row by row, letters in
    HHblits' order; ``num_rows`` [E] int32.
    """

    msa: Tensor
    deletions: Tensor
    num_rows: Tensor


class _Rows(NamedTuple):
    """Where the rows of E alignments lie, one after another: all are [rows] int32."""

    entity: Tensor
    number: Tensor  # in the entity's alignment, from 0
    start: Tensor  # of the row's letters in the flat array

    @classmethod
    def of(cls, alignments: Alignments, num_res: Tensor) -> _Rows:
        counts = alignments.num_rows
        entity = tf.repeat(tf.range(tf.size(counts)), counts)
        number = tf.range(tf.size(entity)) - tf.gather(tf.cumsum(counts, exclusive=True), entity)
        first = tf.cumsum(counts * num_res, exclusive=True)
        start = tf.gather(first, entity) + number * tf.gather(num_res, entity)
        return cls(entity, number, start)


def _letters(alignments: Alignments, num_res: Tensor, entity: Tensor) -> Tensor:
    """One entity's alignment [N_e, R_e] uint8."""
    cells = alignments.num_rows * num_res
    start = tf.gather(tf.cumsum(cells, exclusive=True), entity)
    flat = alignments.msa[start : start + tf.gather(cells, entity)]
    return tf.reshape(flat, [tf.gather(alignments.num_rows, entity), tf.gather(num_res, entity)])


def _of_each(num_entities: Tensor, make: Callable[[Tensor], Tensor], dtype: Any) -> Tensor:
    """``make(entity)`` [any length] of each entity, one after another."""
    parts = tf.TensorArray(dtype, num_entities, infer_shape=False, element_shape=[None])
    _, parts = tf.while_loop(
        lambda entity, _: entity < num_entities,
        lambda entity, parts: (entity + 1, parts.write(entity, make(entity))),
        (0, parts),
        parallel_iterations=1,
    )
    return parts.concat()


def pair_rows(
    species: Tensor, similarity: Tensor, entity: Tensor, number: Tensor, num_copies: Tensor
) -> Tensor:
    """Which row of each entity stands in each paired row: [P, E] int32, ``ABSENT`` where none.

    Of each species that at least two chains have rows of, copies of an entity being chains
    of their own as in DeepMind's code, and none of them more than ``MAX_OF_SPECIES``: the
    rows of each entity in descending order of similarity are paired by rank, as many as the
    entity with the fewest of that species has.  An entity without it is absent.

    The paired rows are in DeepMind's order: the queries; then pairings of more chains before
    those of fewer; among them by the product of the rows' numbers over the chains, where
    an absent chain counts 1; among equals by species, then by rank.

    DISCREPANCY: DeepMind's product is of 64-bit integers and can overflow with five chains or
    more; this one is a float64's.

    Args:
        species: [rows] int64, 0 = unknown; similarity: [rows] int32, columns in which a
            row equals its query; entity, number: [rows] int32, the row's alignment and its
            place there; all [rows] ordered by entity and number.
        num_copies: [E] int32, chains of each entity.
    """
    num_entities = tf.size(num_copies)
    known = tf.where((species != 0) & (number > 0))[:, 0]
    species, similarity, entity, number = (
        tf.gather(values, known) for values in (species, similarity, entity, number)
    )
    names, name = tf.unique(species)
    num_species = tf.size(names)
    place = tf.scatter_nd(
        tf.argsort(names, stable=True)[:, None], tf.range(num_species), [num_species]
    )
    group = tf.gather(place, name) * num_entities + entity  # species, then entity
    most = tf.reduce_max(tf.concat([[0], similarity], 0))
    key = tf.cast(group, tf.int64) * tf.cast(most + 1, tf.int64)
    order = tf.argsort(key + tf.cast(most - similarity, tf.int64), stable=True)
    group, number = tf.gather(group, order), tf.gather(number, order)

    sizes = tf.math.bincount(group, minlength=num_species * num_entities, dtype=tf.int32)
    rank = tf.range(tf.size(group)) - tf.gather(tf.cumsum(sizes, exclusive=True), group)
    sizes = tf.reshape(sizes, [num_species, num_entities])
    num_chains = tf.reduce_sum(tf.where(sizes > 0, num_copies, 0), axis=1)
    fewest = tf.reduce_min(tf.where(sizes > 0, sizes, tf.int32.max), axis=1)
    paired = (num_chains > 1) & tf.reduce_all(sizes <= MAX_OF_SPECIES, axis=1)
    num_pairs = tf.where(paired, fewest, 0)

    of_species, entity = group // num_entities, group % num_entities
    chosen = tf.where(rank < tf.gather(num_pairs, of_species))[:, 0]
    pair = tf.gather(tf.cumsum(num_pairs, exclusive=True), of_species) + rank
    cells = tf.gather(tf.stack([pair, entity], axis=1), chosen)
    table = tf.fill([tf.reduce_sum(num_pairs), num_entities], ABSENT)
    table = tf.tensor_scatter_nd_update(table, cells, tf.gather(number, chosen))

    # A factor for each chain: whole numbers' products are exact, their powers need not be.
    # A gather, as TensorFlow's repeat fails on no pairs outside of graphs.
    of_chains = tf.repeat(tf.range(num_entities), num_copies)
    factors = tf.gather(tf.abs(tf.cast(table, tf.float64)), of_chains, axis=1)
    product = tf.reduce_prod(factors, axis=1)
    order = tf.argsort(product, stable=True)
    more_first = tf.argsort(-tf.gather(tf.repeat(num_chains, num_pairs), order), stable=True)
    queries = tf.zeros([1, num_entities], tf.int32)
    return tf.concat([queries, tf.gather(table, tf.gather(order, more_first))], axis=0)


def _fingerprints(rows: Tensor) -> Tensor:
    """A number for each row [n, R] uint8 that no other row has: [n] int64.

    Of 50,000 rows two others share theirs in one of 10^10 alignments.
    """
    return tf.bitcast(tf.fingerprint(rows), tf.int64)


def _is_new(rows: Tensor, known: Tensor) -> Tensor:
    """Whether a row [n, R] is none of the ``known`` [k, R] and not the first: [n] bool."""
    prints = _fingerprints(rows)
    known = tf.sort(tf.concat([prints[:1], _fingerprints(known)], axis=0))
    place = tf.minimum(tf.searchsorted(known, prints), tf.size(known) - 1)
    return tf.gather(known, place) != prints


def _compare(alignments: Alignments, num_res: Tensor) -> tuple[Tensor, Tensor]:
    """Columns in which each row equals its query [rows] int32; whether it has letters [rows]."""

    def similarity(entity: Tensor) -> Tensor:
        rows = _letters(alignments, num_res, entity)
        # A chain has fewer residues than an int16 counts.
        return tf.reduce_sum(tf.cast(rows == rows[:1], tf.int16), axis=1)

    def has_letters(entity: Tensor) -> Tensor:
        return tf.reduce_any(_letters(alignments, num_res, entity) != GAP_INDEX, axis=1)

    count = tf.size(num_res)
    return (
        tf.cast(_of_each(count, similarity, tf.int16), tf.int32),
        _of_each(count, has_letters, tf.bool),
    )


def merge_alignments(
    msa: Alignments,
    uniprot: Alignments,
    species: Tensor,
    *,
    num_res: Tensor,
    num_copies: Tensor,
    entity: Tensor,
    column: Tensor,
) -> dict[str, Tensor]:
    """The alignment of a complex, as DeepMind's ``pair_and_merge`` makes it, of a crop's columns.

    With one entity nothing is paired.  Otherwise unpaired rows that are also among the
    entity's paired ones are left out, its query too; then there are at most
    ``MAX_PAIRED_ROWS`` paired rows, and of each entity at most as many unpaired ones
    as its paired ones leave of ``MAX_ROWS``.  Rows of chains that have no residue in the crop
    are left out last: they would be gaps.

    Args:
        msa: the main alignments, of at least one row each, the query.
        uniprot: the alignments to pair, the query first; no rows where there is none.
        species: [Σ U_e] int64, of each row of ``uniprot``; 0 = unknown, not paired.
        num_res: [E] int32, residues; num_copies: [E] int32, chains in the whole assembly.
        entity: [R] int32, entity of each residue of the crop, from 0, never falling;
        column: [R] int32, the residue's place in that entity.

    Returns:
        ``msa`` (HHblits' order) and ``deletion_matrix`` [N, R] uint8, the queries' row first;
        ``bert_cells`` [N, R] uint8, 1 on paired rows and inside blocks, where masked cells
        count in the loss (DeepMind's ``bert_mask``);
        ``cluster_bias_mask`` [N] float32, 1 on the row that must be a cluster centre;
        ``num_paired`` int32, rows of them that are paired.
    """
    num_entities = tf.size(num_res)
    several = num_entities > 1
    rows, hits = _Rows.of(msa, num_res), _Rows.of(uniprot, num_res)
    similarity, has_letters = _compare(uniprot, num_res)
    pairs = pair_rows(species, similarity, hits.entity, hits.number, num_copies)
    pairs = pairs[: tf.where(several, tf.shape(pairs)[0], 0)]

    def is_unpaired(entity: Tensor) -> Tensor:
        own = _letters(msa, num_res, entity)
        numbers = pairs[1:, entity]
        numbers = tf.boolean_mask(numbers, numbers != ABSENT)
        return _is_new(own, tf.gather(_letters(uniprot, num_res, entity), numbers)) | ~several

    unpaired = tf.where(_of_each(num_entities, is_unpaired, tf.bool))[:, 0]
    pairs = pairs[:MAX_PAIRED_ROWS]
    first_hit = tf.cumsum(uniprot.num_rows, exclusive=True)
    # The last place stands for the rows of absent chains.
    has_letters = tf.concat([has_letters, [False]], axis=0)
    place = tf.where(pairs == ABSENT, tf.size(has_letters) - 1, pairs + first_hit)
    with_letters = tf.cast(tf.gather(has_letters, place[1:]), tf.int32)
    left = MAX_ROWS - tf.cast(several, tf.int32) - tf.reduce_sum(with_letters, axis=0)
    of_entity = tf.gather(rows.entity, unpaired)
    first = tf.searchsorted(of_entity, tf.range(num_entities))
    rank = tf.range(tf.size(of_entity)) - tf.gather(first, of_entity)

    cropped = tf.math.bincount(entity, minlength=num_entities) > 0
    kept = (rank < tf.gather(left, of_entity)) & tf.gather(cropped, of_entity)
    unpaired = tf.boolean_mask(unpaired, kept)
    pairs = tf.boolean_mask(pairs, tf.reduce_any((pairs != ABSENT) & cropped, axis=1))
    num_paired, num_unpaired = tf.shape(pairs)[0], tf.size(unpaired)

    # Where each cell's letter lies: of the queries and the unpaired rows in `msa`, of the other
    # paired rows in `uniprot`.
    width = tf.gather(num_res, entity)
    paired = tf.gather(pairs[1:], entity, axis=1)
    hit_start = tf.cumsum(uniprot.num_rows * num_res, exclusive=True)
    hit_cells = tf.gather(hit_start, entity) + paired * width + column
    query_start = tf.cumsum(msa.num_rows * num_res, exclusive=True)
    query_cells = (tf.gather(query_start, entity) + column)[None][: tf.minimum(num_paired, 1)]
    inside = tf.gather(rows.entity, unpaired)[:, None] == entity[None, :]
    own_cells = tf.gather(rows.start, unpaired)[:, None] + column

    def filled(own: Tensor, other: Tensor, filling: int) -> Tensor:
        empty = tf.constant(filling, tf.uint8)
        other = tf.concat([other, [empty]], axis=0)
        absent = tf.size(other) - 1
        return tf.concat(
            [
                tf.gather(own, query_cells),
                tf.gather(other, tf.where(paired == ABSENT, absent, hit_cells)),
                tf.where(inside, tf.gather(own, tf.where(inside, own_cells, 0)), empty),
            ],
            axis=0,
        )

    cells = tf.concat(
        [tf.ones([num_paired, tf.size(entity)], tf.uint8), tf.cast(inside, tf.uint8)], axis=0
    )
    return {
        "msa": filled(msa.msa, uniprot.msa, GAP_INDEX),
        "deletion_matrix": filled(msa.deletions, uniprot.deletions, 0),
        "bert_cells": cells,
        "cluster_bias_mask": tf.one_hot(0, num_paired + num_unpaired),
        "num_paired": num_paired,
    }


def merge_assembly(raw: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """What ``rows.msa_part`` reads of an assembly's crop: see ``merge_alignments``.

    Args:
        raw: a read assembly: ``msa``, ``uniprot_msa`` and their deletions in flat arrays,
            ``uniprot_species``, ``entity_num_msa``, ``entity_num_uniprot`` and
            ``entity_num_res`` [E], ``chain_entity`` [C] from 1; of the crop's residues
            ``entity_id`` [R] from 1 and ``residue_index`` [R].
    """
    num_res = raw["entity_num_res"]
    return merge_alignments(
        Alignments(raw["msa"], raw["deletion_matrix"], raw["entity_num_msa"]),
        Alignments(raw["uniprot_msa"], raw["uniprot_deletion_matrix"], raw["entity_num_uniprot"]),
        raw["uniprot_species"],
        num_res=num_res,
        num_copies=tf.math.bincount(raw["chain_entity"] - 1, minlength=tf.size(num_res)),
        entity=raw["entity_id"] - 1,
        column=raw["residue_index"],
    )
