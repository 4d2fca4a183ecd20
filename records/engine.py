"""Running a conversion: a pool of processes, shards in order, resumption.

Workers convert whole files and hand records back; one writer puts them into shards in the
files' order.  So the bytes of every shard depend on the conversion alone, not on the number of
workers nor on how often the run was killed, and memory holds a few files' records only.
"""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from tqdm import tqdm

from records import listing, paths, spool
from records.convert import ConvertOptions, FileTask, Outcome, check_confidence
from records.durable import clear_partials
from records.errors import InputError
from records.journal_copy import JournalCopy
from records.manifest import Journal, Summary, read_summary, reason_group
from records.pool import convert_files
from records.shards import INDEX_SUFFIX, ShardWriter, masked_crc, scan
from records.sources import fetch_alignments

SHARD_BYTES = 256 << 20
CACHE_DIR = "~/.cache/tffold"


@dataclass(frozen=True)
class Conversion:
    """All that decides the bytes to be written: files in order, options, shard size.

    ``part`` of ``parts`` is this job's share of a job array: every ``parts``-th file.
    """

    tasks: Sequence[FileTask]
    options: ConvertOptions
    shard_bytes: int = SHARD_BYTES
    part: int = 0
    parts: int = 1

    def share(self) -> Sequence[FileTask]:
        return self.tasks[self.part :: self.parts]

    def suffix(self) -> str:
        return f"-{self.part:05d}of{self.parts:05d}" if self.parts > 1 else ""

    def shard_name(self, split: str, number: int) -> str:
        return f"{split}/chains{self.suffix()}-{number:05d}.tfrecord"

    def fingerprint(self) -> str:
        """A hash of the options, the file names and sizes and the chains wanted."""
        digest = hashlib.sha256()
        digest.update(
            repr((asdict(self.options), self.shard_bytes, self.part, self.parts)).encode()
        )
        for task in self.share():
            size = spool.size(task.path)
            digest.update(
                repr(
                    (task.path, size, task.name, task.chains, sorted(task.alignments.items()),
                     sorted(task.cluster_sizes.items()), sorted(task.validation),
                     sorted(task.resolutions.items()))
                ).encode()
            )  # fmt: skip
        return digest.hexdigest()


# What the manifest tells of a written record, of its index line.
_IN_MANIFEST = (
    "num_res",
    "num_chains",
    "num_msa",
    "num_templates",
    "release_date",
    "resolution",
)


class _SplitWriter:
    """The shards of one split, one after another; a shard's chains settle when it closes."""

    def __init__(
        self, conversion: Conversion, split: str, output: str, work: Path, journal: Journal,
        copy: JournalCopy | None,
    ) -> None:  # fmt: skip
        self._conversion, self._split, self._output = conversion, split, output
        self._work, self._journal, self._copy = work, journal, copy
        self._writer: ShardWriter | None = None
        self._name = ""

    def _open(self) -> ShardWriter:
        if self._writer is None:
            self._name = self._conversion.shard_name(
                self._split, self._journal.next_shard(self._split)
            )
            self._writer = ShardWriter(
                paths.join(self._output, self._name), self._work / self._name
            )
        return self._writer

    def write(self, outcome: Outcome, place: dict[str, int]) -> None:
        if self._writer is not None:
            if self._writer.size + len(outcome.record) > self._conversion.shard_bytes:
                self.close()
        entry = outcome.entry
        self._open().write(outcome.chain_id, outcome.record, entry)
        self._journal.write(
            {
                "chain": outcome.chain_id,
                "status": "written",
                "shard": self._name,
                **{name: entry[name] for name in _IN_MANIFEST},
                **outcome.notes,
                **place,
                "split": self._split,
                "length": len(outcome.record),
                "crc": masked_crc(outcome.record),
                "entry": dict(entry),
            }
        )

    def salvage(self, lines: Sequence[dict[str, Any]]) -> None:
        """Take over the records of a shard that a killed run left unfinished, while whole."""
        path = self._work / lines[0]["shard"]
        partials = path.parent.glob(f".{path.name}.*.partial")
        shards = (partial for partial in partials if INDEX_SUFFIX not in partial.name)
        left = max(shards, key=lambda partial: partial.stat().st_size, default=None)
        kept = 0
        if left is not None:
            # The new partial file may have the old one's name.
            source = left.rename(path.with_name(f".{path.name}.salvage.partial"))
            for line, (_, _, data) in zip(lines, scan(source), strict=False):
                if not isinstance(data, bytes) or masked_crc(data) != line["crc"]:
                    break
                self._open().write(line["chain"], data, line["entry"])
                kept += 1
        if kept < len(lines):
            self._journal.keep(self._split, kept)

    def abandon(self) -> None:
        if self._writer is not None:
            self._writer.abandon()

    def close(self) -> None:
        if self._writer is not None:
            self._writer.close()
            self._journal.close_shard(self._split, self._name, self._writer.size)
            self._writer = None
            if self._copy is not None:
                self._copy.send()


def _clear(output: str, conversion: Conversion) -> None:
    """Remove what an earlier run of this part left: its files only."""
    suffix = conversion.suffix()
    for name in (f"summary{suffix}.json", f"manifest{suffix}.jsonl"):
        paths.remove(paths.join(output, name))
    for folder, beginning in (
        ("train", f"chains{suffix}-"),
        ("validation", f"chains{suffix}-"),
        ("", f"journal{suffix}.jsonl"),
    ):
        below = paths.join(output, folder) if folder else output
        if paths.is_folder(below):
            for entry in listing.list_folder(below):
                if entry.name.lstrip(".").startswith(beginning):
                    paths.remove(entry.place)


def _clear_partials(work: Path, conversion: Conversion) -> None:
    """Remove what killed runs left of this part, but for the shards begun just now."""
    for split in ("train", "validation"):
        clear_partials(work / split, f"chains{conversion.suffix()}-")


def run(
    conversion: Conversion,
    output: paths.Place,
    *,
    workers: int = 1,
    overwrite: bool = False,
    progress: bool = True,
    cache_dir: str | os.PathLike = CACHE_DIR,
) -> Summary:
    """Convert everything, or what is left to do, and return the counts.

    With an output on a store, what is not finished lies below ``cache_dir`` on this host.
    Raises InputError when the output belongs to another conversion; a bad chain raises nothing.
    """
    output = paths.tidy(output)
    paths.make_folder(output)
    if overwrite:
        _clear(output, conversion)
    manifest = paths.join(output, f"manifest{conversion.suffix()}.jsonl")
    summary_path = paths.join(output, f"summary{conversion.suffix()}.json")
    fingerprint = conversion.fingerprint()
    finished = read_summary(summary_path, fingerprint)
    if finished is not None:
        return finished
    far = paths.is_url(output)
    work = work_folder(output, cache_dir) if far else Path(output)
    if far:
        work.mkdir(parents=True, exist_ok=True)
        if overwrite:
            _clear(str(work), conversion)
    _check_space(work)
    tasks = conversion.share()
    journal_path = work / f".journal{conversion.suffix()}.jsonl"
    copy = JournalCopy(output, journal_path) if far else None
    if copy is not None:
        copy.take_over()
    journal = Journal(journal_path, fingerprint, output)
    if copy is not None:
        copy.send()  # a store that refuses says so before anything is converted
    writers: dict[str, _SplitWriter] = {}

    def writer_of(split: str) -> _SplitWriter:
        if split not in writers:
            writers[split] = _SplitWriter(conversion, split, output, work, journal, copy)
        return writers[split]

    for split, lines in journal.open_chains().items():
        writer_of(split).salvage(lines)
    _clear_partials(work, conversion)
    left = list(journal.unfinished(len(tasks)))
    units = spool.ahead(
        ((unit, tasks[unit], start) for unit, start, _ in left),
        lambda unit: fetch_ahead(unit[1], conversion.options),
    )
    workers = min(workers, len(left))
    settled = {unit: later for unit, _, later in left if later}
    bar = tqdm(total=len(tasks), initial=len(tasks) - len(left), unit="file", disable=not progress)
    written = journal.summary.written + sum(map(len, journal.open_chains().values()))
    try:
        with bar:
            for unit, first, outcomes, done in convert_files(units, conversion.options, workers):
                for index, outcome in enumerate(outcomes, start=first):
                    place = {"unit": unit, "index": index}
                    if index in settled.get(unit, ()):
                        continue
                    if outcome.written:
                        writer_of(outcome.split).write(outcome, place)
                        written += 1
                    else:
                        journal.reject(_rejection(outcome, place))
                if done:
                    journal.close_unit(unit, first + len(outcomes))
                    bar.update()
                bar.set_postfix(chains=written, rejected=journal.summary.rejected, refresh=False)
        for writer in writers.values():
            writer.close()
    except BaseException:
        for writer in writers.values():
            writer.abandon()
        journal.close()  # partial shards stay: the next run takes their records over
        raise
    summary = journal.finish(manifest, summary_path)
    if copy is not None:
        copy.remove()
        for split in ("train", "validation"):
            if (work / split).is_dir() and not any((work / split).iterdir()):
                (work / split).rmdir()
    return summary


def work_folder(output: str, cache_dir: str | os.PathLike = CACHE_DIR) -> Path:
    """Where a conversion to a store keeps on this host what is not finished."""
    key = hashlib.sha256(output.encode()).hexdigest()[:16]
    return Path(cache_dir).expanduser() / "convert" / key


def fetch_ahead(task: FileTask, options: ConvertOptions) -> None:
    """Fetches from stores what converting a file will read.  Raises InputError."""
    if options.distillation:
        check_confidence(task, options)
    if paths.is_url(task.path):
        spool.read(task.path)
    for ref in dict.fromkeys(task.alignments.values()):
        fetch_alignments(ref, pairing=options.complexes)


def _rejection(outcome: Outcome, place: dict[str, int]) -> dict[str, Any]:
    return {
        "chain": outcome.chain_id,
        "status": "rejected",
        "reason": outcome.reason,
        "group": reason_group(outcome.category),
        **place,
    }


def _check_space(output: Path) -> None:
    if shutil.disk_usage(output).free < (64 << 20):
        raise InputError("less than 64 MB free", file=output, mend="free space there")
