"""Where a chain's alignments and template hits lie, in every layout in use.

Below an alignment folder, for a chain ``1ubq_A``:

* OpenProteinSet: ``1ubq_A/a3m/*.a3m`` and ``1ubq_A/hhr/*.hhr``, or flat ``1ubq_A/*``;
* AlphaFold's output: ``1ubq_A/msas/*`` and, without it, ``1ubq_A/features.pkl``;
* ColabFold and MMseqs2: ``1ubq_A.a3m``;
* OpenFold's ``alignment_db``: ``*.index`` files beside their ``.db`` files.

All may be compressed with gzip.  Only names are gathered here; a worker reads.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

from records import listing, paths, spool
from records.errors import InputError
from records.gunzip import gunzipped
from records.mmcif import read_bytes
from records.stores import scheme

MSA_SUFFIXES = (".a3m", ".sto", ".stockholm")
HIT_SUFFIX = ".hhr"
FEATURES_NAME = "features.pkl"
# Template searches and, for pairing the chains of complexes, UniProt's.
_NOT_FOR_MSA = ("pdb", "hmm_output", "uniprot")
_FEW = 2000  # chains of which each is asked for by itself
_FOLDERS = ("a3m", "hhr", "msas")
# AlphaFold's order of databases (supplement 1.2.2); files of none of them come last.
# "uniref.a3m" is ColabFold's, searched before its environmental sequences.
_DATABASE_ORDER = (("uniref90", "uniref.a3m"), ("bfd", "uniclust", "uniref30"), ("mgnify",))


Value = TypeVar("Value")


@dataclass(frozen=True)
class AlignmentRef:
    """The alignments of one chain: a folder, a single file, or a stretch of a database.

    ``parts`` are (file name, offset, length) inside ``path`` for a database.
    """

    name: str
    path: str
    kind: str  # "folder", "file" or "database"
    parts: tuple[tuple[str, int, int], ...] = ()


def plain_name(name: str) -> str:
    """A file name in lower case, without '.gz'."""
    return name.lower().removesuffix(".gz")


def normalized(chain_id: str) -> str:
    """'1UBQ_A' -> '1ubq_A' for PDB chains; other names as they are."""
    entry, bar, chain = chain_id.partition("_")
    if bar and len(entry) == 4 and entry[0].isdigit():
        return f"{entry.lower()}_{chain}"
    return chain_id


class AnyCase(Generic[Value]):
    """A table whose names are compared without case where none is spelt exactly so."""

    def __init__(self, table: Mapping[str, Value]) -> None:
        self._table = table
        self._spelt: dict[str, list[str]] = {}
        for name in table:
            self._spelt.setdefault(name.lower(), []).append(name)

    def get(self, name: str) -> Value | None:
        """The value of a name, None if it is not there.

        Raises InputError for a name that two of the table's differ from in case only.
        """
        if name in self._table:
            return self._table[name]
        spelt = self._spelt.get(name.lower(), [])
        if len(spelt) > 1:
            raise InputError(
                f"may be {' or '.join(map(str, spelt))}, which differ in case only",
                item=name,
                mend="spell it as the one that is meant",
            )
        return self._table[spelt[0]] if spelt else None


def find_path(source: str | os.PathLike) -> str:
    """The place of a name, compared without case, in each folder, where none is spelt exactly so.

    A file in an archive, and what lies on a web server, which lists nothing, is taken as spelt.

    Raises InputError if there is none, or if several differ from it in case only.
    """
    place = paths.tidy(source)
    if scheme(place) in ("http", "https") or f"{spool.ARCHIVE}/" in place.lower():
        return place
    found = spelt(place)
    if found is None:
        paths.info(place)  # says what is wrong with it
        raise InputError("no such file or folder", file=place, mend="check the path")
    return found


def spelt(place: str) -> str | None:
    """A place as its folders list it, None if there is none."""
    if paths.exists(place):
        return place
    above = paths.parent(place)
    if above == place or (paths.is_url(place) and "/" not in place.split("://", 1)[1]):
        return None  # nothing is above a bucket
    folder = spelt(above)
    if folder is None or not paths.is_folder(folder):
        return None
    return AnyCase({entry.name: entry.place for entry in listing.list_folder(folder)}).get(
        paths.name(place)
    )


def find_alignments(
    roots: Sequence[str | os.PathLike], wanted: Sequence[str] | None = None
) -> dict[str, AlignmentRef]:
    """Chain -> alignments over all roots (folders or ``.index`` files); the first counts.

    When only a few chains are ``wanted``, a store is asked for their folders alone, and lists
    all only where it has none of them: a folder of the whole PDB takes minutes.

    Raises InputError for a root that is not there and for a broken index.
    """
    found: dict[str, AlignmentRef] = {}
    for root in map(paths.tidy, roots):
        refs: Iterable[AlignmentRef] = ()
        if root.endswith(".index") and paths.is_file(root):
            refs = read_database_index(root)
        else:
            if paths.is_url(root) and wanted is not None and len(wanted) <= _FEW:
                refs = _folders_of(root, wanted)
            if not refs:
                if not paths.is_folder(root):
                    raise InputError(
                        "no such folder or .index file", file=root, mend="check --alignments"
                    )
                refs = _in_folder(root)
        for ref in refs:
            found.setdefault(normalized(ref.name), ref)
    return found


def _folders_of(root: str, chains: Sequence[str]) -> list[AlignmentRef]:
    """The folders of single chains in a store's folder of them."""
    names = list(dict.fromkeys(chains))
    found = spool.each(lambda name: spool.find(paths.join(root, name)), names)
    return [
        AlignmentRef(name, paths.join(root, name), "folder")
        for name, files in zip(names, found, strict=True)
        if files
    ]


def _in_folder(root: str) -> Iterable[AlignmentRef]:
    for entry in listing.list_folder(root):
        plain = plain_name(entry.name)
        if entry.is_folder:
            yield AlignmentRef(entry.name, entry.place, "folder")
        elif plain.endswith(".index"):
            yield from read_database_index(entry.place)
        elif plain.endswith(MSA_SUFFIXES):
            stem = entry.name[: len(plain)].rsplit(".", 1)[0]
            yield AlignmentRef(stem, entry.place, "file")


def read_database_index(path: str | os.PathLike) -> list[AlignmentRef]:
    """OpenFold's index: JSON chain -> {"db": file, "files": [[name, offset, length], …]}."""
    try:
        table = json.loads(spool.read(path))
        refs = []
        sizes: dict[str, int] = {}
        for chain, entry in table.items():
            database = paths.join(paths.parent(path), str(entry["db"]))
            if entry["db"] not in sizes:
                sizes[entry["db"]] = paths.info(database).size
            parts = tuple((str(n), int(start), int(count)) for n, start, count in entry["files"])
            for name, start, count in parts:
                if start < 0 or count < 0 or start + count > sizes[entry["db"]]:
                    raise InputError(
                        f"{name} reaches beyond {paths.name(database)}",
                        file=path,
                        item=chain,
                        mend="the index belongs to another database: make it again",
                    )
            refs.append(AlignmentRef(chain, str(database), "database", parts))
        return refs
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(
            f"not an alignment_db index ({type(error).__name__}: {error})",
            file=path,
            mend="make it again with OpenFold's create_alignment_db.py",
        ) from error


def read_alignments(ref: AlignmentRef, *, pairing: bool = False) -> dict[str, bytes]:
    """File name (with its place, for messages) -> content, decompressed.

    Only files that a record can use: alignments, template hits, features.pkl where
    there is nothing else, and with ``pairing`` UniProt's hits.  Raises InputError.
    """

    wanted = _wanted(pairing)
    if ref.kind == "file":
        return {ref.path: read_bytes(ref.path)}
    if ref.kind == "database":
        return _read_database(ref, wanted)
    return {path: read_bytes(path) for path in _files_of(ref, wanted)}


def _wanted(pairing: bool) -> Callable[[str], bool]:
    """Whether a file of that name can be used."""
    return lambda name: is_msa(name) or is_hits(name) or (pairing and is_pairing(name))


def _files_of(ref: AlignmentRef, wanted: Callable[[str], bool]) -> list[str]:
    """The files of a chain's folder that a record can use."""
    names: list[str] = []
    if paths.is_url(ref.path):  # one request lists the folders in it as well
        below = {file.place: file.place[len(ref.path) + 1 :] for file in spool.find(ref.path)}
        for folder in ("", *(f"{sub}/" for sub in _FOLDERS)):
            names += [
                place
                for place, inside in sorted(below.items())
                if inside == folder + paths.name(place)
            ]
    else:
        for folder in (ref.path, *(paths.join(ref.path, sub) for sub in _FOLDERS)):
            if os.path.isdir(folder):
                names += [file.place for file in listing.list_folder(folder) if not file.is_folder]
    files = [path for path in names if wanted(paths.name(path))]
    if not any(is_msa(paths.name(path)) for path in files):
        pickles = [path for path in names if plain_name(paths.name(path)) == FEATURES_NAME]
        files = pickles or files
    return files


def fetch_alignments(ref: AlignmentRef, *, pairing: bool = False) -> None:
    """Fetches ahead what ``read_alignments`` will read from a store."""
    if not paths.is_url(ref.path):
        return
    if ref.kind == "database":
        for name, offset, length in ref.parts:
            if _wanted(pairing)(name):
                spool.read_part(ref.path, offset, length)
    else:
        for path in [ref.path] if ref.kind == "file" else _files_of(ref, _wanted(pairing)):
            spool.read(path)


def folder_of_sequence(ref: AlignmentRef, sequence: str) -> AlignmentRef:
    """The alignments of one chain below AlphaFold-Multimer's for the whole complex.

    ``msas/chain_id_map.json`` tells each folder's sequence.  Raises InputError.
    """
    table = paths.join(ref.path, "msas", "chain_id_map.json")
    if not paths.is_file(table):
        table = paths.join(ref.path, "chain_id_map.json")
    try:
        chains = json.loads(read_bytes(table))
        letter = next((one for one in chains if chains[one]["sequence"] == sequence), None)
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(
            "not a map of chains", file=table, mend='write {"A": {"sequence": "MKV…"}, …}'
        ) from None
    if letter is None:
        raise InputError(
            "no chain of this sequence", file=table,
            mend="the alignments belong to another complex or version of it",
        )  # fmt: skip
    return AlignmentRef(f"{ref.name}/{letter}", paths.join(paths.parent(table), letter), "folder")


def _read_database(ref: AlignmentRef, wanted: Callable[[str], bool]) -> dict[str, bytes]:
    contents = {}
    for name, offset, length in ref.parts:
        if wanted(name):
            data = spool.read_part(ref.path, offset, length)
            if len(data) != length:
                raise InputError(
                    "database is cut off", file=ref.path, item=f"{ref.name} {name}",
                    mend="get the database again",
                )  # fmt: skip
            where = f"{ref.path}:{ref.name}/{name}"
            contents[where] = gunzipped(data, where, "get the database again")
    return contents


def _base(name: str) -> str:
    return plain_name(name.replace("\\", "/").rsplit("/", 1)[-1])


def is_msa(name: str) -> bool:
    """An alignment for the MSA: neither a template search nor one kept for pairing chains."""
    base = _base(name)
    return base.endswith(MSA_SUFFIXES) and not base.startswith(_NOT_FOR_MSA)


def is_pairing(name: str) -> bool:
    """A search of UniProt, for pairing chains."""
    base = _base(name)
    return base.endswith(MSA_SUFFIXES) and base.startswith("uniprot")


def is_hits(name: str) -> bool:
    """A template search: HHsearch's, or hmmsearch's (``pdb_hits.sto``)."""
    base = _base(name)
    return base.endswith(HIT_SUFFIX) or (
        base.startswith(("pdb", "hmm_output")) and base.endswith(".sto")
    )


def msa_order(name: str) -> tuple[int, str]:
    """Sort key: UniRef90, BFD and Uniclust30, MGnify, then others by name."""
    base = _base(name)
    for rank, words in enumerate(_DATABASE_ORDER):
        if any(word in base for word in words):
            return rank, base
    return len(_DATABASE_ORDER), base


def pick_hits(names: Iterable[str]) -> str | None:
    """The template search to use: against the PDB when several are there."""
    return min(
        (name for name in names if is_hits(name)),
        key=lambda name: (not _base(name).startswith("pdb"), _base(name)),
        default=None,
    )


def read_lines(path: str | os.PathLike) -> list[list[str]]:
    """Words of every line that is neither empty nor a '#' comment."""
    text = read_bytes(path).decode("latin-1")
    return [words for line in text.splitlines() if (words := line.split("#", 1)[0].split())]


def read_chain_list(path: str | os.PathLike) -> list[str]:
    """Chains, one a line (first word), normalized, in order, without repetition."""
    chains = dict.fromkeys(normalized(words[0]) for words in read_lines(path))
    if not chains:
        raise InputError("no chains in the list", file=path, mend="write one a line: 1ubq_A")
    return list(chains)


def read_duplicates(path: str | os.PathLike) -> dict[str, tuple[str, ...]]:
    """``duplicate_pdb_chains.txt``: chain -> the identical chains of its line."""
    groups: dict[str, tuple[str, ...]] = {}
    for words in read_lines(path):
        group = tuple(normalized(word) for word in words)
        groups.update(dict.fromkeys(group, group))
    return groups


def read_cluster_sizes(path: str | os.PathLike) -> dict[str, int]:
    """A cluster file (one cluster a line): chain -> members of its cluster."""
    sizes: dict[str, int] = {}
    for words in read_lines(path):
        members = {normalized(word) for word in words}
        sizes.update(dict.fromkeys(members, len(members)))
    return sizes


def share_duplicates(
    alignments: Mapping[str, AlignmentRef], duplicates: Mapping[str, tuple[str, ...]]
) -> dict[str, AlignmentRef]:
    """Alignments also for chains that have none but whose identical chains do."""
    shared = dict(alignments)
    for chain, group in duplicates.items():
        if chain not in shared:
            source = next((alignments[other] for other in group if other in alignments), None)
            if source is not None:
                shared[chain] = source
    return shared
