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

from records.convert import ConvertOptions, FileTask, Outcome
from records.durable import clear_partials
from records.errors import InputError
from records.manifest import Journal, Summary, read_summary, reason_group
from records.pool import convert_files
from records.shards import INDEX_SUFFIX, ShardWriter, masked_crc, scan

SHARD_BYTES = 256 << 20


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
            try:
                size = os.stat(task.path).st_size
            except OSError:
                size = -1  # told per chain, later
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

    def __init__(self, conversion: Conversion, split: str, output: Path, journal: Journal) -> None:
        self._conversion, self._split, self._output, self._journal = (
            conversion,
            split,
            output,
            journal,
        )
        self._writer: ShardWriter | None = None
        self._name = ""

    def _open(self) -> ShardWriter:
        if self._writer is None:
            self._name = self._conversion.shard_name(
                self._split, self._journal.next_shard(self._split)
            )
            self._writer = ShardWriter(self._output / self._name)
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
        path = self._output / lines[0]["shard"]
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
            path = self._writer.close()
            self._writer = None
            self._journal.close_shard(self._split, self._name, path.stat().st_size)


def _clear(output: Path, conversion: Conversion) -> None:
    """Remove what an earlier run of this part left: its files only."""
    for folder in ("train", "validation"):
        if (output / folder).is_dir():
            for path in (output / folder).iterdir():
                if path.name.lstrip(".").startswith(f"chains{conversion.suffix()}-"):
                    path.unlink()
    for name in ("manifest{}.jsonl", "summary{}.json", ".journal{}.jsonl"):
        (output / name.format(conversion.suffix())).unlink(missing_ok=True)


def _clear_partials(output: Path, conversion: Conversion) -> None:
    """Remove what killed runs left of this part, but for the shards begun just now."""
    for split in ("train", "validation"):
        clear_partials(output / split, f"chains{conversion.suffix()}-")


def run(
    conversion: Conversion,
    output: Path,
    *,
    workers: int = 1,
    overwrite: bool = False,
    progress: bool = True,
) -> Summary:
    """Convert everything, or what is left to do, and return the counts.

    Raises InputError when the output belongs to another conversion; a bad chain raises nothing.
    """
    output.mkdir(parents=True, exist_ok=True)
    if overwrite:
        _clear(output, conversion)
    manifest = output / f"manifest{conversion.suffix()}.jsonl"
    summary_path = output / f"summary{conversion.suffix()}.json"
    fingerprint = conversion.fingerprint()
    finished = read_summary(summary_path, fingerprint)
    if finished is not None:
        return finished
    _check_space(output)
    tasks = conversion.share()
    journal = Journal(output / f".journal{conversion.suffix()}.jsonl", fingerprint)
    writers: dict[str, _SplitWriter] = {}
    for split, lines in journal.open_chains().items():
        writers[split] = _SplitWriter(conversion, split, output, journal)
        writers[split].salvage(lines)
    _clear_partials(output, conversion)
    left = list(journal.unfinished(len(tasks)))
    units = ((unit, tasks[unit], start) for unit, start, _ in left)
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
                        if outcome.split not in writers:
                            writers[outcome.split] = _SplitWriter(
                                conversion, outcome.split, output, journal
                            )
                        writers[outcome.split].write(outcome, place)
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
    return journal.finish(manifest, summary_path)


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
