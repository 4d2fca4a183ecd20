"""From the command line's files and lists to the tasks of a conversion."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import replace

from records import paths as places
from records.convert import FileTask
from records.errors import InputError
from records.mmcif import MMCIF_SUFFIXES, files_below, mmcif_files, read_bytes
from records.sources import (
    AlignmentRef,
    AnyCase,
    find_alignments,
    find_path,
    normalized,
    read_chain_list,
    read_cluster_sizes,
    read_duplicates,
    read_lines,
    share_duplicates,
)

_MODEL_SUFFIXES = (".pdb", ".ent", ".pdb.gz", ".ent.gz", *MMCIF_SUFFIXES)


def _expand(sources: Sequence[str]) -> list[str]:
    """'@file' stands for the paths in that file, or for what a manifest of predictions chose."""
    paths: list[str] = []
    for source in sources:
        if source.startswith("@") and source.endswith(".jsonl"):
            paths += _chosen(source[1:])
        elif source.startswith("@"):
            paths += [words[0] for words in read_lines(source[1:])]
        else:
            paths.append(source)
    return paths


def _as_spelt(source: str) -> str:
    """A structure's place; a single one on a store is not asked for here: lists name thousands."""
    if places.is_url(source) and source.lower().endswith(_MODEL_SUFFIXES):
        return places.tidy(source)
    return find_path(source)


def _chosen(manifest: str) -> list[str]:
    """The structures that ``tffold-predict --distill`` chose: paths relative to its manifest.

    Raises InputError for a line that is none of a manifest's, or when nothing was chosen.
    """
    paths = []
    for number, line in enumerate(read_bytes(manifest).decode().splitlines(), start=1):
        try:
            entry = json.loads(line)
            if entry["status"] == "selected":
                paths.append(places.join(places.parent(manifest), entry["structure"]))
        except (ValueError, KeyError, TypeError):
            raise InputError(
                "not a line of a distillation manifest",
                file=manifest,
                item=f"line {number}",
                mend="write it again with tffold-predict --distill",
            ) from None
    if not paths:
        raise InputError("no prediction was chosen", file=manifest, mend="lower the thresholds")
    return paths


def model_files(sources: Sequence[str | os.PathLike]) -> dict[str, str]:
    """Name -> predicted structure (PDB or mmCIF), over folders, archives and files."""
    found: dict[str, str] = {}
    suffixes = sorted(_MODEL_SUFFIXES, key=len, reverse=True)
    for source in map(_as_spelt, sources):
        for path in files_below(source):
            name = places.name(path)
            suffix = next((suffix for suffix in suffixes if name.lower().endswith(suffix)), None)
            if suffix is not None:
                found.setdefault(name[: -len(suffix)], path)
    return found


def _chain_of_entry(name: str) -> str:
    """'1abc' -> '1abc_1abc': the complex of an entry goes by the entry's name."""
    return name if "_" in name else f"{name}_{name.lower()}"


def _by_entry(table: Mapping[str, object]) -> dict[str, dict[str, object]]:
    """'1ubq_A' -> value regrouped as '1ubq' -> 'A' -> value."""
    grouped: dict[str, dict[str, object]] = {}
    for chain_id, value in table.items():
        entry, bar, chain = chain_id.rpartition("_")
        if bar:
            grouped.setdefault(entry.lower(), {})[chain] = value
    return grouped


def make_tasks(
    structures: Sequence[str],
    alignments: Sequence[str],
    *,
    chains: str | None = None,
    duplicates: str | None = None,
    clusters: str | None = None,
    validation_chains: str | None = None,
    distillation: bool = False,
    complexes: bool = False,
    limit: int = 0,
) -> list[FileTask]:
    """One task per structure file, sorted by name, with its chains' alignments.

    With ``complexes`` a task has one record, '', and a listed chain, or a listed entry,
    stands for the complex that it is in.  ``limit`` keeps the first so many of those that
    have any alignments.

    Listed chains whose structure is not given become tasks too, so that the manifest says
    so.  Raises InputError for missing files and broken lists.
    """
    sources = _expand(structures)
    files = model_files(sources) if distillation else mmcif_files(map(_as_spelt, sources))
    if not files:
        raise InputError(
            "no structure files", file=" ".join(sources[:3]), mend="name .cif or .cif.gz files"
        )
    groups = read_duplicates(duplicates) if duplicates else {}
    wanted = read_chain_list(chains) if chains else None
    refs = find_alignments(alignments, None if complexes else _aliases(wanted, groups))
    if groups:
        refs = share_duplicates(refs, groups)
    sizes = read_cluster_sizes(clusters) if clusters else {}
    for chain, group in groups.items():  # clusters may name one of identical chains only
        if sizes and chain not in sizes:
            known = next((sizes[other] for other in group if other in sizes), None)
            if known is not None:
                sizes[chain] = known
    validation = frozenset(read_chain_list(validation_chains) if validation_chains else ())
    if distillation:
        tasks = _model_tasks(files, refs, sizes, wanted, validation, complexes)
        return _limited(tasks, refs, limit)
    if complexes:
        wanted = None if wanted is None else [_chain_of_entry(name) for name in wanted]
        validation = frozenset(map(_chain_of_entry, validation))
    refs_of, sizes_of = _by_entry(refs), _by_entry(sizes)
    validation_of = _by_entry(dict.fromkeys(validation))
    wanted_of = None if wanted is None else _by_entry(dict.fromkeys(wanted))
    if wanted_of is not None and sum(map(len, wanted_of.values())) != len(wanted or ()):
        bad = next(chain for chain in wanted or () if "_" not in chain)
        raise InputError("not a chain", file=chains, item=bad, mend="write entry_chain: 1ubq_A")
    whole = AnyCase(refs) if complexes else AnyCase({})  # alignments of all chains together
    tasks = [
        FileTask(
            path=str(files.get(name, f"{name}.cif (not given)")),
            name=name,
            chains=("",) if complexes else wanted_of and tuple(sorted(wanted_of[name])),
            alignments={
                **refs_of.get(name, {}),
                **({"": ref} if (ref := whole.get(name)) is not None else {}),
            },
            cluster_sizes=sizes_of.get(name, {}),
            validation=frozenset(validation_of.get(name, ())),
        )
        for name in sorted(files if wanted_of is None else wanted_of)
    ]
    return _limited(tasks, refs, limit)


def _limited(tasks: list[FileTask], refs: Mapping[str, AlignmentRef], limit: int) -> list[FileTask]:
    """The first ``limit`` tasks, of those with alignments where there are any; 0 = all."""
    if not limit:
        return tasks
    return [task for task in tasks if task.alignments or not refs][:limit]


def _aliases(wanted: Sequence[str] | None, groups: Mapping[str, Sequence[str]]) -> list[str] | None:
    """The names under which the alignments of the wanted chains may lie; None for all."""
    if wanted is None:
        return None
    names = [alias for name in wanted for alias in (name, *model_names(name))]
    return [other for name in names for other in (name, *groups.get(name, ()))]


def model_names(name: str) -> tuple[str, str]:
    """Shorter names of AlphaFold DB's 'AF-P69905-F1-model_v4': its fragment, its accession."""
    short = name.rsplit("-model_", 1)[0]
    return short, short.split("-")[1] if short.startswith("AF-") and short.count("-") else short


def _model_tasks(
    files: Mapping[str, str],
    refs: Mapping[str, AlignmentRef],
    sizes: Mapping[str, int],
    wanted: Sequence[str] | None,
    validation: frozenset[str],
    complexes: bool,
) -> list[FileTask]:
    tasks = []
    refs_of = _by_entry(refs) if complexes else {}  # by chain
    path_of, ref_of, size_of = AnyCase(files), AnyCase(refs), AnyCase(sizes)
    for name in sorted(files if wanted is None else wanted):
        found = map(ref_of.get, (name, *model_names(name)))
        ref = next((one for one in found if one is not None), None)
        size = size_of.get(name)
        tasks.append(
            FileTask(
                path=str(path_of.get(name) or f"{name} (not given)"),
                name=name,
                chains=("",),
                alignments={
                    **refs_of.get(name.lower(), {}),
                    **({} if ref is None else {"": ref}),
                },
                cluster_sizes={} if size is None else {"": size},
                validation=frozenset([""] if name in validation else ()),
            )
        )
    return tasks


def angstroms(text: str, file: object = None, item: object = None) -> float:
    """A resolution.  Raises InputError for what is none."""
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0.0 < value <= 100.0:
        raise InputError(
            f"{text!r} is no resolution", file=file, item=item, mend="write Å, above 0: 2.5"
        )
    return value


def add_resolutions(tasks: Sequence[FileTask], path: str) -> list[FileTask]:
    """The tasks with the resolutions of a file: a chain and its value in Å a line.

    Chains that are not in the file keep what their structure says.  Raises InputError for a
    line that is not so, a chain given twice with two values, or one that no structure has.
    """
    table: dict[str, float] = {}
    for words in read_lines(path):
        chain = normalized(words[0])
        if len(words) != 2:
            raise InputError(
                "not a chain and its resolution", file=path, item=" ".join(words),
                mend="write one a line: 1ubq_A 1.8",
            )  # fmt: skip
        value = angstroms(words[1], path, words[0])
        if table.setdefault(chain, value) != value:
            raise InputError("has two resolutions", file=path, item=words[0], mend="keep one")
    of_entry, known, filled = _by_entry(table), set(), []
    for task in tasks:
        if task.chains == ("",):
            found = {"": table[task.name]} if task.name in table else {}
            known.add(task.name)
        else:
            found = of_entry.get(task.name.lower(), {})
            wanted = found if task.chains is None else task.chains
            known.update(f"{task.name.lower()}_{chain}" for chain in wanted)
        filled.append(replace(task, resolutions=found))
    for chain in table:
        if chain not in known:
            raise InputError(
                "no such chain among the structures", file=path, item=chain,
                mend="mend its name or leave its line out",
            )  # fmt: skip
    return filled
