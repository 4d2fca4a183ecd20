"""The command line of ``tffold-convert``, and what other commands share of it."""

from __future__ import annotations

import argparse
import datetime
import importlib.metadata
import os
from collections.abc import Callable, Sequence
from pathlib import Path

from records import afdb
from records.convert import ConvertOptions
from records.engine import CACHE_DIR, SHARD_BYTES
from records.search import SearchOptions, check_search

BEAM_PARTS = 16

EXAMPLE = """examples:
  tffold-convert --mmcif examples/demo/mmcif --alignments examples/demo/alignments --output out
  tffold-convert --mmcif pdb_mmcif --alignments openproteinset/pdb --output out \\
      --duplicates duplicate_pdb_chains.txt --clusters clusters.txt \\
      --max-release-date 2018-04-30 --workers 64 --shard 3/20
"""


def iso_date(text: str) -> str:
    try:
        return "" if not text else datetime.date.fromisoformat(text).isoformat()
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not a date YYYY-MM-DD") from None


def _part(text: str) -> tuple[int, int]:
    first, slash, second = text.partition("/")
    if slash and first.isdigit() and second.isdigit() and int(first) < int(second):
        return int(first), int(second)
    raise argparse.ArgumentTypeError(f"{text!r} is not I/N with I from 0 to N-1")


def _whole(least: int) -> Callable[[str], int]:
    def parse(text: str) -> int:
        if not text.lstrip("-").isdigit() or int(text) < least:
            raise argparse.ArgumentTypeError(f"{text!r} is not a whole number from {least} on")
        return int(text)

    return parse


class ShowVersion(argparse.Action):
    """``--version``: prints the installed package's."""

    def __init__(self, option_strings: Sequence[str], dest: str) -> None:
        super().__init__(option_strings, dest, nargs=0, help="print the version and end")

    def __call__(self, parser: argparse.ArgumentParser, *_: object) -> None:
        print(f"{parser.prog} {importlib.metadata.version('tffold')}")
        parser.exit()


def add_search_arguments(parser: argparse.ArgumentParser) -> None:
    """What is searched for chains without alignments, and how."""
    add = parser.add_argument_group("searching, for chains without alignments").add_argument
    add("--search", metavar="DIR", help="search the databases given below, keep the results in DIR")
    add(
        "--mmseqs",
        default="",
        metavar="FASTA",
        help="MMseqs2, one search for all chains: what a "
        "machine without a cluster can run; or an MMseqs2 database (apt-get install mmseqs2)",
    )
    add("--uniref90", default="", metavar="FASTA", help="JackHMMER (apt-get install hmmer)")
    add("--mgnify", default="", metavar="FASTA", help="JackHMMER")
    add("--uniprot", default="", metavar="FASTA", help="JackHMMER, for pairing a complex's chains")
    add("--bfd", default="", metavar="PREFIX", help="HHblits (apt-get install hhsuite)")
    add("--uniclust30", default="", metavar="PREFIX", help="HHblits; UniRef30 too")
    add("--pdb70", default="", metavar="PREFIX", help="HHsearch, for templates")
    add("--pdb-seqres", default="", metavar="FASTA", help="hmmsearch, for templates")
    add("--search-cpu", type=_whole(1), default=4, metavar="N", help="threads of a program")
    add(
        "--search-timeout",
        type=_whole(1),
        default=7200,
        metavar="S",
        help="seconds after which a search is given up (default %(default)s)",
    )


def search_options(args: argparse.Namespace) -> SearchOptions | None:
    """The searches that a command line asks for, if any.  Raises InputError."""
    if not args.search:
        return None
    search = SearchOptions(
        args.search, args.uniref90, args.mgnify, args.bfd, args.uniclust30, args.pdb70,
        args.search_cpu, args.search_timeout, args.mmseqs, args.uniprot,
        args.pdb_seqres,
    )  # fmt: skip
    check_search(search)
    Path(args.search).mkdir(parents=True, exist_ok=True)
    return search


def build_parser() -> argparse.ArgumentParser:
    """The command line."""
    defaults = ConvertOptions()
    parser = argparse.ArgumentParser(
        prog="tffold-convert",
        description="Convert structures and alignments to TFRecords for tffold-fit.",
        epilog=EXAMPLE,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action=ShowVersion)
    add = parser.add_argument_group("input").add_argument
    add(
        "--mmcif",
        nargs="+",
        default=[],
        metavar="PATH",
        help="mmCIF files (.cif, .cif.gz) or folders of them; @FILE reads paths from a list; "
        "with --distillation also PDB files, and @manifest.jsonl of tffold-predict --distill",
    )
    add(
        "--alignments",
        nargs="+",
        default=[],
        metavar="PATH",
        help="folders of alignments (OpenProteinSet, AlphaFold output, ColabFold a3m, "
        "alignment_db) or alignment_db .index files",
    )
    add("--chains", metavar="FILE", help="convert only these chains, one a line (1ubq_A)")
    add(
        "--limit",
        type=_whole(0),
        default=0,
        metavar="N",
        help="convert only the first N structures that have an alignment, 0 = all",
    )
    add(
        "--duplicates",
        metavar="FILE",
        help="duplicate_pdb_chains.txt: a line of identical chains shares one alignment",
    )
    add("--clusters", metavar="FILE", help="sequence clusters, one a line: sampling weights")
    add("--max-release-date", type=iso_date, default="", metavar="DATE", help="training cut-off")
    add("--min-length", type=_whole(1), default=defaults.min_length)
    add("--max-length", type=_whole(0), default=defaults.max_length, help="0 = any")
    add("--min-msa-depth", type=_whole(1), default=defaults.min_msa_depth)
    add("--max-msa-rows", type=_whole(0), default=defaults.max_msa_rows, help="0 = all")
    add(
        "--resolution",
        default="",
        metavar="Å|FILE",
        dest="resolutions",
        help="of all chains, or a file with a chain and its resolution a line (1ubq_A 1.8), where "
        "it is known by other means than the structure's file: confidence heads learn only from "
        "chains of 0.1 to 3 Å, so without one they learn nothing from PDB files",
    )
    add("--keep-unknown-residues", action="store_true", help="as X, instead of rejecting the chain")
    add(
        "--single-sequence",
        action="store_true",
        help="write chains without alignment with the query alone, instead of rejecting them",
    )
    add = parser.add_argument_group("templates").add_argument
    add(
        "--template-mmcif",
        metavar="DIR",
        help="structures of templates (default: --mmcif, when it is one folder)",
    )
    add("--no-templates", action="store_true")
    add(
        "--template-dates",
        default="",
        metavar="FILE",
        help="JSON of release dates (OpenFold's mmcif_cache.json): spares parsing",
    )
    add("--max-template-date", type=iso_date, default="", metavar="DATE")
    add(
        "--template-lag-days",
        type=_whole(0),
        default=defaults.template_lag_days,
        metavar="N",
        help="templates must be released so many days before the chain (default %(default)s)",
    )
    add("--max-templates", type=_whole(0), default=defaults.max_templates, metavar="N")
    add_search_arguments(parser)
    add = parser.add_argument_group("complexes").add_argument
    add(
        "--complexes",
        action="store_true",
        help="a record for each file's assembly, not for each chain; lengths are of all chains",
    )
    add(
        "--assembly",
        default=defaults.assembly,
        metavar="NAME",
        help="which assembly of the file (default %(default)s), or asym: the chains as they are",
    )
    add("--min-chains", type=_whole(1), default=defaults.min_chains, metavar="N")
    add(
        "--max-chains",
        type=_whole(1),
        default=defaults.max_chains,
        metavar="N",
        help="complexes of more are rejected (default %(default)s)",
    )
    add = parser.add_argument_group("distillation").add_argument
    add(
        "--distillation",
        action="store_true",
        help="structures are predictions with confidence (pLDDT) as B-factors; the file's name "
        "is the chain's",
    )
    add(
        "--afdb",
        metavar="FILE",
        help="convert the predictions of AlphaFold DB for these accessions, one a line (P69905); "
        "implies --distillation",
    )
    add("--afdb-source", default=afdb.BUCKET, metavar="URL", help="(default %(default)s)")
    add("--afdb-version", type=_whole(1), default=afdb.VERSION, metavar="N")
    add("--min-mean-confidence", type=float, default=defaults.min_mean_confidence, metavar="C")
    add(
        "--min-residue-confidence",
        type=float,
        default=defaults.min_residue_confidence,
        metavar="C",
        help="residues at or below are masked (default %(default)s)",
    )
    add = parser.add_argument_group("output").add_argument
    add("--output", required=True, metavar="DIR", help="shards go to DIR/train, DIR/validation")
    split = parser.add_mutually_exclusive_group()
    split.add_argument("--validation-chains", metavar="FILE", help="these chains are validation")
    split.add_argument(
        "--validation-from",
        type=iso_date,
        default="",
        metavar="DATE",
        help="chains released then or later are validation",
    )
    add(
        "--shard-size",
        type=_whole(1),
        default=SHARD_BYTES >> 20,
        metavar="MB",
        help="of a shard file (default %(default)s)",
    )
    add("--overwrite", action="store_true", help="discard an earlier conversion in DIR")
    add = parser.add_argument_group("running").add_argument
    add(
        "--workers",
        type=_whole(1),
        default=len(os.sched_getaffinity(0)),
        metavar="N",
        help="processes (default: the processors, here %(default)s)",
    )
    add(
        "--shard",
        type=_part,
        default=(0, 1),
        metavar="I/N",
        dest="part",
        help="convert the I-th of N parts (from 0), for job arrays",
    )
    add(
        "--chain-timeout",
        type=_whole(0),
        default=defaults.chain_timeout,
        metavar="S",
        help="seconds after which a chain is given up, 0 = never (default %(default)s)",
    )
    add(
        "--runner",
        metavar="NAME",
        help="spread --parts parts over an Apache Beam runner instead "
        "(DirectRunner, DaskRunner, FlinkRunner, SparkRunner, DataflowRunner); needs tffold[beam]",
    )
    add(
        "--parts",
        type=_whole(1),
        metavar="N",
        help=f"parts to spread with --runner (default {BEAM_PARTS})",
    )
    add(
        "--cache-dir",
        default=CACHE_DIR,
        metavar="DIR",
        help="where this host keeps, while it runs, what is read from or written to stores "
        "(default %(default)s)",
    )
    add("--cache-gb", type=_whole(1), default=20, metavar="N", help="of what is read there")
    add("--quiet", action="store_true", help="no progress bar")
    return parser
