"""Records by their place in the shards: what a set of shards holds, and reading one of them."""

from __future__ import annotations

import logging
import os
import threading
from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np

from records import example, shards
from records.cache import local_shards
from records.errors import InputError
from records.schema import PAIRING_FEATURES
from tffold.config import DataConfig

_LOG = logging.getLogger(__name__)


class Damage:
    """Counts and reports the records that could not be read.

    Args:
        on_corrupt: ``raise`` stops at the first; ``skip`` logs each one once.
    """

    def __init__(self, on_corrupt: str) -> None:
        self.skip = on_corrupt == "skip"
        self.count: Counter[str] = Counter()
        self._lock = threading.Lock()

    @property
    def records(self) -> int:
        """How many different records were skipped."""
        return len(self.count)

    def report(self, error: InputError) -> None:
        """Raise ``error``, or count it and go on."""
        if not self.skip:
            raise error
        with self._lock:
            self.count[str(error)] += 1
            first = self.count[str(error)] == 1
        if first:
            _LOG.warning("skipped: %s", error)


class RecordSet:
    """The monomers of a set of shards, as columns over all of them; complexes are left out.

    Attributes (each [n]): ``chain_id``, ``num_res``, ``num_msa``,
    ``num_templates``, ``resolution`` (Å), ``release_date``, ``cluster_size``,
    ``max_residue_fraction``.

    Raises:
        InputError: no shards, no records, or (``on_corrupt=raise``) one that is
            known to be unreadable.
    """

    def __init__(
        self,
        sources: Sequence[str | os.PathLike],
        damage: Damage,
        config: DataConfig | None = None,
    ) -> None:
        self.name = ", ".join(map(str, sources))
        self._damage = damage
        config = config or DataConfig()
        self._shards = local_shards(sources, config.cache_dir, config.cache_gb << 30)
        entries: list[dict[str, Any]] = []
        complexes = 0
        places: list[tuple[int, int, int]] = []
        for number, shard in enumerate(self._shards):
            for entry in shards.read_index(shard):
                error = self._unusable(shard, entry)
                if error is not None:
                    damage.report(error)
                    continue
                if entry.get("num_chains", 1) != 1:  # in an index of schema 1 they are not counted
                    complexes += 1
                    continue
                entries.append(entry)
                places.append((number, entry["offset"], entry["length"]))
        if not entries:
            what = "no single chains, complexes alone" if complexes else "no records"
            raise InputError(f"the shards hold {what}", file=self.name, mend="convert chains")
        if complexes:
            _LOG.info("%s: left out %d complexes, not single chains", self.name, complexes)
        self._places = np.array(places, np.int64)
        self.chain_id = [str(entry["chain_id"]) for entry in entries]

        def column(name: str, dtype: type) -> np.ndarray:
            try:
                return np.array([entry[name] for entry in entries], dtype)
            except (KeyError, TypeError, ValueError, OverflowError):
                raise InputError(
                    f"an index beside these shards has no {name}, or none that can be",
                    file=self.name,
                    mend=f"delete *{shards.INDEX_SUFFIX}; it is rebuilt",
                ) from None

        self.num_res = column("num_res", np.int32)
        self.num_msa = column("num_msa", np.int32)
        self.num_templates = column("num_templates", np.int32)
        self.resolution = column("resolution", np.float64)
        self.release_date = column("release_date", np.str_)
        self.cluster_size = column("cluster_size", np.int64)
        self.max_residue_fraction = column("max_residue_fraction", np.float64)

    @staticmethod
    def _unusable(shard: object, entry: dict[str, Any]) -> InputError | None:
        if "error" in entry:
            return InputError(entry["error"])
        try:
            example.check_version(entry.get(example.VERSION_KEY))
        except InputError as error:
            return InputError(error.what, file=shard, item=entry["chain_id"], mend=error.mend)
        return None

    def __len__(self) -> int:
        return len(self.chain_id)

    def read(self, record: int, *, hits: Sequence[int] | None = None) -> dict[str, Any]:
        """The raw features of one record, with only these template hits.

        Raises:
            InputError: it cannot be read; the message names shard and chain.
        """
        number, offset, length = (int(v) for v in self._places[record])
        shard, chain = self._shards[number], self.chain_id[record]
        try:
            data = shards.read_record(shard, offset, length)
            features = example.decode(data, hits=hits, omit=PAIRING_FEATURES)
        except OSError as error:
            raise InputError(f"cannot be read: {error.strerror}", file=shard, item=chain) from None
        except InputError as error:
            raise type(error)(error.what, file=shard, item=chain, mend=error.mend) from None
        if features["chain_id"] != chain:
            raise InputError(
                f"the index promises {chain} here, the record is {features['chain_id']}",
                file=shard,
                mend=f"delete {shards.index_path(shard)}; it is rebuilt",
            )
        return features
