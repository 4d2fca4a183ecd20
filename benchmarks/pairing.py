"""Processor time of pairing and merging the alignments of a complex's chains, once an example.

    python benchmarks/pairing.py               # a minute on one core

Generated alignments of chains of 200 residues: as many rows of UniProt as others, two thirds of
them of species that another chain has too. The merged alignment is taken at a crop of 384
residues, as a data set's graph does it; reading the record and drawing rows are not counted.
"""

from __future__ import annotations

import os
import statistics
import time
from collections.abc import Sequence

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import numpy as np
import tensorflow as tf

from tffold.data.pairing import merge_assembly

NUM_RES, CROP = 200, 384
CASES = ((2, 2000), (2, 8000), (4, 2000), (4, 8000))  # chains, rows of each of both kinds
REPEATS = 9


def generated(num_chains: int, num_rows: int) -> dict[str, tf.Tensor]:
    """What ``merge_assembly`` reads: chains of different sequences, rows 30 to 90 % identical."""
    rng = np.random.default_rng([num_chains, num_rows])
    tables: dict[str, list[np.ndarray]] = {name: [] for name in ("msa", "uniprot_msa", "species")}
    for _ in range(num_chains):
        query = rng.integers(0, 20, NUM_RES)
        for name in ("msa", "uniprot_msa"):
            same = rng.random((num_rows, NUM_RES)) < rng.uniform(0.3, 0.9, (num_rows, 1))
            rows = np.where(same, query, rng.integers(0, 21, same.shape))
            rows[0] = query
            tables[name].append(rows)
        species = rng.integers(1, num_rows, num_rows)
        species[0] = 0
        tables["species"].append(species)
    counts = tf.fill([num_chains], num_rows)
    size = num_chains * NUM_RES
    kept = np.sort(np.random.default_rng(0).permutation(size)[:CROP])

    def flat(name: str) -> tf.Tensor:
        return tf.constant(np.concatenate(tables[name]).ravel().astype(np.uint8))

    deletions = tf.zeros([num_chains * num_rows * NUM_RES], tf.uint8)
    return {
        "msa": flat("msa"),
        "deletion_matrix": deletions,
        "uniprot_msa": flat("uniprot_msa"),
        "uniprot_deletion_matrix": deletions,
        "uniprot_species": tf.constant(np.concatenate(tables["species"]), tf.int64),
        "entity_num_msa": counts,
        "entity_num_uniprot": counts,
        "entity_num_res": tf.fill([num_chains], NUM_RES),
        "chain_entity": tf.range(num_chains) + 1,
        "entity_id": tf.constant(kept // NUM_RES + 1, tf.int32),
        "residue_index": tf.constant(kept % NUM_RES, tf.int32),
    }


def measured(num_chains: int, num_rows: int) -> Sequence[float]:
    """Seconds of processor time, wall time, pairs and all rows of one case."""
    raw = generated(num_chains, num_rows)
    merge = tf.function(merge_assembly, autograph=False)
    seconds, walls = [], []
    for _ in range(REPEATS + 1):  # the first one traces
        start, wall = time.process_time(), time.perf_counter()
        made = merge(raw)
        rows = len(made["msa"].numpy())
        seconds.append(time.process_time() - start)
        walls.append(time.perf_counter() - wall)
    medians = (statistics.median(times[1:]) for times in (seconds, walls))
    return *medians, int(made["num_paired"]), rows


def main() -> None:
    print("| chains | rows of each, and as many of UniProt | pairs | merged | processor | wall |")
    print("|-|-|-|-|-|-|")
    for case in CASES:
        seconds, wall, pairs, rows = measured(*case)
        times = f"{1e3 * seconds:.0f} ms | {1e3 * wall:.0f} ms"
        print(f"| {case[0]} | {case[1]:,} | {pairs:,} | {rows:,} | {times} |")


if __name__ == "__main__":
    main()
