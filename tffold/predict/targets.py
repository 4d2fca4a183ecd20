"""What is to be predicted: sequences of FASTA files with their alignments, or records.

A target is cheap until it is loaded.  What is wrong with it is told when it is loaded, so
that one bad target costs no other.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from records import paths, shards
from records.chemistry import ATOM_TYPES, RESTYPES_WITH_X
from records.errors import InputError
from records.features import (
    Evidence,
    build_features,
    choose_templates,
    read_evidence,
    single_sequence,
)
from records.gunzip import gunzipped
from records.paths import Place
from records.search import SearchOptions, search_sequence
from records.sources import AlignmentRef, find_alignments, normalized
from records.structure import AGAIN, Chain, located
from records.templates import TemplateLibrary
from tffold.data.reader import Damage, RecordSet

Raw = Mapping[str, Any]
FASTA_SUFFIXES = (".fasta", ".fa", ".faa", ".fas", ".seq")
_LETTERS = frozenset(RESTYPES_WITH_X)
_MAX_TEMPLATES = 20  # as in a record; the pipeline takes the best of them


@dataclass(frozen=True)
class Target:
    """One chain to predict.

    ``name`` is its folder's, ``length`` in residues, ``source`` says where it is from
    ("query.fasta: line 3, >1ubq"), ``identity`` tells it from another target of that name;
    ``load`` gives the raw features of ``records.schema`` or raises InputError.
    """

    name: str
    length: int
    source: str
    identity: str
    load: Callable[[], Raw]


@dataclass(frozen=True)
class Evidences:
    """Where the alignments and templates of sequences come from.

    Args:
      alignments: folders as ``tffold-convert --alignments`` takes them.
      search: what to search for sequences without alignments; None = nothing.
      alone: predict sequences without alignments from the sequence alone.
      template_folder: mmCIF files of the hits' structures; '' = no templates.
      template_dates: JSON of release dates, spares parsing.
      max_template_date: the latest release date of a template; '' = any.
    """

    alignments: Sequence[str] = ()
    search: SearchOptions | None = None
    alone: bool = False
    template_folder: str = ""
    template_dates: str = ""
    max_template_date: str = ""

    def find(self) -> dict[str, AlignmentRef]:
        """Chain -> alignments.  Raises InputError for a folder that is not there."""
        return find_alignments(self.alignments)

    def read(self, name: str, sequence: str, refs: Mapping[str, AlignmentRef]) -> Evidence:
        """Alignment and template hits of one sequence.  Raises InputError."""
        ref = refs.get(normalized(name))
        if ref is not None:
            return read_evidence(ref, sequence)
        if self.search is not None:
            folder = search_sequence(sequence, folder_name(name), self.search)
            return read_evidence(AlignmentRef(name, str(folder), "folder"), sequence)
        if self.alone:
            return single_sequence(sequence)
        raise InputError(
            f"no alignment of that name in {', '.join(self.alignments) or 'any --alignments'}",
            mend="add one, or pass --search or --single-sequence",
        )

    def features(self, name: str, sequence: str, refs: Mapping[str, AlignmentRef]) -> Raw:
        """The raw features of a sequence; its structure is unknown.  Raises InputError."""
        evidence = self.read(name, sequence, refs)
        library = None
        if self.template_folder:
            library = TemplateLibrary.open(self.template_folder, self.template_dates)
        templates, _ = choose_templates(
            evidence, sequence, library, self.max_template_date, _MAX_TEMPLATES
        )
        none = np.zeros((len(sequence), len(ATOM_TYPES)), np.uint8)
        chain = Chain(
            chain_id=name,
            sequence=sequence,
            positions=np.zeros((*none.shape, 3), np.float32),
            mask=none,
            b_factor=np.zeros(len(sequence), np.float32),
        )
        return build_features(chain, evidence.alignment, templates)


def folder_name(name: str) -> str:
    """A name that a folder can have."""
    return re.sub(r'[\s/\\:*?"<>\0]', "_", name).lstrip(".") or "_"


def find_targets(sources: Sequence[str], evidences: Evidences, max_length: int = 0) -> list[Target]:
    """The targets of FASTA files, of folders of them, or of shards; the shortest first.

    Args:
      max_length: residues; 0 = any.

    Raises:
      InputError: a source that is not there or holds nothing.
    """
    found: list[Target] = []
    for source in sources:
        fasta = []
        if paths.is_folder(source):
            fasta = [e.place for e in paths.list_folder(source) if _is_fasta(e.name)]
        elif not source.endswith(shards.SUFFIX) and paths.is_file(source):
            fasta = [paths.tidy(source)]
        if fasta:
            refs = evidences.find()
            found += [t for p in fasta for t in fasta_targets(p, evidences, refs, max_length)]
        else:
            found += record_targets(source, max_length)
    return sorted(_told_apart(found), key=lambda target: target.length)


def _told_apart(targets: Sequence[Target]) -> list[Target]:
    """The targets; one that has the name of another before it tells so when loaded."""
    first: dict[str, Target] = {}
    result = []
    for number, target in enumerate(targets):
        other = first.setdefault(target.name, target)
        if other is not target:
            problem = InputError(
                f"{other.source} has the same name",
                file=target.source,
                mend="give each sequence a name of its own",
            )
            target = _failing(f"{target.name}.{number}", target.source, problem)
        result.append(target)
    return result


def _failing(name: str, source: str, problem: InputError) -> Target:
    def load() -> Raw:
        raise problem

    return Target(name, 0, source, "", load)


def _is_fasta(name: str) -> bool:
    return name.lower().removesuffix(".gz").endswith(FASTA_SUFFIXES)


def fasta_targets(
    path: Place, evidences: Evidences, refs: Mapping[str, AlignmentRef], max_length: int = 0
) -> list[Target]:
    """The sequences of one FASTA file; the header's first word names the target.

    Raises:
      InputError: the file is not there, empty or no FASTA file.
    """
    data = gunzipped(paths.read_bytes(path), path, AGAIN)
    lines = data.decode("latin-1").splitlines()
    blocks: list[tuple[int, str, list[tuple[int, str]]]] = []  # line, header, numbered lines
    for number, line in enumerate(lines, start=1):
        if line.startswith(">"):
            blocks.append((number, line[1:], []))
        elif line.strip() and not line.startswith(";"):
            if not blocks:
                raise InputError(
                    "text before the first header",
                    file=path,
                    item=f"line {number}",
                    mend="write '>name' above each sequence",
                )
            blocks[-1][2].append((number, line))
    if not blocks:
        raise InputError("holds no sequence", file=path, mend="write '>name' and a sequence")
    return [
        _fasta_target(path, number, header, rows, evidences, refs, max_length)
        for number, header, rows in blocks
    ]


def _fasta_target(
    path: Place,
    number: int,
    header: str,
    rows: Sequence[tuple[int, str]],
    evidences: Evidences,
    refs: Mapping[str, AlignmentRef],
    max_length: int,
) -> Target:
    name = (header.split() or [""])[0]
    item = f"line {number}, >{name}"
    sequence = "".join("".join(row.split()) for _, row in rows).upper().removesuffix("*")

    def load() -> Raw:
        if not name:
            raise InputError("no name", file=path, item=item, mend="write '>name'")
        if not sequence:
            raise InputError("empty sequence", file=path, item=item, mend="leave it out")
        _check_letters(path, name, rows)
        _check_length(len(sequence), max_length, path, item)
        try:
            return evidences.features(name, sequence, refs)
        except InputError as error:
            raise error if error.file else located(error, path, item) from None

    return Target(folder_name(name), len(sequence), f"{path}: {item}", sequence, load)


def _check_letters(path: Place, name: str, rows: Sequence[tuple[int, str]]) -> None:
    last = rows[-1][0]
    for number, row in rows:
        letters = row.rstrip()
        if number == last:
            letters = letters.removesuffix("*")
        for column, letter in enumerate(letters, start=1):
            if letter.upper() not in _LETTERS and not letter.isspace():
                raise InputError(
                    f"{letter!r} is no amino acid",
                    file=path,
                    item=f"line {number}, column {column}, >{name}",
                    mend="use the 20 letters, X for an unknown residue",
                )


def _check_length(length: int, max_length: int, file: object, item: str) -> None:
    if max_length and length > max_length:
        raise InputError(
            f"{length} residues, more than {max_length}",
            file=file,
            item=item,
            mend="cut it into domains, or raise predict.max_length",
        )


def record_targets(source: str, max_length: int = 0) -> list[Target]:
    """The records of shards (files, a folder, a pattern); damaged ones tell so when loaded.

    Raises:
      InputError: there are no shards, or none of their records can be read.
    """
    damage = Damage("skip")
    records = RecordSet([source], damage)

    def loader(record: int) -> Callable[[], Raw]:
        def load() -> Raw:
            item = records.chain_id[record]
            _check_length(int(records.num_res[record]), max_length, source, item)
            return records.read(record)

        return load

    targets = []
    for record, chain in enumerate(records.chain_id):
        length = int(records.num_res[record])
        where = f"{source}: {chain}"
        targets.append(Target(folder_name(chain), length, where, where, loader(record)))
    for number, message in enumerate(damage.count):
        targets.append(_failing(f"damaged_{number}", str(source), InputError(message)))
    return targets
