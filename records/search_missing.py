"""Search for the chains that have no alignments."""

from __future__ import annotations

import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

from tqdm import tqdm

from records.convert import ConvertOptions, FileTask, read_chain, searched_chains
from records.errors import InputError
from records.mmseqs import search_batch
from records.search import SearchOptions, check_search, search_sequence
from records.sources import AlignmentRef
from records.stores import UnreachableError


@dataclass(frozen=True)
class _Found:
    """One searched sequence: its folder or what went wrong."""

    folder: str = ""
    error: str = ""


def _key(task: FileTask, chain: str) -> str:
    return f"{task.name}_{chain}" if chain else task.name


def _search(sequence: str, key: str, options: SearchOptions) -> _Found:
    try:
        return _Found(folder=str(search_sequence(sequence, key, options)))
    except InputError as error:
        return _Found(error=str(error))


def search_missing(
    tasks: Sequence[FileTask],
    convert_options: ConvertOptions,
    options: SearchOptions,
    *,
    workers: int = 1,
    progress: bool = True,
) -> list[FileTask]:
    """The tasks with alignments for every chain that could be searched.

    Each distinct sequence is searched once; a search that fails leaves its chains to be
    rejected with that reason.  Raises InputError at once when a program or database is
    missing, or when MMseqs2's search, which is one for all chains, fails.
    """
    check_search(options)
    wanted: dict[str, list[tuple[int, str]]] = {}  # sequence -> chains
    for number, task in enumerate(tasks):
        try:
            chains = searched_chains(task, convert_options)
        except UnreachableError:
            raise
        except InputError:
            continue  # told when it is converted
        for chain in chains:
            if chain not in task.alignments:
                try:
                    sequence = read_chain(task, chain, convert_options).sequence
                except UnreachableError:
                    raise
                except InputError:
                    continue
                wanted.setdefault(sequence, []).append((number, chain))
    jobs = {
        sequence: _key(tasks[places[0][0]], places[0][1]) for sequence, places in wanted.items()
    }
    if options.mmseqs:
        search_batch(jobs, options, threads=max(workers, options.cpu))
    threads = max(1, workers // options.cpu)
    with (
        ThreadPoolExecutor(threads) as pool,
        tqdm(total=len(jobs), unit="search", disable=not progress) as bar,
    ):
        futures = {}
        for sequence, key in jobs.items():
            futures[sequence] = pool.submit(_search, sequence, key, options)
            futures[sequence].add_done_callback(lambda _: bar.update())
        try:
            results = {sequence: future.result() for sequence, future in futures.items()}
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise
    filled = list(tasks)
    for sequence, places in wanted.items():
        found = results[sequence]
        for number, chain in places:
            task = filled[number]
            key = _key(task, chain)
            if found.error:
                filled[number] = replace(
                    task, search_errors={**task.search_errors, chain: found.error}
                )
                continue
            folder = Path(found.folder)
            link = folder.parent / key
            if link != folder and not link.exists():
                os.symlink(folder.name, link)  # the next run finds it under this name too
            ref = AlignmentRef(key, str(link), "folder")
            filled[number] = replace(task, alignments={**task.alignments, chain: ref})
    return filled
