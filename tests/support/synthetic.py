"""Small made-up chains and shards: families of rows, gaps, deletions, templates with holes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from records import chemistry, example, shards
from records.chains import Assembly, species_key
from records.errors import CorruptRecordError
from records.schema import RECORD_FEATURES

HHBLITS_LETTERS = "ACDEFGHIKLMNPQRSTVWYX-"


def chain(
    num_res: int = 40,
    num_msa: int = 30,
    num_templates: int = 3,
    *,
    seed: int = 0,
    chain_id: str = "1abc_A",
    **changes: Any,
) -> dict[str, Any]:
    """The raw features of a chain that never lived; keyword arguments replace features."""
    rng = np.random.default_rng([seed, num_res, num_msa])
    query = rng.integers(0, 20, num_res)
    families = np.where(rng.random((4, num_res)) < 0.5, query, rng.integers(0, 20, (4, num_res)))
    msa = families[rng.integers(0, 4, num_msa)]
    msa = np.where(rng.random(msa.shape) < 0.3, rng.integers(0, 22, msa.shape), msa)
    msa[0] = query
    deletions = np.where(rng.random(msa.shape) < 0.1, rng.integers(1, 30, msa.shape), 0)
    deletions[0] = 0
    sequence = "".join(HHBLITS_LETTERS[letter] for letter in query)
    aatype = chemistry.sequence_to_aatype(sequence).astype(np.uint8)
    mask = chemistry.RESTYPE_ATOM37_MASK[aatype].astype(np.uint8)
    mask[rng.random(mask.shape) < 0.05] = 0
    template_aatype = np.where(
        rng.random((num_templates, num_res)) < 0.2,
        chemistry.GAP_INDEX,
        rng.integers(0, 20, (num_templates, num_res)),
    )
    is_gap = template_aatype == chemistry.GAP_INDEX
    template_masks = chemistry.RESTYPE_ATOM37_MASK[np.where(is_gap, 20, template_aatype)]
    template_masks = (template_masks * ~is_gap[..., None]).astype(np.uint8)

    def atoms(atom_mask: np.ndarray) -> np.ndarray:
        spread = rng.normal(scale=8.0, size=(*atom_mask.shape[:-1], 1, 3))
        near = rng.normal(size=(*atom_mask.shape, 3))
        return ((spread + near) * atom_mask[..., None]).astype(np.float32)

    features = {
        "chain_id": chain_id,
        "chain_names": [chain_id[-1]],
        "sequence": sequence,
        "aatype": aatype,
        "residue_index": np.arange(num_res, dtype=np.int32),
        "between_segment_residues": np.zeros(num_res, np.uint8),
        "all_atom_positions": atoms(mask),
        "all_atom_mask": mask,
        "msa": msa.astype(np.uint8),
        "deletion_matrix": deletions.astype(np.uint8),
        "template_aatype": template_aatype.astype(np.uint8),
        "template_all_atom_positions": atoms(template_masks),
        "template_all_atom_masks": template_masks,
        "template_sum_probs": np.linspace(90.0, 30.0, num_templates).astype(np.float32),
        "template_domain_names": [f"9xyz_{i}" for i in range(num_templates)],
        "template_release_date": ["2001-02-03"] * num_templates,
        "resolution": np.float32(1.8),
        "release_date": "2010-02-03",
        "is_distillation": np.uint8(0),
        "cluster_size": np.int32(1),
        "confidence": np.full(num_res, 100.0, np.float32),
    }
    assert set(changes) <= set(RECORD_FEATURES)
    return {**features, **changes}


def uniprot_rows(num_rows: int, num_res: int, seed: int = 0) -> dict[str, Any]:
    """Made-up rows to pair for an entity: the query's species is unknown."""
    rng = np.random.default_rng([seed, num_rows, num_res])
    species = [species_key(name) for name in ("HUMAN", "MOUSE", "ECOLI")]
    found = rng.choice(species, num_rows)
    found[:1] = 0
    return {
        "uniprot_msa": rng.integers(0, 22, (num_rows, num_res)).astype(np.uint8),
        "uniprot_deletion_matrix": rng.integers(0, 9, (num_rows, num_res)).astype(np.uint8),
        "uniprot_species": found,
    }


def assembly(entity_id: Sequence[int] = (1, 1, 2), **changes: Any) -> Assembly:
    """A complex that never lived; entities have 10, 13, 16 … residues, only the first of
    them rows to pair; keyword arguments replace features of the assembly."""
    chains = [
        chain(num_res=7 + 3 * entity, num_msa=4 + entity, num_templates=entity, seed=entity)
        for entity in range(1, max(entity_id) + 1)
    ]
    entities = [dict(Assembly.of_chain(features).entities[0]) for features in chains]
    entities[0] |= uniprot_rows(6, 10)
    features = {
        name: np.concatenate([chains[entity - 1][name] for entity in entity_id])
        for name in ("residue_index", "all_atom_positions", "all_atom_mask", "confidence")
    }
    single = {name: chains[0][name] for name in ("resolution", "release_date", "is_distillation")}
    names = [chr(ord("A") + number) for number in range(len(entity_id))]
    features |= {**single, "chain_id": "1cpx", "chain_names": names, **changes}
    return Assembly(features, tuple(entities), tuple(entity_id))


def data_of(shard: Path) -> list[bytes]:
    """The data of every record of a shard.  Raises CorruptRecordError at a damaged one."""
    found = [data for _, _, data in shards.scan(shard)]
    for data in found:
        if isinstance(data, CorruptRecordError):
            raise data
    return found


def write_shard(path: Path, chains: Sequence[Mapping[str, Any] | Assembly]) -> Path:
    """A shard of these chains and assemblies."""
    with shards.ShardWriter(path) as writer:
        for features in chains:
            entry = example.index_entry(features)
            writer.write(entry["chain_id"], example.encode(features), entry)
    return path
