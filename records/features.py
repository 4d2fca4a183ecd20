"""A chain, its alignments and its templates as one record's raw features.

The features are those of ``records.schema.RECORD_FEATURES``.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np

from records import msa as msa_parser
from records import sources
from records.chemistry import MAP_HHBLITS_TO_RESTYPE
from records.errors import InputError
from records.features_pickle import read_features
from records.hhr import Hit, parse_hhr
from records.hmmsearch import parse_hmmsearch
from records.msa import Alignment
from records.pairing import Pairs, is_of_several_chains, part_of, read_pairs
from records.sources import AlignmentRef
from records.structure import Chain, located
from records.templates import TemplateLibrary, stack_templates, template_features


@dataclass(frozen=True)
class Evidence:
    """What searches found for one sequence: the merged alignment and template hits.

    ``hits`` are of a template search in ``hits_file``; ``ready`` are templates that AlphaFold
    already laid out, from features.pkl; ``pairs`` are rows to pair with other chains'.
    """

    alignment: Alignment
    hits: tuple[Hit, ...] = ()
    hits_file: str = ""
    ready: tuple[Mapping[str, Any], ...] = ()
    pairs: Pairs | None = None


@lru_cache(maxsize=2)  # identical chains come one after another
def read_evidence(ref: AlignmentRef, sequence: str, pairing: bool = False) -> Evidence:
    """Read, check and merge the alignments of one chain.

    Order: UniRef90, BFD/Uniclust30, MGnify, others; exact duplicates dropped, row 0 the
    chain's sequence.  With ``pairing`` UniProt's hits are read too.  Raises InputError that
    names file and item.
    """
    contents = sources.read_alignments(ref, pairing=pairing)
    names = sorted((n for n in contents if sources.is_msa(n)), key=sources.msa_order)
    alignments = []
    for name in names:
        alignment = msa_parser.parse(contents[name], name)
        msa_parser.check_query(alignment, sequence, name)
        alignments.append(alignment)
    ready: tuple[Mapping[str, Any], ...] = ()
    pickled = [n for n in contents if sources.plain_name(n).endswith(sources.FEATURES_NAME)]
    if not names and pickled:
        alignment, ready = _from_pickle(contents[pickled[0]], sequence, pickled[0])
        alignments.append(alignment)
    if not alignments:
        raise InputError(
            "no alignment file", file=ref.path, item=ref.name,
            mend="put *.a3m or *.sto there, or search with --search",
        )  # fmt: skip
    hits_name = sources.pick_hits(contents)
    hits: list[Hit] = []
    if hits_name and sources.plain_name(hits_name).endswith(sources.HIT_SUFFIX):
        hits = parse_hhr(contents[hits_name], hits_name)
    elif hits_name:
        hits = parse_hmmsearch(contents[hits_name], sequence, hits_name)
    pairs = [(name, contents[name]) for name in sorted(filter(sources.is_pairing, contents))]
    return Evidence(
        msa_parser.merge(alignments, sequence),
        tuple(hits),
        hits_name or "",
        ready,
        read_pairs(pairs, sequence),
    )


def read_part(ref: AlignmentRef, sequence: str) -> Evidence:
    """Of the alignments of a whole complex those of the chain of this sequence, with pairs.

    AlphaFold-Multimer's folder (``msas/A`` for each chain, ``msas/chain_id_map.json``),
    ColabFold's file over several chains, or an alignment of one chain that is all there is.
    Raises InputError that names file and item.
    """
    if ref.kind == "folder":
        return read_evidence(sources.folder_of_sequence(ref, sequence), sequence, pairing=True)
    for name, data in sources.read_alignments(ref).items():
        if is_of_several_chains(data):
            alignment, pairs = part_of(data, sequence, name)
            return Evidence(alignment, pairs=pairs)
    return read_evidence(ref, sequence, pairing=True)


def single_sequence(sequence: str) -> Evidence:
    """No alignment at all: the query alone."""
    return Evidence(msa_parser.merge([], sequence))


def _from_pickle(
    data: bytes, sequence: str, file: str
) -> tuple[Alignment, tuple[Mapping[str, Any], ...]]:
    features = read_features(data, file)
    num_res = len(sequence)

    def array(name: str, *tail: int) -> np.ndarray:
        value = features.get(name)
        if value is None or value.dtype.kind not in "iufb" or value.shape[1:] != tail:
            found = "absent" if value is None else f"{value.dtype}{list(value.shape)}"
            raise InputError(
                f"{name} is {found}, not numbers [*, {', '.join(map(str, tail))}]",
                file=file,
                mend="the features belong to another chain, or are no monomer's",
            )
        if not np.isfinite(value).all():
            raise InputError(f"{name} is not finite", file=file, mend="write it again")
        return value

    rows, deletions = array("msa", num_res), array("deletion_matrix_int", num_res)
    if not len(rows) or rows.shape != deletions.shape or rows.min() < 0 or rows.max() > 21:
        raise InputError("msa is empty or no alignment", file=file, mend="write it again")
    alignment = Alignment(
        rows.astype(np.uint8),
        np.clip(deletions, 0, msa_parser.MAX_DELETION).astype(np.uint8),
    )
    msa_parser.check_query(alignment, sequence, file)
    if "template_aatype" not in features or not len(features["template_aatype"]):
        return alignment, ()
    types = array("template_aatype", num_res, 22)
    positions = array("template_all_atom_positions", num_res, 37, 3)
    masks = array("template_all_atom_masks", num_res, 37)
    names = features.get("template_domain_names", np.zeros(0, object)).reshape(-1)
    probs = features.get("template_sum_probs", np.zeros(0)).reshape(-1)
    if not len(types) == len(positions) == len(masks) == len(names) == len(probs):
        raise InputError("template features differ in number", file=file, mend="write it again")
    ready = [
        {
            "template_aatype": MAP_HHBLITS_TO_RESTYPE[types[index].argmax(-1)].astype(np.uint8),
            "template_all_atom_positions": positions[index].astype(np.float32),
            "template_all_atom_masks": (masks[index] > 0).astype(np.uint8),
            "template_sum_probs": float(probs[index]),
            "template_domain_names": _text(names[index]),
            "template_release_date": "",
        }
        for index in range(len(types))
        if (masks[index] > 0).any()
    ]
    return alignment, tuple(ready)


def _text(value: Any) -> str:
    return value.decode("latin-1") if isinstance(value, bytes) else str(value)


def choose_templates(
    evidence: Evidence,
    sequence: str,
    library: TemplateLibrary | None,
    limit: str,
    max_templates: int,
) -> tuple[dict[str, Any], Counter[str]]:
    """Template features of a chain, and why hits fell out.

    Ready templates obey the same date limit: one whose entry is not among the given
    structures has no known date and is left out when there is a limit.
    """
    if evidence.ready:
        kept, reasons = [], Counter()
        for template in sorted(evidence.ready, key=lambda one: -one["template_sum_probs"]):
            name = template["template_domain_names"].split("_")[0].lower()
            date = (library.date(name) if library else None) or ""
            if limit and (not date or date > limit):
                reasons["released too late" if date else "release date not known"] += 1
            elif len(kept) < max_templates:
                kept.append({**template, "template_release_date": date})
        return stack_templates(kept, len(sequence)), reasons
    try:
        return template_features(evidence.hits, sequence, library, limit, max_templates)
    except InputError as error:
        raise error if error.file else located(error, evidence.hits_file) from error


def coordinates(
    chain: Chain, *, distillation: bool = False, min_residue_confidence: float = 0.0
) -> dict[str, Any]:
    """What a record holds of a chain's coordinates, residue by residue.

    A predicted chain's B-factors are its confidence (pLDDT, 0 to 100); the atoms of
    residues at or below ``min_residue_confidence`` are masked, their coordinates 0.
    """
    num_res = chain.num_res
    positions, mask = chain.positions, chain.mask
    confidence = np.full(num_res, 100.0, np.float32)
    if distillation:
        confidence = np.clip(chain.b_factor, 0.0, 100.0).astype(np.float32)
        sure = confidence > min_residue_confidence
        mask = mask * sure[:, None].astype(np.uint8)
        positions = positions * mask[..., None]
    return {
        "residue_index": np.arange(num_res, dtype=np.int32),
        "all_atom_positions": positions,
        "all_atom_mask": mask,
        "confidence": confidence,
    }


def build_features(
    chain: Chain,
    alignment: Alignment,
    templates: Mapping[str, Any],
    *,
    pairs: Pairs | None = None,
    cluster_size: int = -1,
    distillation: bool = False,
    min_residue_confidence: float = 0.0,
) -> dict[str, Any]:
    """The raw features of a monomer; of ``distillation`` see ``coordinates``."""
    return {
        "chain_id": chain.chain_id,
        "sequence": chain.sequence,
        "aatype": chain.aatype,
        "between_segment_residues": np.zeros(chain.num_res, np.uint8),
        **coordinates(
            chain, distillation=distillation, min_residue_confidence=min_residue_confidence
        ),
        "msa": alignment.msa,
        "deletion_matrix": alignment.deletions,
        **templates,
        **(
            {
                "uniprot_msa": pairs.msa,
                "uniprot_deletion_matrix": pairs.deletions,
                "uniprot_species": pairs.species,
            }
            if pairs is not None
            else {}
        ),
        "resolution": chain.resolution,
        "release_date": chain.release_date,
        "is_distillation": int(distillation),
        "cluster_size": cluster_size,
    }
