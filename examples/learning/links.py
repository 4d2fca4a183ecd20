"""Which chains are relatives: MMseqs2, all chains against all."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path

from records.durable import whole_folder
from records.search import run_program

MAX_EVALUE = 1e-2
MIN_IDENTITY = 0.3
_TIMEOUT = 3600  # seconds
# As sensitive as it gets; every hit counts, however short.
_SEARCH = ("-s", "7.5", "-e", str(MAX_EVALUE), "--max-seqs", "10000")


def find_links(sequences: Mapping[str, str], folder: Path, threads: int) -> list[tuple[str, str]]:
    """Pairs of chains with an e-value below 1e-2, or in one cluster of 30 % identity.

    The tables are kept in ``folder``.  Raises InputError when MMseqs2 fails.
    """
    names = list(sequences)  # MMseqs2 takes some chains' names apart: it gets numbers
    if not folder.exists():
        with whole_folder(folder) as partial:
            fasta = partial / "chains.fasta"
            fasta.write_text("".join(f">{i}\n{sequences[name]}\n" for i, name in enumerate(names)))
            (partial / "chains.txt").write_text("".join(f"{name}\n" for name in names))
            scratch = partial / "scratch"
            common = ("--threads", str(threads), "-v", "1")
            run_program(
                ["mmseqs", "easy-search", fasta, fasta, partial / "hits.tsv", scratch, *_SEARCH,
                 "--format-output", "query,target", *common],
                _TIMEOUT,
            )  # fmt: skip
            run_program(
                ["mmseqs", "easy-cluster", fasta, partial / "identity", scratch, "--min-seq-id",
                 str(MIN_IDENTITY), "-c", "0.5", "--cov-mode", "1", "--cluster-mode", "1", *common],
                _TIMEOUT,
            )  # fmt: skip
            shutil.rmtree(scratch)
    known = (folder / "chains.txt").read_text().splitlines()
    return [*_pairs(folder / "hits.tsv", known), *_pairs(folder / "identity_cluster.tsv", known)]


def _pairs(table: Path, names: list[str]) -> Iterator[tuple[str, str]]:
    for line in table.read_text().splitlines():
        first, second = (names[int(word)] for word in line.split("\t"))
        if first < second:
            yield first, second
        elif second < first:
            yield second, first
