"""Sequence searches with AlphaFold's programs, flags, limits and file names.

JackHMMER on UniRef90, MGnify and (for pairing chains) UniProt, HHblits on BFD and
Uniclust30, HHsearch on PDB70 with the UniRef90 alignment (supplement 1.2.2, 1.2.3) or, as
AlphaFold-Multimer, hmmsearch on the PDB's sequences; beside them MMseqs2 on any sequences
(``records.mmseqs``).  Every database is optional.  A result appears under its name only
when the search ended, so what is there is never done again.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from records.durable import write_whole
from records.errors import InputError
from records.hmmsearch import profile_alignment
from records.msa import parse_a3m, stockholm_to_a3m

QUERY_NAME = "query.fasta"
# Rows that AlphaFold keeps of what JackHMMER finds (supplement 1.2.2).
# DISCREPANCY: DeepMind's published code now keeps 501 of MGnify; the training data had 5,000.
UNIREF90_MAX_ROWS = 10_000
MGNIFY_MAX_ROWS = 5_000
UNIPROT_MAX_ROWS = 50_000  # AlphaFold-Multimer's
_JACKHMMER = (
    "-N", "1", "-E", "0.0001", "--incE", "0.0001",
    "--F1", "0.0005", "--F2", "0.00005", "--F3", "0.0000005",
)  # fmt: skip
_HHBLITS = (
    "-n", "3", "-e", "0.001", "-maxseq", "1000000", "-realign_max", "100000",
    "-maxfilt", "100000", "-min_prefilter_hits", "1000",
)  # fmt: skip
_HHSEARCH = ("-maxseq", "1000000")
_HMMSEARCH = (
    "--noali", "--F1", "0.1", "--F2", "0.1", "--F3", "0.1",
    "--incE", "100", "-E", "100", "--domE", "100", "--incdomE", "100",
)  # fmt: skip
_PACKAGES = {
    "jackhmmer": "hmmer",
    "hmmsearch": "hmmer",
    "hhblits": "hhsuite hhsuite-data",
    "hhsearch": "hhsuite",
    "mmseqs": "mmseqs2",
}


@dataclass(frozen=True)
class SearchOptions:
    """Databases ('' = do not search it) and resources of one search.

    ``uniref90``, ``mgnify``, ``uniprot`` and ``pdb_seqres`` are FASTA files; ``bfd``,
    ``uniclust30`` and ``pdb70`` are HH-suite prefixes (the path before ``_a3m.ffdata``);
    ``mmseqs`` is a FASTA file or an MMseqs2 database.  Results go to ``folder``/<chain>.
    """

    folder: str
    uniref90: str = ""
    mgnify: str = ""
    bfd: str = ""
    uniclust30: str = ""
    pdb70: str = ""
    cpu: int = 4  # threads of one program
    timeout: int = 7200  # seconds for one program; for MMseqs2, of each chain of a batch
    mmseqs: str = ""
    uniprot: str = ""
    pdb_seqres: str = ""

    def needed(self) -> list[str]:
        """The programs that the databases call for."""
        used = {
            "jackhmmer": self.uniref90 or self.mgnify or self.uniprot,
            "hhblits": self.bfd or self.uniclust30,
            "hhsearch": self.pdb70,
            "hmmsearch": self.pdb_seqres,
            "mmseqs": self.mmseqs,
        }
        return [program for program, database in used.items() if database]


def check_search(options: SearchOptions) -> None:
    """Raise InputError at once for a program or database that is not there."""
    if not options.needed():
        raise InputError(
            "no database to search",
            item="--search",
            mend="name --mmseqs, --uniref90, --mgnify, --uniprot, --bfd, --uniclust30, "
            "--pdb70 or --pdb-seqres",
        )
    for program in options.needed():
        if shutil.which(program) is None:
            raise InputError(
                f"program {program} is not on PATH",
                mend=f"apt-get install {_PACKAGES[program]}",
            )
    for name in ("uniref90", "mgnify", "uniprot", "pdb_seqres"):
        path = getattr(options, name)
        if path and not os.path.isfile(path):
            raise InputError("no such FASTA file", file=path, mend=_get(name))
    if options.mmseqs and not os.path.isfile(options.mmseqs):
        raise InputError(
            "no such FASTA file or MMseqs2 database", file=options.mmseqs, mend="check --mmseqs"
        )
    for name in ("bfd", "uniclust30", "pdb70"):
        prefix = getattr(options, name)
        for part in ("a3m", "hhm", "cs219") if prefix else ():
            for suffix in ("ffdata", "ffindex"):
                if not os.path.isfile(f"{prefix}_{part}.{suffix}"):
                    raise InputError(
                        "no such HH-suite database file",
                        file=f"{prefix}_{part}.{suffix}",
                        mend=f"the path before _a3m.ffdata; {_get(name)}",
                    )


def _get(database: str) -> str:
    script = {"uniclust30": "uniref30"}.get(database, database)
    option = database.replace("_", "-")
    return f"check --{option}, or get it: AlphaFold's scripts/download_{script}.sh DIR"


def run_program(command: Sequence[str], timeout: int) -> None:
    """Run a program to its end; on time-out it and its children are killed.

    Raises InputError with the program's last words.
    """
    process = subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        start_new_session=True,
    )
    try:
        _, message = process.communicate(timeout=timeout)
    except BaseException as error:
        with_children = process.pid
        try:
            os.killpg(with_children, signal.SIGKILL)
        except ProcessLookupError:
            pass
        process.wait()
        if isinstance(error, subprocess.TimeoutExpired):
            raise InputError(
                f"{command[0]} took longer than {timeout} s", mend="raise --search-timeout"
            ) from None
        raise
    if process.returncode:
        words = message.decode("latin-1").strip().splitlines()[-1:] or ["no message"]
        raise InputError(
            f"{command[0]} failed with status {process.returncode}",
            item=words[0][:300],
            mend="run it by hand: " + " ".join(command),
        )


def truncate_stockholm(data: bytes, max_rows: int) -> bytes:
    """The first ``max_rows`` sequences of a Stockholm file, in whole."""
    keep: set[bytes] = set()
    lines = []
    for line in data.splitlines(keepends=True):
        if not line.strip() or line.startswith((b"#=GF", b"#=GC", b"# STOCKHOLM", b"//")):
            lines.append(line)
            continue
        words = line.split(None, 2)
        name = words[1] if line.startswith((b"#=GS", b"#=GR")) and len(words) > 1 else words[0]
        if not line.startswith(b"#") and len(keep) < max_rows:
            keep.add(name)
        # #=GS lines stand before their sequences: of no use here, so they go.
        if name in keep and not line.startswith(b"#=GS"):
            lines.append(line)
    return b"".join(lines)


def open_folder(sequence: str, chain: str, options: SearchOptions) -> Path:
    """The folder of a chain's results, with its query in it.

    Raises InputError when it holds results for another sequence.
    """
    folder = Path(options.folder, chain)
    folder.mkdir(parents=True, exist_ok=True)
    query = folder / QUERY_NAME
    fasta = f">{chain}\n{sequence}\n".encode()
    if query.exists():
        if b"".join(query.read_bytes().split(b"\n")[1:]) != sequence.encode():
            raise InputError(
                "holds results for another sequence", file=folder, mend="delete the folder"
            )
    else:
        write_whole(query, fasta)
    return folder


def search_sequence(sequence: str, chain: str, options: SearchOptions) -> Path:
    """All searches for one chain that have not been done; the folder with the results.

    Raises InputError when a program fails or takes too long, or when the folder holds
    results for another sequence.
    """
    from records.mmseqs import search_batch

    folder = open_folder(sequence, chain, options)
    query = folder / QUERY_NAME
    if options.mmseqs:
        search_batch({sequence: chain}, options)
    with tempfile.TemporaryDirectory(prefix=".search-", dir=folder) as scratch:
        result = Path(scratch, "result")
        for database, name, limit in (
            (options.uniref90, "uniref90_hits.sto", UNIREF90_MAX_ROWS),
            (options.mgnify, "mgnify_hits.sto", MGNIFY_MAX_ROWS),
            (options.uniprot, "uniprot_hits.sto", UNIPROT_MAX_ROWS),
        ):
            if database and not (folder / name).exists():
                command = [
                    "jackhmmer", "-o", "/dev/null", "-A", str(result), "--noali", *_JACKHMMER,
                    "--cpu", str(options.cpu), str(query), database,
                ]  # fmt: skip
                run_program(command, options.timeout)
                write_whole(folder / name, truncate_stockholm(result.read_bytes(), limit))
        databases = [database for database in (options.bfd, options.uniclust30) if database]
        target = folder / "bfd_uniref_hits.a3m"
        if databases and not target.exists():
            command = [
                "hhblits", "-i", str(query), "-cpu", str(options.cpu), "-oa3m", str(result),
                "-o", "/dev/null", *_HHBLITS,
            ]  # fmt: skip
            for database in databases:
                command += ["-d", database]
            run_program(command, options.timeout)
            write_whole(target, result.read_bytes())
        target = folder / "pdb_hits.hhr"
        if options.pdb70 and not target.exists():
            profile = Path(scratch, "profile.a3m")
            uniref90 = folder / "uniref90_hits.sto"
            hhblits = folder / "bfd_uniref_hits.a3m"
            if uniref90.exists():
                profile.write_bytes(stockholm_to_a3m(uniref90.read_bytes()))
            else:
                known = (hhblits, folder / "mmseqs_hits.a3m", query)
                profile.write_bytes(next(path for path in known if path.exists()).read_bytes())
            command = [
                "hhsearch", "-i", str(profile), "-o", str(result), *_HHSEARCH,
                "-cpu", str(options.cpu), "-d", options.pdb70,
            ]  # fmt: skip
            run_program(command, options.timeout)
            write_whole(target, result.read_bytes())
        target = folder / "pdb_hits.sto"
        if options.pdb_seqres and not target.exists():
            write_whole(target, _hmmsearch(folder, Path(scratch), options))
    return folder


def _hmmsearch(folder: Path, scratch: Path, options: SearchOptions) -> bytes:
    """Hits of the chain's profile among the PDB's sequences, as Stockholm."""
    aligned, profile, result = scratch / "aligned.sto", scratch / "profile", scratch / "hits"
    known = ("uniref90_hits.sto", "bfd_uniref_hits.a3m", "mmseqs_hits.a3m", QUERY_NAME)
    best = next(folder / name for name in known if (folder / name).exists())
    data = best.read_bytes()
    aligned.write_bytes(data if best.suffix == ".sto" else profile_alignment(parse_a3m(data, best)))
    # JackHMMER's alignment says which columns are the query's.
    build = ["hmmbuild", "--hand", "--amino", "-o", "/dev/null", str(profile), str(aligned)]
    run_program(build, options.timeout)
    command = [
        "hmmsearch", *_HMMSEARCH, "--cpu", str(options.cpu), "-o", "/dev/null", "-A", str(result),
        str(profile), options.pdb_seqres,
    ]  # fmt: skip
    run_program(command, options.timeout)
    return result.read_bytes()
