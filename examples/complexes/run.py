"""Two complexes by heart: structures to records, a small multimer network, DockQ before and after.

    python examples/complexes/run.py --output complexes_output [train.steps=100 ...]

1a8o is two copies of one chain, built by the assembly's operators; 4zhl a protease with a peptide.
Each is measured a second time with its entities in the other order: the scores must be the same.
Run again, it reuses what is there.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from records import example, shards
from records.chains import Assembly
from records.schema import ASSEMBLY, ENTITY, NUM_MSA, NUM_RES, RECORD_FEATURES, STRING

HERE = Path(__file__).parent
DEMO = HERE.parent / "demo"
CONFIG = HERE.parents[1] / "configs" / "complexes.yaml"
ENTRIES = ("1a8o", "4zhl")
TURNED = "-turned"  # after the name of a complex in the other order
NEAR = 8.0  # Å
ROWS = 8  # of an alignment
DOCKQ = 0.49  # medium quality
CONTACTS = 0.5  # F1: all residues on one spot have every contact, and so up to 0.5 DockQ
SAME = 1e-3  # what rounding may change of it


def call(module: str, *arguments: object) -> None:
    """Runs one of the command lines; ends with its exit code if it fails."""
    command = [sys.executable, "-m", module, *map(str, arguments)]
    code = subprocess.run(command, check=False).returncode
    if code:
        sys.exit(code)


def taken(features: Mapping[str, Any], per: str, dimension: str, keep: np.ndarray) -> dict:
    """Features with some of the residues or rows alone, in the order of ``keep``."""
    found = dict(features)
    for name, feature in RECORD_FEATURES.items():
        if feature.per == per and name in found and feature.dtype != STRING:
            for axis in feature.axes(dimension):
                found[name] = np.take(found[name], keep, axis)
    return found


def residues_of_chains(assembly: Assembly) -> list[np.ndarray]:
    """The numbers of each chain's residues [C] of [R]."""
    return np.split(np.arange(sum(assembly.chain_sizes)), np.cumsum(assembly.chain_sizes)[:-1])


def near_others(assembly: Assembly) -> Assembly:
    """Of each sequence the residues of which any copy has an atom near another chain."""
    chains = residues_of_chains(assembly)
    positions, mask = (assembly.features[f"all_atom_{name}"] for name in ("positions", "mask"))
    there = mask > 0
    near = np.zeros(len(positions), bool)
    for chain in chains:
        others = np.setdiff1d(np.arange(len(positions)), chain)
        atoms = positions[others][there[others]]
        # [residues, atoms of one, atoms of others] -> [residues, atoms of one]
        away = np.linalg.norm(positions[chain][:, :, None] - atoms, axis=-1).min(-1)
        near[chain] = (away < NEAR).any(-1, where=there[chain])
    keep = [np.zeros(len(entity["aatype"]), bool) for entity in assembly.entities]
    for entity, chain in zip(assembly.entity_id, chains, strict=True):
        keep[entity - 1] |= near[chain]
    kept = [
        chain[keep[entity - 1]] for entity, chain in zip(assembly.entity_id, chains, strict=True)
    ]
    return replace(
        assembly,
        features=taken(assembly.features, ASSEMBLY, NUM_RES, np.concatenate(kept)),
        entities=tuple(
            taken(entity, ENTITY, NUM_RES, np.flatnonzero(own))
            for entity, own in zip(assembly.entities, keep, strict=True)
        ),
    )


def few_rows(assembly: Assembly) -> Assembly:
    """Of each alignment the first rows: so few that none is left to chance."""

    def few(entity):
        rows = np.arange(min(ROWS, len(entity["msa"])))
        return taken(entity, ENTITY, NUM_MSA, rows)

    return replace(assembly, entities=tuple(map(few, assembly.entities)))


def turned(assembly: Assembly) -> Assembly:
    """The same complex with its chains in the opposite order."""
    count = len(assembly.entities)
    order = range(len(assembly.entity_id))[::-1]
    chains = residues_of_chains(assembly)
    features = taken(
        assembly.features, ASSEMBLY, NUM_RES, np.concatenate([chains[chain] for chain in order])
    )
    features["chain_id"] += TURNED
    features["chain_names"] = [features["chain_names"][chain] for chain in order]
    return replace(
        assembly,
        features=features,
        entities=assembly.entities[::-1],
        entity_id=tuple(count + 1 - assembly.entity_id[chain] for chain in order),
    )


def write(shard: Path, assemblies: Iterable[Assembly]) -> None:
    """A shard of these complexes."""
    shard.parent.mkdir(parents=True, exist_ok=True)
    with shards.ShardWriter(shard) as writer:
        for assembly in assemblies:
            entry = example.index_entry(assembly)
            writer.write(entry["chain_id"], example.encode(assembly), entry)


def make_sets(records: Path, output: Path) -> tuple[Path, Path]:
    """The converted complexes, small enough to be learnt in minutes, as they are and turned."""
    found = [
        near_others(few_rows(example.decode_assembly(data)))
        for source in shards.find_shards([records / "train"])
        for _, _, data in shards.scan(source)
    ]
    straight, other = (output / name / "chains.tfrecord" for name in ("small", "turned"))
    write(straight, found)
    write(other, map(turned, found))
    return straight, other


def scores(run: Path) -> dict[str, dict[str, float]]:
    """What the last evaluation in a run folder found, by complex."""
    path = max((run / "validation").glob("step-*")) / "validation.json"
    return {found["chain"]: found for found in json.loads(path.read_text())["chains"]}


def told(before: dict[str, dict], after: dict[str, dict]) -> tuple[list[str], bool]:
    """A table of both evaluations, and whether all is well: ``DOCKQ``, ``CONTACTS``, ``SAME``."""
    lines = [f"{'':<14}{'DockQ before':>14}{'after':>8}{'contacts (F1) before':>22}{'after':>8}"]
    well = True
    for name, found in after.items():
        first = before[name]
        lines.append(
            f"{name:<14}{first['dockq']:>14.3f}{found['dockq']:>8.3f}"
            f"{first['ics']:>22.3f}{found['ics']:>8.3f}"
        )
        other = after[name.removesuffix(TURNED)]
        well &= found["dockq"] >= DOCKQ and found["ics"] >= CONTACTS
        well &= abs(found["dockq"] - other["dockq"]) <= SAME
    lines.append(
        f"DockQ of all at least {DOCKQ}, F1 {CONTACTS}, in either order the same: "
        f"{'yes' if well else 'NO'}"
    )
    return lines, well


def main(arguments: Sequence[str] | None = None) -> int:
    """Entry point; returns the exit code, 1 where the complexes were not learnt."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--output", type=Path, default=Path("complexes_output"))
    parser.add_argument("overrides", nargs="*", help="settings for tffold-fit")
    options = parser.parse_args(arguments)
    records, before, run = (options.output / name for name in ("records", "before", "run"))
    start = time.monotonic()
    call(
        "records.cli",
        *("--mmcif", *(DEMO / "mmcif" / f"{entry}.cif.gz" for entry in ENTRIES)),
        *("--alignments", DEMO / "alignments"),
        *("--complexes", "--single-sequence"),
        *("--output", records),
    )
    small, other = make_sets(records, options.output)
    fit = (
        *("tffold.cli.fit", CONFIG, f"data.complexes=[{small}]"),
        f"data.validation=[{small}, {other}]",
        *options.overrides,
    )
    call(*fit, f"train.run_dir={before}", "train.steps=1")  # which changes next to nothing
    call(*fit, f"train.run_dir={run}")
    for folder in (before, run):
        call(*fit, f"train.run_dir={folder}", "--validate", folder)
    lines, well = told(scores(before), scores(run))
    print("\n".join(lines))
    print(f"this took {time.monotonic() - start:.0f} s")
    return 0 if well else 1


if __name__ == "__main__":
    sys.exit(main())
