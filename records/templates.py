"""Template hits to template features (supplement 1.2.2, 1.2.3; AlphaFold's filters).

A hit is dropped when its entry was released too late, when it covers too little of the
query, or when it is the query itself; what is left, best first by the sum of aligned
probabilities, is looked up in the structures given and laid onto the query.
"""

from __future__ import annotations

import datetime
import json
import os
import re
from collections import Counter, OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

import numpy as np
from Bio import Align

from records import paths, spool
from records.chemistry import ATOM_ORDER, GAP_INDEX, sequence_to_aatype
from records.errors import InputError
from records.hhr import Hit
from records.mmcif import Entry, mmcif_files
from records.stores import UnreachableError
from records.structure import Chain

MIN_ALIGN_RATIO = 0.1  # aligned columns over query length
MIN_RESIDUES = 10  # of the template in the hit
MAX_SUBSEQUENCE_RATIO = 0.95  # a template inside the query and this long is the query
MIN_REALIGNED_IDENTITY = 0.9
MIN_ATOMS = 5
MAX_CA_CA_DISTANCE = 150.0  # Å between residues in sequence; more is a broken file
_CACHED_BYTES = 16 << 20  # of mmCIF text; parsed it takes some fifteen times as much


@dataclass
class TemplateLibrary:
    """Structures that may serve as templates, found by entry name, parsed when asked.

    ``dates`` (entry -> YYYY-MM-DD, as in OpenFold's ``mmcif_cache.json``) spares the
    parsing of entries that are too new.
    """

    files: Mapping[str, str | os.PathLike]
    dates: Mapping[str, str] = field(default_factory=dict)
    _entries: OrderedDict[str, Entry | None] = field(default_factory=OrderedDict)
    _known: dict[str, str | None] = field(default_factory=dict)

    @classmethod
    def open(cls, folder: str | os.PathLike, dates: str | os.PathLike | None) -> TemplateLibrary:
        """A library of a folder of mmCIF files and, if given, a cache of release dates."""
        return _open_library(os.fspath(folder), os.fspath(dates) if dates else "")

    def date(self, name: str) -> str | None:
        """The entry's release date, '' if it has none, None if the entry is not here."""
        if name not in self.files:
            return None
        if name not in self._known:
            if name in self.dates:
                self._known[name] = self.dates[name]
            else:  # parsed for its date once, however soon the entry itself is forgotten
                entry = self.entry(name)
                self._known[name] = None if entry is None else entry.release_date
        return self._known[name]

    def entry(self, name: str) -> Entry | None:
        """The parsed entry, None if it is not here or cannot be read.

        Raises UnreachableError: then nothing is known of it.
        """
        if name in self._entries:
            self._entries.move_to_end(name)
            return self._entries[name]
        path = self.files.get(name)
        try:
            entry = Entry(path) if path else None
        except UnreachableError:
            raise
        except InputError:
            entry = None  # one broken template must not cost the chain
        self._entries[name] = entry
        while len(self._entries) > 1 and self._held() > _CACHED_BYTES:
            self._entries.popitem(last=False)
        return entry

    def ahead(self, names: Sequence[str]) -> None:
        """Fetches the structures of a store that are likely to be asked for, all at once."""
        far = [str(self.files[name]) for name in dict.fromkeys(names) if name in self.files]
        far = [path for path in far if paths.is_url(path) and spool.in_use()]
        try:
            spool.each(spool.read, far)
        except InputError:
            pass  # told of the entry, when it is read

    def _held(self) -> int:
        return sum(1024 if entry is None else entry.size for entry in self._entries.values())


@lru_cache(maxsize=4)
def _open_library(folder: str, dates: str) -> TemplateLibrary:
    return TemplateLibrary(mmcif_files([folder]), read_dates(dates) if dates else {})


def read_dates(path: str | os.PathLike) -> dict[str, str]:
    """Release dates from a JSON object: entry -> date, or -> {"release_date": date, …}."""
    try:
        table = json.loads(spool.read(path))
        return {
            str(name).lower(): value if isinstance(value, str) else str(value["release_date"])
            for name, value in table.items()
        }
    except InputError:
        raise
    except (ValueError, AttributeError, TypeError, KeyError) as error:
        raise InputError(
            f"no table of release dates ({error})", file=path, mend='write {"1abc": "2001-02-03"}'
        ) from error


def date_limit(release_date: str, max_template_date: str, lag_days: int) -> str:
    """The last release date that a template may have, '' if none is set.

    The earlier of the overall limit and of ``lag_days`` before the chain's own release
    (AlphaFold's code: 60 days, so that simultaneous depositions do not leak).
    """
    limits = [max_template_date] if max_template_date else []
    if release_date:
        day = datetime.date.fromisoformat(release_date) - datetime.timedelta(days=lag_days)
        limits.append(day.isoformat())
    return min(limits, default="")


def prefilter(hit: Hit, sequence: str, limit: str, library: TemplateLibrary) -> str:
    """Why the hit cannot be a template, or ''."""
    if hit.pdb_chain is None:
        return "not a PDB chain"
    if len(hit.query_index) <= MIN_ALIGN_RATIO * len(sequence):
        return "aligned to too little of the query"
    if len(hit.hit_residues) < MIN_RESIDUES:
        return "fewer than 10 residues"
    inside = _wildcard(hit.hit_residues).search(sequence)
    if inside and len(hit.hit_residues) > MAX_SUBSEQUENCE_RATIO * len(sequence):
        return "is the query itself"
    name = hit.pdb_chain[0]
    if name not in library.files:
        return "structure not given"
    if limit:
        date = library.date(name)
        if date is None:
            return "structure not readable"
        if not date or date > limit:
            return "released too late"
    return ""


def _wildcard(residues: str) -> re.Pattern[str]:
    return re.compile("".join("." if letter == "X" else f"[{letter}X]" for letter in residues))


def _locate(hit: Hit, entry: Entry) -> tuple[str, dict[int, int]] | str:
    """The chain and the map from the hit's numbering to SEQRES, or why there is none."""
    sequences = entry.protein_sequences()
    named = hit.pdb_chain[1] if hit.pdb_chain else ""
    order = sorted(sequences, key=lambda chain: chain != named)
    pattern = _wildcard(hit.hit_residues)
    stop = hit.hit_start + len(hit.hit_residues)

    def shifted(to: int) -> dict[int, int]:
        return {i: i - hit.hit_start + to for i in range(hit.hit_start, stop)}

    if named in sequences and pattern.fullmatch(sequences[named][hit.hit_start : stop]):
        return named, shifted(hit.hit_start)
    for chain in order:
        found = pattern.search(sequences[chain])
        if found:
            return chain, shifted(found.start())
    if named not in sequences:
        if len(sequences) != 1:
            return "no such chain in the structure"
        (named,) = sequences
    return _realign(hit, named, sequences[named])


@lru_cache(maxsize=1)
def _aligner() -> Align.PairwiseAligner:
    """Global, free end gaps: for two versions of one sequence (AlphaFold calls Kalign)."""
    aligner = Align.PairwiseAligner(mode="global", match_score=2.0, mismatch_score=-1.0)
    aligner.open_gap_score, aligner.extend_gap_score = -5.0, -0.5
    aligner.end_gap_score = 0.0
    return aligner


def _realign(hit: Hit, chain: str, actual: str) -> tuple[str, dict[int, int]] | str:
    """Map by a new alignment of the hit's residues with the structure's sequence."""
    alignment = _aligner().align(hit.hit_residues, actual)[0]
    pairs = {
        int(i): int(j)
        for (first, last), (start, _) in zip(*alignment.aligned, strict=True)
        for i, j in zip(range(first, last), range(start, start + last - first), strict=True)
    }
    same = sum(hit.hit_residues[i] == actual[j] for i, j in pairs.items())
    if same < MIN_REALIGNED_IDENTITY * min(len(hit.hit_residues), len(actual)):
        return "sequence differs from the structure's"
    return chain, {hit.hit_start + i: j for i, j in pairs.items()}


def _broken(chain: Chain) -> bool:
    """Whether neighbours in sequence lie absurdly far apart."""
    ca = ATOM_ORDER["CA"]
    present = chain.mask[:, ca] == 1
    both = present[1:] & present[:-1]
    steps = np.linalg.norm(np.diff(chain.positions[:, ca], axis=0), axis=-1)
    return bool((steps[both] > MAX_CA_CA_DISTANCE).any())


def _features_of(hit: Hit, sequence: str, library: TemplateLibrary) -> dict[str, Any] | str:
    name = hit.pdb_chain[0] if hit.pdb_chain else ""
    entry = library.entry(name)
    if entry is None:
        return "structure not readable"
    located = _locate(hit, entry)
    if isinstance(located, str):
        return located
    chain_name, to_seqres = located
    try:
        chain = entry.chain(chain_name)
    except InputError as error:
        return error.what
    if _broken(chain):
        return "neighbouring C-alphas too far apart"
    num_res = len(sequence)
    aatype = np.full(num_res, GAP_INDEX, np.uint8)
    positions = np.zeros((num_res, 37, 3), np.float32)
    masks = np.zeros((num_res, 37), np.uint8)
    template_types = sequence_to_aatype(chain.sequence)
    pairs = [
        (int(q), to_seqres[int(h)])
        for q, h in zip(hit.query_index, hit.hit_index, strict=True)
        if int(h) in to_seqres
    ]
    onto, source = (np.array(index, np.int64) for index in zip(*pairs, strict=True))
    aatype[onto] = template_types[source]
    positions[onto] = chain.positions[source]
    masks[onto] = chain.mask[source]
    if masks.sum() < MIN_ATOMS:
        return "no atoms where it is aligned"
    return {
        "template_aatype": aatype,
        "template_all_atom_positions": positions,
        "template_all_atom_masks": masks,
        "template_sum_probs": hit.sum_probs,
        "template_domain_names": f"{name}_{chain_name}",
        "template_release_date": entry.release_date,
    }


def template_features(
    hits: Sequence[Hit],
    sequence: str,
    library: TemplateLibrary | None,
    limit: str,
    max_templates: int,
) -> tuple[dict[str, Any], Counter[str]]:
    """The best ``max_templates`` usable hits as record features, and why others fell out.

    Shapes: T templates, R residues; positions [T, R, 37, 3] in Å.  Raises InputError when a
    hit's query is not this sequence (the hhr belongs to another chain).
    """
    reasons: Counter[str] = Counter()
    kept: list[dict[str, Any]] = []
    for hit in hits:
        part = sequence[hit.query_start : hit.query_start + len(hit.query_residues)]
        if not (
            len(part) == len(hit.query_residues) and _wildcard(part).fullmatch(hit.query_residues)
        ):
            raise InputError(
                "template hits do not match the chain",
                item=f"hit {hit.number} from residue {hit.query_start + 1}",
                mend="the hhr belongs to another chain or version of it",
            )
    if library is not None:
        best = sorted(hits, key=lambda hit: -hit.sum_probs)
        library.ahead([hit.pdb_chain[0] for hit in best[:max_templates] if hit.pdb_chain])
        for hit in best:
            if len(kept) >= max_templates:
                break
            reason = prefilter(hit, sequence, limit, library)
            found = reason or _features_of(hit, sequence, library)
            if isinstance(found, str):
                reasons[found] += 1
            else:
                kept.append(found)
    return stack_templates(kept, len(sequence)), reasons


def stack_templates(kept: Sequence[Mapping[str, Any]], num_res: int) -> dict[str, Any]:
    """Features of single templates [R, …] stacked to [T, R, …]; T may be 0."""
    count = len(kept)
    stacked: dict[str, Any] = {
        "template_aatype": np.zeros((count, num_res), np.uint8),
        "template_all_atom_positions": np.zeros((count, num_res, 37, 3), np.float32),
        "template_all_atom_masks": np.zeros((count, num_res, 37), np.uint8),
        "template_sum_probs": np.zeros(count, np.float32),
        "template_domain_names": [one["template_domain_names"] for one in kept],
        "template_release_date": [one["template_release_date"] for one in kept],
    }
    for index, one in enumerate(kept):
        for name in list(stacked)[:4]:
            stacked[name][index] = one[name]
    return stacked
