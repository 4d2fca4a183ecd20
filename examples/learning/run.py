"""From two Debian packages to a network that has learnt from thousands of chains.

    python -m examples.learning.run --output learning_output [train.steps=1000 ...]

Stages: packages, chains, alignments, split, records, training, evaluation, report.  Each keeps what
it made, and the same command goes on after the last one that ended.
"""

from __future__ import annotations

import argparse
import os
import random
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from examples.learning import links, packages, sequences, split, structures
from records.durable import clear_partials, whole_folder
from records.errors import InputError
from records.mmseqs import RESULT_NAME, search_batch
from records.search import SearchOptions, check_search

ROOT = Path(__file__).parents[2]
CONFIG = ROOT / "configs" / "learning.yaml"
STAGES = (
    "packages", "chains", "alignments", "split", "records", "training", "evaluation", "report",
)  # fmt: skip
NEEDED_BYTES = 6_000_000_000  # packages 0.6, what is taken out 1.1, MMseqs2's tables 3
RESOLUTION = 2.0  # Å; the packages tell none, and confidence heads learn only where there is one
DROPOUTS = (
    *(
        f"{stack}.{module}dropout"
        for stack in ("evoformer", "extra_msa_stack")
        for module in ("msa_row_attention.", "triangle_multiplication_", "triangle_attention.")
    ),
    "structure_module.dropout",
)


class Part(NamedTuple):
    """A part of training: until which step, and with which settings."""

    end: int
    crop: int
    rate: float
    recycles: int
    dropout: float = 0.0
    min_rows: int = 16  # of an alignment, for its chain to be learnt from

    def settings(self) -> list[str]:
        """As overrides of the configuration, but for the end."""
        return [
            f"data.crop_size={self.crop}",
            f"data.train_filter.min_msa_rows={self.min_rows}",
            f"train.learning_rate={self.rate}",
            f"model.num_recycle={self.recycles}",
            f"validation.num_recycle={self.recycles}",
            *(f"model.{name}_rate={self.dropout}" for name in DROPOUTS),
        ]


# Short crops first, where a step is quick; a lower rate where a high one leads no further; dropout
# and chains with fewer rows when held-out losses fall no more.
CURRICULUM = (
    Part(5000, 64, 1e-3, 0),
    Part(12_000, 64, 3e-4, 1),
    Part(15_000, 96, 3e-4, 1),
    Part(18_000, 64, 3e-4, 1, dropout=0.1, min_rows=8),
    Part(100_000, 64, 1e-4, 1, dropout=0.1, min_rows=8),
)


class Run:
    """One run's folders, and its stages as methods of the same names."""

    def __init__(self, options: argparse.Namespace) -> None:
        self.options = options
        self.output: Path = options.output
        self.cache: Path = options.packages or self.output / "packages"
        self.pdb, self.found = self.output / "pdb", self.output / "alignments"
        of = f"_{options.train_chains}" if options.train_chains else ""
        self.chosen, self.validation = (
            self.output / f"chains{of}.txt",
            self.output / "validation.txt",
        )
        self.families = self.output / f"families{of}.txt"
        self.table = self.output / "split.tsv" if options.new_split else split.PUBLISHED
        self.shards, self.run = self.output / f"records{of}", self.output / f"run{of}"
        self.evaluated = self.output / f"evaluation{of}.json"

    def packages(self) -> None:
        """Both packages, and the files of them that are needed."""
        self.cache.mkdir(parents=True, exist_ok=True)
        made = self._unpacked(packages.SEQUENCES).exists()
        if not made:
            packages.check_space(self.cache, NEEDED_BYTES)
        for package in (packages.STRUCTURES, packages.SEQUENCES):
            if not self._unpacked(package).exists():
                file = packages.fetch(package, self.cache)
                packages.unpack(package, file, self._unpacked(package))

    def _unpacked(self, package: packages.Package) -> Path:
        return self.output / "unpacked" / package.name

    def chains(self) -> None:
        """Structures as PDB files, and the sequences to align them with as FASTA."""
        fasta = self.output / "sequences.fasta"
        clear_partials(self.output, "")
        if not fasta.exists():
            volumes = packages.blast_volumes(self._unpacked(packages.SEQUENCES), packages.SEQUENCES)
            number = sequences.write_fasta(volumes, fasta)
            print(f"{number:,} sequences")
        if self.pdb.exists():
            return
        known = split.read_split(split.PUBLISHED)
        (name,) = packages.STRUCTURES.files
        entries = structures.read_database(self._unpacked(packages.STRUCTURES) / name)
        with whole_folder(self.pdb) as folder:
            count = 0
            for entry in entries:
                if entry.name in known and not structures.reason_against(entry):
                    lines = structures.pdb_lines(entry)
                    (folder / f"{entry.name}.pdb").write_text("".join(lines))
                    (folder / f"{entry.name}.txt").write_text(entry.sequence)
                    count += 1
        print(f"{count:,} of {len(entries):,} chains are learnt from or held out")

    def _sequences(self) -> dict[str, str]:
        return {path.stem: path.read_text() for path in sorted(self.pdb.glob("*.txt"))}

    def alignments(self) -> None:
        """One MMseqs2 search for all chains."""
        search = SearchOptions(
            str(self.found), mmseqs=str(self.output / "sequences.fasta"), cpu=self.options.threads
        )
        check_search(search)
        self.found.mkdir(exist_ok=True)
        wanted: dict[str, str] = {}
        same: dict[str, list[str]] = {}
        for chain, sequence in self._sequences().items():
            same.setdefault(wanted.setdefault(sequence, chain), []).append(chain)
        search_batch(wanted, search, threads=self.options.threads)
        for first, others in same.items():
            for chain in others[1:]:
                if not (self.found / chain).exists():
                    (self.found / chain).symlink_to(first)

    def split(self) -> None:
        """Which chains are for what, held against an all-against-all search of our own."""
        chains = self._sequences()
        pairs = links.find_links(chains, self.output / "links", self.options.threads)
        if self.options.new_split and not self.table.exists():
            if self.options.superfamilies:
                pairs += split.superfamily_links(self.options.superfamilies, chains)
            component = split.components(list(chains), pairs)
            lengths = {chain: len(sequence) for chain, sequence in chains.items()}
            rows = {chain: self._rows(chain) for chain in chains}
            use = split.choose(component, lengths, rows, self.options.new_split)
            split.write_split(self.table, component, use)
        uses = split.read_split(self.table)
        crossing = split.crossing(uses, pairs)
        if crossing:
            raise InputError(
                f"{len(crossing)} links between training and validation",
                file=self.table, item=" ".join(crossing[0]), mend="make a split anew: --new-split",
            )  # fmt: skip
        of_use: dict[str, list[str]] = {use: [] for use in split.USES}
        for chain in chains:
            if chain in uses:
                of_use[uses[chain][1]].append(chain)
        train, held = of_use[split.TRAIN], of_use[split.VALIDATION]
        if self.options.train_chains:
            random.Random(0).shuffle(train)
            del train[self.options.train_chains :]
        self.chosen.write_text("".join(f"{chain}\n" for chain in [*train, *held]))
        self.validation.write_text("".join(f"{chain}\n" for chain in held))
        families: dict[str, list[str]] = {}
        for chain in train:
            families.setdefault(uses[chain][0], []).append(chain)
        self.families.write_text("".join(f"{' '.join(chains)}\n" for chains in families.values()))
        print(f"{len(train):,} chains to learn from, {len(held):,} held out")

    def _rows(self, chain: str) -> int:
        return (self.found / chain / RESULT_NAME).read_bytes().count(b">")

    def records(self) -> None:
        """TFRecords of what is learnt from and of what is held out."""
        call(
            "records.cli", "--distillation", "--mmcif", self.pdb, "--alignments", self.found,
            "--chains", self.chosen, "--validation-chains", self.validation, "--no-templates",
            "--clusters", self.families, "--resolution", RESOLUTION,
            "--workers", self.options.threads, "--output", self.shards,
        )  # fmt: skip

    def training(self) -> None:
        """``tffold-fit`` with ``configs/learning.yaml``; it resumes for itself.

        Each part of ``CURRICULUM`` goes on with the same run; one that was passed ends at once.
        """
        last = CURRICULUM[-1].end
        others = []
        for text in self.options.overrides:
            name, _, value = text.partition("=")
            if name == "train.steps" and value.isdecimal():
                last = int(value)
            else:
                others.append(text)
        begin = 0
        for part in (*CURRICULUM[:-1], CURRICULUM[-1]._replace(end=last)):
            if begin < last:
                call(
                    "tffold.cli.fit", CONFIG, "--allow-config-change", *self._data(),
                    *part.settings(), f"train.steps={min(part.end, last)}", *others,
                )  # fmt: skip
            begin = part.end

    def _data(self) -> tuple[str, ...]:
        return (
            f"data.train=[{self.shards / 'train'}]",
            f"data.validation=[{self.shards / 'validation'}]",
            f"train.run_dir={self.run}",
        )

    def evaluation(self) -> None:
        """Every validation chain, the controls and the baselines."""
        call(
            "examples.learning.evaluate", self.run, "--config", self.run / "config.yaml",
            "--records", self.shards, "--output", self.evaluated,
        )  # fmt: skip

    def report(self) -> None:
        """Pictures of the run and of its best, median and worst chains."""
        call(
            "examples.learning.report", self.run, "--evaluation", self.evaluated,
            "--output", self.output / "report",
        )  # fmt: skip


def call(module: str, *arguments: object) -> None:
    """Runs one of the command lines from the repository; ends with its exit code if it fails."""
    paths = [str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(paths)}
    command = [sys.executable, "-m", module, *map(str, arguments)]
    code = subprocess.run(command, env=environment, check=False).returncode
    if code:
        sys.exit(code)


def main(arguments: Sequence[str] | None = None) -> int:
    """Entry point.  0: done; 2: bad input; 130: interrupted."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    add = parser.add_argument
    add("--output", type=Path, default=Path("learning_output"), help="everything goes there")
    add("--packages", type=Path, help="where the .deb files are or go (default OUTPUT/packages)")
    add("--until", choices=STAGES, default=STAGES[-1], help="the last stage")
    add("--threads", type=int, default=len(os.sched_getaffinity(0)), help="of searches")
    add("--new-split", type=int, metavar="N", default=0, help="hold out N chains anew")
    add("--superfamilies", type=Path, metavar="FILE", help="for --new-split: a chain and its "
        "SCOPe superfamilies a line")  # fmt: skip
    add("--train-chains", type=int, metavar="N", default=0, help="learn from N chains alone; "
        "records_N and run_N beside the others")  # fmt: skip
    add("overrides", nargs="*", metavar="key=value", help="settings for tffold-fit")
    options = parser.parse_intermixed_args(arguments)
    try:
        run = Run(options)
        needed = packages.missing_programs(["mmseqs"])
        if needed and STAGES.index(options.until) >= STAGES.index("alignments"):
            raise InputError("program mmseqs is not on PATH", mend="apt-get install mmseqs2")
        run.output.mkdir(parents=True, exist_ok=True)
        for stage in STAGES[: STAGES.index(options.until) + 1]:
            print(f"--- {stage}", flush=True)
            getattr(run, stage)()
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except OSError as error:
        print(f"error: {error.filename}: {error.strerror or error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("interrupted: the same command goes on where this stopped", file=sys.stderr)
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
