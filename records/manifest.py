"""What became of every chain: the journal while converting, the manifest at the end.

The journal grows with the work and survives a kill: rejected chains at once, written ones
when their shard is closed.  When all is done its lines, in the files' order, become
``manifest.jsonl``; ``summary.json`` beside it names the conversion by its fingerprint.
"""

from __future__ import annotations

import fcntl
import json
import re
from array import array
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from records import paths
from records.durable import sync_file
from records.errors import InputError


def reason_group(category: str) -> str:
    """A reason without its particulars, for counting: numbers and quotes are dropped."""
    plain = re.sub(r"'[^']*'|\([^)]*\)", "…", category)
    return re.sub(r"\d[\d.]*", "#", plain)[:100]


@dataclass
class Summary:
    """Counts over all chains, and the shards with their sizes in bytes."""

    written: int = 0
    rejected: int = 0
    reasons: Counter[str] = field(default_factory=Counter)
    shards: dict[str, int] = field(default_factory=dict)

    def line(self) -> str:
        """'written N, rejected M: reason (k), …'"""
        reasons = ", ".join(
            f"{reason} ({count})"
            for reason, count in sorted(self.reasons.items(), key=lambda kv: (-kv[1], kv[0]))
        )
        return f"written {self.written}, rejected {self.rejected}" + (
            f": {reasons}" if reasons else ""
        )

    def add(self, line: Mapping[str, Any]) -> None:
        if line["status"] == "written":
            self.written += 1
        else:
            self.rejected += 1
            self.reasons[line["group"]] += 1


# What only the journal needs of a line.
_JOURNAL_ONLY = ("unit", "index", "group", "split", "length", "crc", "entry")


class Journal:
    """An append-only file of JSON lines about one conversion, resumable after any kill.

    A chain is known by its unit (number of the file) and its index in it.  A
    rejected chain is settled by its line; a written one is open until the line of its shard
    follows, which stands only when the shard is durable under its name.  Open chains can
    be salvaged from the shard's partial file.

    ``output`` is the folder of the shards, where it is another than the journal's.
    """

    def __init__(self, path: Path, fingerprint: str, output: paths.Place | None = None) -> None:
        self.path = path
        self._output = path.parent if output is None else output
        self.fingerprint = fingerprint
        self.summary = Summary()
        self._places = array("q")  # unit, index, offset, length of settled lines, flat
        self._totals: dict[int, int] = {}  # unit -> chains in it, when known
        self._shard_numbers: Counter[str] = Counter()  # split -> shards closed
        # split -> (unit, index) -> line, offset, length
        self._open: dict[str, dict[tuple[int, int], tuple[dict[str, Any], int, int]]] = {}
        path.touch()
        self._file = open(path, "r+b")
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise InputError(
                "another process is converting into this folder",
                file=path.parent,
                mend="wait for it, or choose another --output",
            ) from None
        size = self._load()
        self._file.truncate(size)
        self._file.seek(size)
        if not size:
            self._append({"plan": fingerprint}, sync=True)

    def _load(self) -> int:
        """Take over what is there; the length of the part that is whole."""
        end = 0
        with open(self.path, "rb") as file:
            for number, raw in enumerate(file):
                try:
                    line = json.loads(raw) if raw.endswith(b"\n") else None
                except ValueError:
                    line = None
                if not isinstance(line, dict):
                    break  # torn by the kill: whatever follows is redone
                if number == 0:
                    if line.get("plan") != self.fingerprint:
                        raise InputError(
                            "holds a conversion of other inputs or options, unfinished",
                            file=self.path.parent,
                            mend="choose another --output, or pass --overwrite",
                        )
                elif "bytes" in line:
                    self._check_shard(line)
                    self._commit(line)
                elif "total" in line:
                    self._totals[line["unit"]] = line["total"]
                elif "keep" in line:
                    self._truncate(line["split"], line["keep"])
                elif line["status"] == "written":
                    place = (line["unit"], line["index"])
                    self._open.setdefault(line["split"], {})[place] = (line, end, len(raw))
                else:
                    self._settle(line, end, len(raw))
                end += len(raw)
        return end

    def _check_shard(self, line: Mapping[str, Any]) -> None:
        path = paths.join(self._output, line["shard"])
        if not paths.is_file(path) or paths.info(path).size != line["bytes"]:
            raise InputError(
                "a finished shard is missing or was changed", file=path,
                mend="convert again with --overwrite",
            )  # fmt: skip

    def _commit(self, line: Mapping[str, Any]) -> None:
        """The shard's line is out: its chains are settled."""
        for entry in self._open.pop(line["split"], {}).values():
            self._settle(*entry)
        self.summary.shards[line["shard"]] = line["bytes"]
        self._shard_numbers[line["split"]] += 1

    def _settle(self, line: Mapping[str, Any], offset: int, length: int) -> None:
        self._places.extend((line["unit"], line["index"], offset, length))
        self.summary.add(line)

    def _truncate(self, split: str, keep: int) -> None:
        kept = sorted(self._open.get(split, {}).items())[:keep]
        self._open[split] = dict(kept)

    def _append(self, line: Mapping[str, Any], *, sync: bool = False) -> tuple[int, int]:
        data = json.dumps(line).encode() + b"\n"
        offset = self._file.tell()
        self._file.write(data)
        self._file.flush()
        if sync:
            sync_file(self._file)
        return offset, len(data)

    def open_chains(self) -> dict[str, list[dict[str, Any]]]:
        """Split -> lines of chains written to a shard that was not closed, in order."""
        return {
            split: [line for _, (line, _, _) in sorted(chains.items())]
            for split, chains in self._open.items()
            if chains
        }

    def keep(self, split: str, count: int) -> None:
        """Of the split's open chains only the first ``count`` could be salvaged."""
        self._append({"split": split, "keep": count})
        self._truncate(split, count)

    def unfinished(self, units: int) -> Iterator[tuple[int, int, frozenset[int]]]:
        """Units that are not done, each with its first open chain and the settled ones after."""
        places = np.array(self._places, np.int64).reshape(-1, 4)[:, :2]
        opened = [place for chains in self._open.values() for place in chains]
        places = np.concatenate([places, np.array(opened, np.int64).reshape(-1, 2)])
        counts = np.bincount(places[:, 0], minlength=units)
        places = places[np.lexsort((places[:, 1], places[:, 0]))]
        starts = np.concatenate([[0], np.cumsum(counts)])
        for unit in range(units):
            if unit in self._totals and counts[unit] >= self._totals[unit]:
                continue
            # Chains are settled in order; only lost records leave a gap.
            done = places[starts[unit] : starts[unit + 1], 1]
            gaps = np.flatnonzero(done != np.arange(len(done)))
            start = int(gaps[0]) if len(gaps) else len(done)
            yield unit, start, frozenset(done[start:].tolist())

    def next_shard(self, split: str) -> int:
        return self._shard_numbers[split]

    def reject(self, line: Mapping[str, Any]) -> None:
        """A chain that is settled without a record."""
        self._settle(line, *self._append(line))

    def write(self, line: dict[str, Any]) -> None:
        """A chain that is in its split's shard, which is not closed yet."""
        offset, length = self._append(line)
        place = (line["unit"], line["index"])
        self._open.setdefault(line["split"], {})[place] = (line, offset, length)

    def close_unit(self, unit: int, total: int) -> None:
        """The unit has so many chains."""
        self._totals[unit] = total
        self._append({"unit": unit, "total": total})

    def close_shard(self, split: str, shard: str, size: int) -> None:
        """A shard is durable, and so its chains.

        A kill before its line is out leaves the shard to be written again, with the same
        bytes under the same name.
        """
        line = {"split": split, "shard": shard, "bytes": size}
        self._append(line, sync=True)
        self._commit(line)

    def manifest_lines(self) -> Iterator[bytes]:
        """All chains' lines in the files' order, without what only the journal needs."""
        places = np.array(self._places, np.int64).reshape(-1, 4)
        order = np.lexsort((places[:, 1], places[:, 0]))
        with open(self.path, "rb") as file:
            for _, _, offset, length in places[order].tolist():
                file.seek(offset)
                line = json.loads(file.read(length))
                for name in _JOURNAL_ONLY:
                    line.pop(name, None)
                yield (json.dumps(line) + "\n").encode()

    def finish(self, manifest: paths.Place, summary: paths.Place) -> Summary:
        """Write manifest and summary, remove the journal."""
        with paths.whole_file(manifest) as file:
            file.writelines(self.manifest_lines())
        self.summary.shards = dict(sorted(self.summary.shards.items()))
        content = {
            "plan": self.fingerprint,
            "written": self.summary.written,
            "rejected": self.summary.rejected,
            "reasons": dict(sorted(self.summary.reasons.items())),
            "shards": self.summary.shards,
        }
        paths.write_whole(summary, json.dumps(content, indent=1) + "\n")
        self.close()
        self.path.unlink()
        return self.summary

    def close(self) -> None:
        self._file.close()


def read_summary(path: paths.Place, fingerprint: str) -> Summary | None:
    """The summary of a finished conversion, None if there is none.

    Raises InputError when it is of another conversion or its shards are gone.
    """
    if not paths.exists(path):
        return None
    try:
        content = json.loads(paths.read_bytes(path))
        summary = Summary(
            int(content["written"]), int(content["rejected"]),
            Counter(content["reasons"]), dict(content["shards"]),
        )  # fmt: skip
        found = content["plan"]
    except (ValueError, KeyError, TypeError) as error:
        raise InputError("not a summary", file=path, mend="pass --overwrite") from error
    if found != fingerprint:
        raise InputError(
            "holds a finished conversion of other inputs or options",
            file=paths.parent(path),
            mend="choose another --output, or pass --overwrite",
        )
    for shard, size in summary.shards.items():
        shard_path = paths.join(paths.parent(path), shard)
        if not paths.is_file(shard_path) or paths.info(shard_path).size != size:
            raise InputError(
                "a finished shard is missing or was changed", file=shard_path,
                mend="convert again with --overwrite",
            )  # fmt: skip
    return summary
