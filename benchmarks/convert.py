"""Speed, memory and size of tffold-convert, and what that means for OpenProteinSet.

    python benchmarks/convert.py                     # about five minutes on two cores
    python benchmarks/convert.py --chains 100        # quicker

Measured on the bundled chains and on a generated set: copies of the bundled structures
with random alignments of the given depth.  The last table extrapolates; it says so.
"""

from __future__ import annotations

import argparse
import gzip
import io
import json
import os
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from Bio import AlignIO
from Bio.PDB.MMCIF2Dict import MMCIF2Dict
from Bio.SeqIO.FastaIO import SimpleFastaParser

from records import msa
from records.chemistry import RESTYPES
from records.mmcif import Entry
from records.msa import stockholm_to_a3m

DEMO = Path(__file__).parents[1] / "examples" / "demo"
CHAINS = ("1a7g_E", "1a8o_A", "1gbt_A", "1lcd_A", "1pzp_A", "1ubq_A", "2ofg_X", "4cup_A", "4zhl_U")


def best_of(function, repeats: int = 5) -> float:
    """Milliseconds of processor time of the fastest call."""
    times = []
    for _ in range(repeats):
        start = time.process_time()
        function()
        times.append(time.process_time() - start)
    return 1000 * min(times)


def random_a3m(sequence: str, depth: int, seed: int) -> bytes:
    """Rows of 30 to 90 % identity with gapped ends and a few insertions: like real ones in size."""
    rng = np.random.default_rng(seed)
    letters = np.frombuffer("".join(RESTYPES).encode(), np.uint8)
    query = np.frombuffer(sequence.encode(), np.uint8)
    lines = [b">query\n" + sequence.encode()]
    for row in range(depth - 1):
        identity = rng.uniform(0.3, 0.9)
        changed = rng.random(len(query)) > identity
        letter = np.where(changed, rng.choice(letters, len(query)), query)
        start, stop = sorted(rng.integers(0, len(query) + 1, 2))
        if stop - start < len(query) // 2:
            start, stop = 0, len(query)
        letter[:start] = letter[stop:] = ord("-")
        text = letter.astype(np.uint8).tobytes()
        if row % 4 == 0:
            middle = (start + stop) // 2
            text = text[:middle] + b"gks" + text[middle:]
        lines.append(b">UniRef90_%d/1-99\n" % row + text)
    return b"\n".join(lines) + b"\n"


def biopython_a3m(a3m: bytes) -> list[tuple[str, list[int]]]:
    """Rows and deletions by Biopython's FASTA reader and a loop (it has no A3M reader)."""
    rows = []
    for _, row in SimpleFastaParser(io.StringIO(a3m.decode())):
        aligned, deletions, count = [], [], 0
        for letter in row:
            if letter.islower():
                count += 1
            else:
                aligned.append(letter)
                deletions.append(count)
                count = 0
        rows.append(("".join(aligned), deletions))
    return rows


def parsers() -> float:
    """One chain of about 200 residues, against Biopython.

    Returns the milliseconds for its mmCIF.
    """
    structure = gzip.decompress((DEMO / "mmcif" / "4zhl.cif.gz").read_bytes())
    sequence = Entry(Path("4zhl.cif"), structure).chain("U").sequence
    rows: list[tuple[str, float, float]] = [
        (
            "mmCIF, 247 residues",
            best_of(lambda: Entry(Path("4zhl.cif"), structure).chain("U")),
            best_of(lambda: MMCIF2Dict(io.StringIO(structure.decode())), 3),
        )
    ]
    for depth in (100, 4800):
        a3m = random_a3m(sequence, depth, depth)
        rows.append(
            (
                f"a3m, {depth} rows",
                best_of(lambda a3m=a3m: msa.parse_a3m(a3m)),
                best_of(lambda a3m=a3m: biopython_a3m(a3m), 1),
            )
        )
    stockholm = gzip.decompress(
        (DEMO / "alignments" / "4zhl_U" / "uniref90_hits.sto.gz").read_bytes()
    )
    rows.append(
        (
            "Stockholm, 319 rows",
            best_of(lambda: msa.parse_stockholm(stockholm)),
            best_of(lambda: AlignIO.read(io.StringIO(stockholm.decode()), "stockholm"), 3),
        )
    )
    print(f"{'parsing, CPU ms':24}{'records':>10}{'Biopython':>12}{'ratio':>8}")
    for name, ours, theirs in rows:
        print(f"{name:24}{ours:10.2f}{theirs:12.1f}{theirs / ours:8.0f}")
    print()
    return rows[0][1]


def generate(folder: Path, chains: int, depth: int) -> int:
    """A set of so many chains; the bytes of its alignments as a3m."""
    (folder / "mmcif").mkdir(parents=True)
    raw = 0
    sources = []
    for chain in CHAINS:
        data = (DEMO / "mmcif" / f"{chain[:4]}.cif.gz").read_bytes()
        entry = Entry(Path(f"{chain[:4]}.cif"), gzip.decompress(data))
        sources.append((chain[5:], data, entry.chain(chain[5:]).sequence))
    for number in range(chains):
        name, data, sequence = sources[number % len(sources)]
        entry = f"{number // 1296 + 1}{np.base_repr(number % 1296 + 46656, 36)[-3:].lower()}"
        (folder / "mmcif" / f"{entry}.cif.gz").write_bytes(data)
        target = folder / "alignments" / f"{entry}_{name}"
        target.mkdir(parents=True)
        a3m = random_a3m(sequence, depth, number)
        raw += len(a3m)
        (target / "uniref90_hits.a3m").write_bytes(a3m)
    return raw


def watch(process: subprocess.Popen) -> tuple[float, float, float]:
    """Peak MB of the main process and of its largest descendant; processor seconds of all."""
    peaks: dict[int, float] = {}
    ticks: dict[int, int] = {}
    while process.poll() is None:
        family = {process.pid}
        for folder in sorted(Path("/proc").glob("[0-9]*"), key=lambda p: int(p.name)):
            try:
                fields = (folder / "stat").read_text().rsplit(")", 1)[1].split()
                pid = int(folder.name)
                if pid == process.pid or int(fields[1]) in family:
                    family.add(pid)
                    ticks[pid] = int(fields[11]) + int(fields[12])
                    found = re.search(r"VmHWM:\s+(\d+)", (folder / "status").read_text())
                    peaks[pid] = max(peaks.get(pid, 0), int(found[1]) / 1024 if found else 0)
            except (OSError, IndexError):
                continue  # gone meanwhile
        time.sleep(0.05)
    workers = [peak for pid, peak in peaks.items() if pid != process.pid]
    seconds = sum(ticks.values()) / os.sysconf("SC_CLK_TCK")
    return peaks.get(process.pid, 0.0), max(workers, default=0.0), seconds


def convert(folder: Path, output: Path, workers: int) -> dict:
    """One conversion in a process of its own."""
    command = [
        sys.executable, "-m", "records.cli", "--mmcif", str(folder / "mmcif"),
        "--alignments", str(folder / "alignments"), "--output", str(output),
        "--workers", str(workers), "--quiet",
    ]  # fmt: skip
    start = time.perf_counter()
    with subprocess.Popen(command, stdout=subprocess.DEVNULL) as process:
        main, worker, cpu = watch(process)
    wall = time.perf_counter() - start
    summary = json.loads((output / "summary.json").read_text())
    return {
        "wall": wall, "cpu": cpu, "main": main, "worker": worker, "chains": summary["written"],
        "bytes": sum(summary["shards"].values()),
    }  # fmt: skip


def report(name: str, run: dict, raw: int, workers: int) -> None:
    chains = run["chains"]
    print(
        f"{name:24}{workers:8d}{chains:8d}{run['wall']:9.1f}{run['cpu']:8.1f}"
        f"{chains / run['wall']:10.1f}{chains / run['cpu']:14.1f}{run['main']:9.0f}"
        f"{run['worker']:11.0f}{run['bytes'] / chains / 1000:10.1f}{raw / run['bytes']:9.2f}"
    )


def sizing(mmcif_ms: float, seconds_per_megabyte: float, record_per_raw: float) -> None:
    """OpenProteinSet from what was measured here."""
    print(
        "\nEXTRAPOLATED, not run: OpenProteinSet. Time and size as proportional to the bytes of\n"
        "a3m (random rows here: real ones compress better), 5.0 MB of them a PDB chain (606 GiB\n"
        "over 131,000) and, assumed, 1.5 MB a distillation chain; for a PDB chain also reading\n"
        "20 templates and, assumed, 0.3 MB of their coordinates."
    )
    print(f"{'set':14}{'chains':>10}{'core-hours':>12}{'TB':>8}{'shards of 256 MB':>18}")
    for name, chains, raw, templates in (
        ("PDB", 131_000, 5.0, 20),
        ("distillation", 270_000, 1.5, 0),
    ):
        seconds = raw * seconds_per_megabyte + templates * mmcif_ms / 1000
        size = chains * (raw * record_per_raw + 0.015 * templates) * 1e6
        print(
            f"{name:14}{chains:10,}{chains * seconds / 3600:12.0f}{size / 1e12:8.2f}"
            f"{size / (256 << 20):18.0f}"
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--chains", type=int, default=1000, help="chains of the generated set")
    parser.add_argument("--depth", type=int, default=1000, help="rows of their alignments")
    args = parser.parse_args()
    cores = len(os.sched_getaffinity(0))
    print(f"load average before: {os.getloadavg()[0]:.1f} (others' work slows wall-clock figures)")
    print(f"{cores} cores, Python {sys.version.split()[0]}, numpy {np.__version__}\n")
    mmcif_ms = parsers()
    columns = (
        ("", 24), ("workers", 8), ("chains", 8), ("wall s", 9), ("CPU s", 8), ("chains/s", 10),
        ("chains/CPU s", 14), ("MB main", 9), ("MB worker", 11), ("kB/chain", 10), ("a3m/rec", 9),
    )  # fmt: skip
    print("".join(f"{word:>{width}}" for word, width in columns))
    with tempfile.TemporaryDirectory(prefix="tffold-bench-") as scratch:
        folder = Path(scratch)
        raw = sum(
            len(stockholm_to_a3m(gzip.decompress(p.read_bytes())))
            for p in DEMO.glob("alignments/*/*.sto.gz")
        )
        report("bundled", convert(DEMO, folder / "bundled", 1), raw, 1)
        small = max(args.chains // 10, 1)
        raw_small = generate(folder / "small", small, args.depth)
        report(
            f"generated, {args.depth} rows",
            convert(folder / "small", folder / "s1", 1),
            raw_small,
            1,
        )
        raw = generate(folder / "large", args.chains, args.depth)
        runs = {}
        for workers in sorted({1, 2, cores}):
            runs[workers] = convert(folder / "large", folder / f"l{workers}", workers)
            report(f"generated, {args.depth} rows", runs[workers], raw, workers)
        first = runs[1]
        for workers, run in runs.items():
            if workers > 1:
                print(f"speed-up with {workers} workers: {first['wall'] / run['wall']:.2f}")
                same = all(
                    (folder / f"l{workers}" / path.relative_to(folder / "l1")).read_bytes()
                    == path.read_bytes()
                    for path in (folder / "l1").rglob("*")
                    if path.is_file() and not path.name.startswith("summary")
                )
                print(f"bytes the same as with 1 worker: {same}")
        sizing(mmcif_ms, first["cpu"] / (raw / 1e6), first["bytes"] / raw)


if __name__ == "__main__":
    main()
