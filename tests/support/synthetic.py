"""Small made-up chains and shards: families of rows, gaps, deletions, templates with holes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from records import chemistry, example, shards
from records.errors import CorruptRecordError

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
    assert set(changes) <= set(features)
    return {**features, **changes}


def data_of(shard: Path) -> list[bytes]:
    """The data of every record of a shard.  Raises CorruptRecordError at a damaged one."""
    found = [data for _, _, data in shards.scan(shard)]
    for data in found:
        if isinstance(data, CorruptRecordError):
            raise data
    return found


def write_shard(path: Path, chains: Sequence[Mapping[str, Any]]) -> Path:
    """A shard of these chains."""
    with shards.ShardWriter(path) as writer:
        for features in chains:
            writer.write(
                features["chain_id"], example.encode(features), example.index_entry(features)
            )
    return path
