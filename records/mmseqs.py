"""One MMseqs2 search for many chains: what a machine without a cluster can run.

Two iterations against one sequence database, e-value 1e-3, half of the query covered, then
filtered to 95 % identity and 512 diverse rows.  Each step ends in files of the working folder, and
the same command goes on after the last one that ended.
"""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Mapping
from pathlib import Path

from records.durable import clear_partials, whole_folder, write_whole
from records.errors import InputError
from records.search import SearchOptions, open_folder, run_program

RESULT_NAME = "mmseqs_hits.a3m"
_SEARCH = (
    "--num-iterations", "2", "-e", "0.001", "--e-profile", "0.001", "-c", "0.5", "--cov-mode", "2",
    "--max-seqs", "2000",
)  # fmt: skip
_ALIGNMENT = (
    "--msa-format-mode", "5", "--filter-msa", "1", "--max-seq-id", "0.95", "--diff", "512",
)  # fmt: skip
_MAX_SECONDS = 14 * 86400  # the system's clock for waiting ends at 24 days
_FULL_DISK = 64 << 20  # bytes left when a program that failed is taken to have filled the disk


def search_batch(
    wanted: Mapping[str, str], options: SearchOptions, threads: int | None = None
) -> None:
    """Search ``options.mmseqs`` for every sequence -> chain that has no result yet.

    Results are ``options.folder``/<chain>/mmseqs_hits.a3m, the query alone where nothing was
    found.  A chain whose folder holds another sequence is left out (``search_sequence`` tells
    it).  Raises InputError when the program fails, with all that was done so far kept.
    """
    missing = {}
    for sequence, chain in wanted.items():
        try:
            if not (open_folder(sequence, chain, options) / RESULT_NAME).exists():
                missing[chain] = sequence
        except InputError:
            continue
    # Named after all that was asked for, so that it is found again when some results are out.
    state = os.stat(options.mmseqs)
    asked = repr((sorted(wanted.items()), options.mmseqs, state.st_size, state.st_mtime_ns))
    work = Path(options.folder, f".mmseqs-{hashlib.sha256(asked.encode()).hexdigest()[:16]}")
    if not missing:
        shutil.rmtree(work, ignore_errors=True)
        return
    work.mkdir(exist_ok=True)
    clear_partials(work, "")
    try:
        _run_steps(missing, work, options, threads or options.cpu)
        _hand_out(missing, work, options)
    except InputError as error:
        if shutil.disk_usage(work).free < _FULL_DISK:
            raise InputError(
                "the disk is full", file=work, mend="make room: the same command goes on"
            ) from error
        raise
    shutil.rmtree(work)


def _run_steps(chains: Mapping[str, str], work: Path, options: SearchOptions, threads: int) -> None:
    """The steps that have not ended yet.  ``work``/found: an A3M for each row of queries.tsv."""
    queries = work / "queries.fasta"
    if not queries.exists():
        # Names of our own: a chain's may hold what MMseqs2 takes apart.
        write_whole(work / "chains.txt", "".join(f"{chain}\n" for chain in chains))
        write_whole(queries, "".join(f">q{i}\n{s}\n" for i, s in enumerate(chains.values())))
    limit = min(options.timeout * len(chains), _MAX_SECONDS)

    def step(name: str, *command: str) -> None:
        """Writes a folder ``name``, in whole or not at all."""
        if not (work / name).exists():
            with whole_folder(work / name) as folder:
                run_program([part.replace("{out}", str(folder)) for part in command], limit)

    target = options.mmseqs
    if not os.path.isfile(target + ".dbtype"):
        step("target", "mmseqs", "createdb", options.mmseqs, "{out}/db", "-v", "1")
        target = str(work / "target" / "db")
    step("query", "mmseqs", "createdb", str(queries), "{out}/db", "-v", "1")
    query = str(work / "query" / "db")
    scratch = work / "scratch"  # MMseqs2 finds its own finished steps here
    scratch.mkdir(exist_ok=True)
    common = ("--threads", str(threads), "-v", "1")
    step("hits", "mmseqs", "search", query, target, "{out}/db", str(scratch), *_SEARCH, *common)
    hits = str(work / "hits" / "db")
    step("msa", "mmseqs", "result2msa", query, target, hits, "{out}/db", *_ALIGNMENT, *common)
    step(
        "found", "mmseqs", "unpackdb", str(work / "msa" / "db"), "{out}",
        "--unpack-name-mode", "0", "--unpack-suffix", ".a3m", *common,
    )  # fmt: skip


def _hand_out(missing: Mapping[str, str], work: Path, options: SearchOptions) -> None:
    """Gives each chain its alignment; MMseqs2 numbers the queries in an order of its own."""
    chains = (work / "chains.txt").read_text().splitlines()
    for line in (work / "query" / "db.lookup").read_text().splitlines():
        key, name, *_ = line.split("\t")
        chain = chains[int(name[1:])]
        if chain in missing:
            path = work / "found" / f"{key}.a3m"
            rows = path.read_bytes().replace(b"\0", b"") if path.exists() else b""
            write_whole(
                Path(options.folder, chain, RESULT_NAME),
                rows or f">{chain}\n{missing[chain]}\n".encode(),
            )
