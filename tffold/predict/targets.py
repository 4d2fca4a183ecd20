"""What is to be predicted: chains and complexes of FASTA files with their alignments, or records.

A target is cheap until it is loaded.  What is wrong with it is told when it is loaded, so
that one bad target costs no other.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from records import listing, paths, shards
from records.chains import Assembly
from records.errors import InputError
from records.paths import Place
from records.sources import AlignmentRef
from records.structure import located
from tffold.config import DataConfig
from tffold.data.reader import Damage, RecordSet
from tffold.predict.evidence import Evidences, folder_name
from tffold.predict.fasta import CHAIN_BREAK, SUFFIXES, Record, is_fasta, read_fasta
from tffold.structures.files import chain_names


@dataclass(frozen=True)
class Target:
    """One chain or complex to predict.

    ``name`` is its folder's, ``length`` in residues, ``source`` says where it is from
    ("query.fasta: line 3, >1ubq"), ``identity`` tells it from another target of that name;
    ``load`` gives the raw features of ``records.schema`` or raises InputError.
    """

    name: str
    length: int
    source: str
    identity: str
    load: Callable[[], Assembly]


def find_targets(
    sources: Sequence[str],
    evidences: Evidences,
    max_length: int = 0,
    complexes: bool = False,
    data: DataConfig | None = None,
) -> list[Target]:
    """The targets of FASTA files, of folders of them, or of shards; the shortest first.

    Args:
      max_length: residues; 0 = any.
      complexes: each FASTA file is one complex; else each of its records is a target.
      data: decides which records are read; None = single chains.

    Raises:
      InputError: a source that is not there or holds nothing.
    """
    found: list[Target] = []
    for source in sources:
        fasta = []
        if paths.is_folder(source):
            fasta = [e.place for e in listing.list_folder(source) if is_fasta(e.name)]
        elif not source.endswith(shards.SUFFIX) and paths.is_file(source):
            fasta = [paths.tidy(source)]
        if fasta:
            refs = evidences.find()
            read = complex_target if complexes else fasta_targets
            found += [t for p in fasta for t in read(p, evidences, refs, max_length)]
        else:
            found += record_targets(source, max_length, data)
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
    def load() -> Assembly:
        raise problem

    return Target(name, 0, source, "", load)


def fasta_targets(
    path: Place, evidences: Evidences, refs: Mapping[str, AlignmentRef], max_length: int = 0
) -> list[Target]:
    """The records of one FASTA file; the header's first word names the target.

    A sequence with colons is a complex of what stands between them.

    Raises:
      InputError: the file is not there, empty or no FASTA file.
    """
    return [
        _target(path, record.name, record.item, [record], evidences, refs, max_length)
        for record in read_fasta(path)
    ]


def complex_target(
    path: Place, evidences: Evidences, refs: Mapping[str, AlignmentRef], max_length: int = 0
) -> list[Target]:
    """All records of one FASTA file as one complex, which has the file's name.

    Raises:
      InputError: the file is not there, empty or no FASTA file.
    """
    file = paths.name(path).removesuffix(".gz")
    name = next((file[: -len(s)] for s in SUFFIXES if file.lower().endswith(s)), file)
    records = read_fasta(path)
    return [_target(path, name, "", records, evidences, refs, max_length)]


def _target(
    path: Place,
    name: str,
    item: str,
    records: Sequence[Record],
    evidences: Evidences,
    refs: Mapping[str, AlignmentRef],
    max_length: int,
) -> Target:
    """The chains of some records as one target."""
    sequences = [sequence for record in records for sequence in record.sequences]
    length = sum(map(len, sequences))

    def load() -> Assembly:
        for record in records:
            record.check(path)
        _check_length(length, max_length, path, item or None)
        if len(sequences) == 1:
            names = [records[0].name]
        elif len(records) == len(sequences):
            names = [record.name for record in records]
        else:
            names = [f"{name}_{letter}" for letter in chain_names(len(sequences))]
        try:
            return evidences.assembly(name, names, sequences, refs)
        except InputError as error:
            raise error if error.file else located(error, path, item or None) from None

    source = f"{path}: {item}" if item else str(path)
    return Target(folder_name(name), length, source, CHAIN_BREAK.join(sequences), load)


def _check_length(length: int, max_length: int, file: object, item: str | None) -> None:
    if max_length and length > max_length:
        raise InputError(
            f"{length} residues, more than {max_length}",
            file=file,
            item=item,
            mend="cut it into domains, or raise predict.max_length",
        )


def record_targets(
    source: str, max_length: int = 0, data: DataConfig | None = None
) -> list[Target]:
    """The records of shards (files, a folder, a pattern); damaged ones tell so when loaded.

    Complexes are among them where ``data.max_chains`` lets them.

    Raises:
      InputError: there are no shards, or none of their records can be read.
    """
    damage = Damage("skip")
    records = RecordSet([source], damage, data)

    def loader(record: int) -> Callable[[], Assembly]:
        def load() -> Assembly:
            item = records.chain_id[record]
            _check_length(int(records.num_res[record]), max_length, source, item)
            return records.read_assembly(record)

        return load

    targets = []
    for record, chain in enumerate(records.chain_id):
        length = int(records.num_res[record])
        where = f"{source}: {chain}"
        targets.append(Target(folder_name(chain), length, where, where, loader(record)))
    for number, message in enumerate(damage.count):
        targets.append(_failing(f"damaged_{number}", str(source), InputError(message)))
    return targets
