"""Conversion of one chain, and of the chains of one structure file.

``convert_chain`` is a pure function of files and options: it reads, never writes, and
answers with a record or with the reason for which there is none.  Process pool, job
arrays and Beam all call it through ``convert_file``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache, partial
from typing import Any

from records import afdb, example, paths
from records.assembly import (
    ASYMMETRIC_UNIT,
    PlacedChain,
    check_count,
    interfaces,
    read_assembly,
)
from records.complexes import join, num_shared_species
from records.errors import InputError
from records.features import (
    Evidence,
    build_features,
    choose_templates,
    coordinates,
    read_evidence,
    read_part,
    single_sequence,
)
from records.mmcif import MMCIF_SUFFIXES, Entry, read_bytes
from records.pdb import read_model, read_models
from records.sources import AlignmentRef
from records.stores import UnreachableError
from records.structure import LEAVE_OUT, Chain, located
from records.templates import TemplateLibrary, date_limit

TRAIN, VALIDATION = "train", "validation"
_UNIT_BYTES = 64 << 20  # a worker hands back its records after this many bytes …
_UNIT_CHAINS = 32  # … or chains, so that a capsid's thousand chains need no memory


@dataclass(frozen=True)
class ConvertOptions:
    """What decides a record's content.  Dates are YYYY-MM-DD, '' where there is no limit."""

    template_folder: str = ""  # '' = no templates
    template_dates: str = ""  # JSON cache of release dates
    max_template_date: str = ""
    template_lag_days: int = 60
    max_templates: int = 20
    max_msa_rows: int = 0  # 0 = all
    max_release_date: str = ""  # training cut-off
    validation_from: str = ""  # chains released then or later are validation
    min_length: int = 1
    max_length: int = 0  # 0 = any
    min_msa_depth: int = 1
    keep_unknown_residues: bool = False
    single_sequence: bool = False  # chains without alignment: the query alone
    distillation: bool = False
    min_mean_confidence: float = 0.0
    min_residue_confidence: float = 50.0  # distillation; OpenFold's threshold
    resolution: float = 0.0  # Å, of every chain, known by other means; 0 = as the file says
    chain_timeout: int = 600  # seconds
    complexes: bool = False  # a record for each file's assembly, not for each chain
    assembly: str = "1"  # the assembly's name, or "asym" for the asymmetric unit
    min_chains: int = 1  # of a complex
    max_chains: int = 20  # AlphaFold-Multimer's from version 3 on


@dataclass(frozen=True)
class FileTask:
    """The chains wanted of one structure file, with where their alignments lie.

    ``chains`` are author names, None for every polymer chain; the mappings go from author
    names ('' for a prediction, which has one chain, and for a complex, which is one record).
    """

    path: str
    name: str
    chains: tuple[str, ...] | None
    alignments: Mapping[str, AlignmentRef] = field(default_factory=dict)
    cluster_sizes: Mapping[str, int] = field(default_factory=dict)
    validation: frozenset[str] = frozenset()
    resolutions: Mapping[str, float] = field(default_factory=dict)  # Å, instead of the file's
    search_errors: Mapping[str, str] = field(default_factory=dict)  # why there is no alignment


@dataclass(frozen=True)
class Outcome:
    """What became of one chain.

    ``record`` is the serialized example ('' when rejected), ``entry`` its index line;
    ``notes`` what the manifest tells beside it; ``reason`` tells people why there is none,
    ``category`` groups reasons.
    """

    chain_id: str
    split: str = ""
    record: bytes = b""
    entry: Mapping[str, Any] = field(default_factory=dict)
    notes: Mapping[str, Any] = field(default_factory=dict)
    reason: str = ""
    category: str = ""

    @property
    def written(self) -> bool:
        return not self.reason


@lru_cache(maxsize=1)  # the chains of a file come one after another
def _open_entry(path: str) -> Entry:
    return Entry(path)


def _chain_id(task: FileTask, chain: str) -> str:
    return f"{task.name}_{chain}" if chain else task.name


def chain_names(task: FileTask, options: ConvertOptions) -> list[str]:
    """The chains to convert, in order: those asked for, or all polymer chains.

    Raises InputError for a file that cannot be read or has none.
    """
    if task.chains is not None:
        return list(task.chains)
    if options.distillation:
        return [""]
    chains = sorted(_open_entry(task.path).chain_names())
    if not chains:
        raise InputError("no polymer chain", file=task.path, mend=LEAVE_OUT)
    return chains


def searched_chains(task: FileTask, options: ConvertOptions) -> list[str]:
    """The chains that are to be searched for where they have no alignment.

    Of a complex all its file's proteins.  Raises InputError.
    """
    if not options.complexes:
        return chain_names(task, options)
    if "" in task.alignments:  # of the whole complex
        return []
    return list(_open_entry(task.path).protein_asyms().values())


def read_chain(task: FileTask, chain: str, options: ConvertOptions) -> Chain:
    """Read one chain of the task's file.  Raises InputError."""
    if not options.distillation:
        return _open_entry(task.path).chain(chain)
    # A prediction was never released: its file's date says nothing about templates.
    return replace(_read_model(task, options), release_date="", resolution=0.0)


def check_confidence(task: FileTask, options: ConvertOptions) -> None:
    """Refuses a prediction of AlphaFold DB by its mean confidence, before it is fetched.

    Raises InputError.
    """
    if options.min_mean_confidence and paths.is_url(task.path):
        mean = afdb.mean_confidence(task.path)
        if mean is not None and mean < options.min_mean_confidence:
            raise InputError("mean confidence too low", file=task.path, item=f"{mean:.1f}")


def _read_model(task: FileTask, options: ConvertOptions) -> Chain:
    """The single chain of a predicted structure, PDB or mmCIF.  Raises InputError."""
    path = task.path
    check_confidence(task, options)
    data = read_bytes(path)
    if not path.lower().removesuffix(".gz").endswith((".pdb", ".ent")):
        entry = Entry(path, data)
        proteins = entry.protein_sequences() or dict.fromkeys(entry.chain_names())
        if len(proteins) != 1:
            raise InputError(
                f"{len(proteins)} protein chains, not one", file=path,
                mend="a predicted structure holds one chain",
            )  # fmt: skip
        return entry.chain(next(iter(proteins)))
    return read_model(path, data.decode("latin-1"), task.name)


def _check_chain(chain: Chain, options: ConvertOptions) -> None:
    if chain.unknown and not options.keep_unknown_residues:
        raise InputError(
            "unknown residues", item=", ".join(chain.unknown[:5]),
            mend="leave the chain out or pass --keep-unknown-residues",
        )  # fmt: skip
    if options.max_release_date and not options.distillation:
        if not chain.release_date:
            raise InputError("no release date, but there is a cut-off date", mend=LEAVE_OUT)
        if chain.release_date > options.max_release_date:
            raise InputError("released after the cut-off date", item=chain.release_date)
    if chain.num_res < options.min_length:
        raise InputError("shorter than --min-length", item=f"{chain.num_res} residues")
    if options.max_length and chain.num_res > options.max_length:
        raise InputError("longer than --max-length", item=f"{chain.num_res} residues")
    if options.distillation and float(chain.b_factor.mean()) < options.min_mean_confidence:
        raise InputError("mean confidence too low", item=f"{chain.b_factor.mean():.1f}")


def _evidence(
    task: FileTask, chain: Chain, names: Sequence[str], options: ConvertOptions
) -> Evidence:
    for name in names:
        if name in task.alignments:
            return read_evidence(task.alignments[name], chain.sequence, options.complexes)
    if options.complexes and "" in task.alignments:
        return read_part(task.alignments[""], chain.sequence)
    if options.single_sequence:
        return single_sequence(chain.sequence)
    for name in names:
        if name in task.search_errors:
            raise InputError("search failed", item=task.search_errors[name])
    mend = "add one, or pass --search or --single-sequence"
    others = [name for name in task.alignments if name.lower() in map(str.lower, names)]
    if others:
        mend = f"there is one for {', '.join(others)}, but case counts in chains' names; {mend}"
    raise InputError("no alignment for the chain", mend=mend)


def _features(
    task: FileTask, chain: Chain, names: Sequence[str], options: ConvertOptions
) -> dict[str, Any]:
    """The raw features of a chain; ``names`` are those of it and of its copies in the file.

    Whatever is known of one of them by name, or of the whole complex (''), serves all.
    """

    def known(table: Mapping[str, Any]) -> Any:
        return next((table[name] for name in (*names, "") if name in table), None)

    try:
        _check_chain(chain, options)
        evidence = _evidence(task, chain, names, options)
        if evidence.alignment.depth < options.min_msa_depth:
            raise InputError("alignment too shallow", item=f"{evidence.alignment.depth} rows")
    except InputError as error:
        name = ", ".join(names)
        raise error if error.file else located(error, task.path, f"chain {name}") from error
    alignment = evidence.alignment
    if options.max_msa_rows:
        rows = slice(options.max_msa_rows)
        alignment = type(alignment)(alignment.msa[rows], alignment.deletions[rows])
    library = None
    if options.template_folder:
        library = TemplateLibrary.open(options.template_folder, options.template_dates)
    limit = date_limit(chain.release_date, options.max_template_date, options.template_lag_days)
    templates, _ = choose_templates(evidence, chain.sequence, library, limit, options.max_templates)
    cluster_size = known(task.cluster_sizes)
    features = build_features(
        chain,
        alignment,
        templates,
        pairs=evidence.pairs,
        cluster_size=-1 if cluster_size is None else cluster_size,
        distillation=options.distillation,
        min_residue_confidence=options.min_residue_confidence,
    )
    resolution = known(task.resolutions) or options.resolution
    if resolution:
        features["resolution"] = resolution
    return features


def _convert(task: FileTask, name: str, options: ConvertOptions) -> Outcome:
    chain = read_chain(task, name, options)
    features = _features(task, chain, [name], options)
    features |= {"chain_id": _chain_id(task, name), "chain_names": [name]}
    late = options.validation_from and chain.release_date >= options.validation_from
    return Outcome(
        chain_id=features["chain_id"],
        split=VALIDATION if late or name in task.validation else TRAIN,
        record=example.encode(features),
        entry=example.index_entry(features),
    )


def _placed_chains(task: FileTask, options: ConvertOptions) -> list[PlacedChain]:
    """The chains of a deposited assembly, or those of a prediction.  Raises InputError."""
    path = task.path
    if not options.distillation:
        return read_assembly(_open_entry(task.path), options.assembly, options.max_chains)
    if path.lower().endswith(MMCIF_SUFFIXES):
        placed = read_assembly(Entry(path), ASYMMETRIC_UNIT, options.max_chains)
    else:
        chains = read_models(path, read_bytes(path).decode("latin-1"), task.name)
        check_count(len(chains), options.max_chains, path)
        placed = [PlacedChain(name, name, chain) for name, chain in chains.items()]
    # A prediction was never released: its file's date says nothing about templates.
    return [
        replace(one, chain=replace(one.chain, release_date="", resolution=0.0)) for one in placed
    ]


def _check_complex(chains: Sequence[Chain], options: ConvertOptions) -> None:
    if len(chains) < options.min_chains:
        raise InputError("fewer chains than --min-chains", item=f"{len(chains)} chains")
    total = sum(chain.num_res for chain in chains)
    if total < options.min_length:
        raise InputError("shorter than --min-length", item=f"{total} residues")
    if options.max_length and total > options.max_length:
        raise InputError("longer than --max-length", item=f"{total} residues")
    if options.distillation:
        mean = sum(float(chain.b_factor.sum()) for chain in chains) / total
        if mean < options.min_mean_confidence:
            raise InputError("mean confidence too low", item=f"{mean:.1f}")


def _convert_complex(task: FileTask, options: ConvertOptions) -> Outcome:
    placed = _placed_chains(task, options)
    try:
        _check_complex([one.chain for one in placed], options)
    except InputError as error:
        raise located(error, task.path) from error
    # These limits are those of the whole complex.
    of_chains = replace(options, min_length=1, max_length=0, min_mean_confidence=0.0)
    assembly = join(
        task.name,
        placed,
        lambda chain, names: _features(task, chain, names, of_chains),
        partial(
            coordinates,
            distillation=options.distillation,
            min_residue_confidence=options.min_residue_confidence,
        ),
    )
    late = options.validation_from and placed[0].chain.release_date >= options.validation_from
    chosen = task.validation & {task.name, "", *(one.source for one in placed)}
    return Outcome(
        chain_id=task.name,
        split=VALIDATION if late or chosen else TRAIN,
        record=example.encode(assembly),
        entry=example.index_entry(assembly),
        notes={
            "chain_names": list(assembly.features["chain_names"]),
            "entity_id": list(assembly.entity_id),
            "shared_species": num_shared_species(assembly),
            "interfaces": [
                [one.first, one.second, one.contacts, one.buried] for one in interfaces(placed)
            ],
        },
    )


def convert_chain(task: FileTask, name: str, options: ConvertOptions) -> Outcome:
    """Convert one chain of a structure file: its record, or the reason for none.

    Depends on the files and the arguments only, writes nothing and raises nothing but
    what stops the program (KeyboardInterrupt, SystemExit) or the run: a store that is out of
    reach (UnreachableError) says nothing of the chain.
    """
    try:
        return (
            _convert_complex(task, options) if options.complexes else _convert(task, name, options)
        )
    except UnreachableError:
        raise
    except InputError as error:
        return rejected(task, name, str(error), error.what)
    except Exception as error:  # a bad chain never stops the others
        what = f"unexpected {type(error).__name__}: {error}"
        return rejected(task, name, f"{task.path}: {what}", what)


def rejected(task: FileTask, name: str, reason: str, category: str) -> Outcome:
    """The outcome of a chain without a record."""
    return Outcome(_chain_id(task, name), reason=reason, category=category)


def unreadable(task: FileTask, reason: str, category: str) -> list[Outcome]:
    """The same rejection for every chain that the file should have held.

    Those asked for or, when all were, those that have an alignment; else the entry stands
    for its chains.
    """
    chains = sorted(task.alignments) if task.chains is None else task.chains
    names = [_chain_id(task, chain) for chain in chains] or [task.name]
    return [Outcome(name, reason=reason, category=category) for name in names]


def convert_file(
    task: FileTask, options: ConvertOptions, start: int = 0, most: int | None = None
) -> tuple[list[Outcome], int | None]:
    """Convert the chains of one file from the ``start``-th on, ``most`` of them at a time.

    Returns the outcomes and, when they are many or large, the chain to go on with.  Raises
    UnreachableError.
    """
    try:
        chains = chain_names(task, options)
    except UnreachableError:
        raise
    except InputError as error:
        return unreadable(task, str(error), error.what), None
    except Exception as error:
        what = f"unexpected {type(error).__name__}: {error}"
        return unreadable(task, f"{task.path}: {what}", what), None
    outcomes: list[Outcome] = []
    size = 0
    for index in range(start, len(chains)):
        outcomes.append(convert_chain(task, chains[index], options))
        size += len(outcomes[-1].record)
        if size >= _UNIT_BYTES or len(outcomes) >= (most or _UNIT_CHAINS):
            return outcomes, index + 1 if index + 1 < len(chains) else None
    return outcomes, None
