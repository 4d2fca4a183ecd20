"""What a shard holds: ``python -m records.inspect SHARD…``.

Prints, for each shard, its records and chains, each feature's dtype, shape
and stored size, and whether the checksums hold.  Exit code 1 when any does
not, 2 when a file cannot be read at all.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections import defaultdict
from collections.abc import Sequence

import numpy as np

from records import example, paths, shards
from records.errors import CorruptRecordError, InputError
from records.schema import RECORD_FEATURES, STRING


def _size(count: float) -> str:
    for unit in ("B", "KiB", "MiB", "GiB"):
        if count < 1024 or unit == "GiB":
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1024
    raise AssertionError


def _span(values: Sequence[int]) -> str:
    low, high = min(values), max(values)
    return str(low) if low == high else f"{low}..{high}"


def stored_sizes(serialized: bytes) -> dict[str, int]:
    """Bytes that each feature of a record takes in the file."""
    features = example.Example.FromString(serialized).features.feature
    return {name: features[name].ByteSize() for name in RECORD_FEATURES if name in features}


def describe(shard: str | os.PathLike, *, chains: bool = True) -> tuple[list[str], int]:
    """The report on one shard, line by line, and the number of faults found."""
    faults: list[str] = []
    rows: list[str] = []
    shapes: dict[str, list[tuple[int, ...]]] = defaultdict(list)
    raw: dict[str, int] = defaultdict(int)
    stored: dict[str, int] = defaultdict(int)
    records = 0
    for number, (offset, length, data) in enumerate(shards.scan(shard)):
        records += 1
        try:
            if isinstance(data, CorruptRecordError):
                raise data
            assembly = example.decode_assembly(data)
        except InputError as error:
            faults.append(f"  record {number} at byte {offset}: {error.what}")
            continue
        entry = example.index_entry(assembly)
        rows.append(
            f"  {entry['chain_id']:<12} {entry['num_res']:>5} residues {entry['num_msa']:>6} rows "
            f"{entry['num_templates']:>3} templates {entry['resolution']:>6.2f} Å "
            f"{entry['release_date'] or '-':<10} {_size(length):>10}"
            + (f"  {entry['num_chains']} chains" if entry["num_chains"] > 1 else "")
            + ("  distillation" if entry["is_distillation"] else "")
        )
        for name, size in stored_sizes(data).items():
            stored[name] += size
            text = RECORD_FEATURES[name].dtype == STRING
            of_each = assembly.entities if name in assembly.entities[0] else (assembly.features,)
            for value in (values[name] for values in of_each):
                shapes[name].append((len(value),) if isinstance(value, list) else np.shape(value))
                raw[name] += len("".join(value)) if text else np.asarray(value).nbytes
    holds = "all checksums hold" if not faults else f"{len(faults)} damaged or unreadable"
    index = "present" if paths.exists(shards.index_path(shard)) else "missing (rebuilt when read)"
    lines = [f"{shard}: {records} records, {_size(paths.info(shard).size)}, {holds}, index {index}"]
    lines += faults
    if chains:
        lines += rows
    if shapes:
        lines.append(f"  {'feature':<28} {'dtype':<8} {'shape':<28} {'stored':>10} {'raw':>10}")
    for name, seen in shapes.items():
        shape = ", ".join(_span([s[axis] for s in seen]) for axis in range(len(seen[0])))
        lines.append(
            f"  {name:<28} {RECORD_FEATURES[name].dtype:<8} {'[' + shape + ']':<28} "
            f"{_size(stored[name]):>10} {_size(raw[name]):>10}"
        )
    return lines, len(faults)


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="python -m records.inspect", description="Show what shards hold and check them."
    )
    parser.add_argument("shard", nargs="+", help="shard file, folder of shards, or pattern")
    parser.add_argument("--no-chains", action="store_true", help="leave out the list of chains")
    options = parser.parse_args(arguments)
    faults = 0
    try:
        for shard in shards.find_shards(options.shard):
            lines, found = describe(shard, chains=not options.no_chains)
            print("\n".join(lines))
            faults += found
    except (InputError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
