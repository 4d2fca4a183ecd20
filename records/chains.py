"""The chains of an assembly: which are copies of one another, and how they are numbered.

Chains are numbered as AlphaFold-Multimer numbers them: entities by first
appearance, the copies of an entity one after another.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from records.errors import InputError
from records.schema import ENTITY, RECORD_FEATURES, SCHEMA_VERSION

MAX_CHAINS = 1000
_KEY_LETTERS = 8


@dataclass(frozen=True)
class Assembly:
    """The raw features of an assembly of C chains and E entities.

    ``features`` are those of ``records.schema`` that are stored once per assembly,
    ``entities`` [E] those stored once per entity, ``entity_id`` [C] is each chain's
    entity, from 1, never falling.  ``version`` is that of the record it was read of.
    """

    features: Mapping[str, Any]
    entities: tuple[Mapping[str, Any], ...]
    entity_id: tuple[int, ...] = (1,)
    version: int = SCHEMA_VERSION

    @classmethod
    def of_chain(cls, features: Mapping[str, Any]) -> Assembly:
        """A monomer, of all its features in one mapping."""
        entity = {
            name: value
            for name, value in features.items()
            if name in RECORD_FEATURES and RECORD_FEATURES[name].per == ENTITY
        }
        return cls({n: v for n, v in features.items() if n not in entity}, (entity,))

    def chain(self) -> dict[str, Any]:
        """All features of a monomer in one mapping.

        Raises:
            InputError: there is more than one chain.
        """
        if len(self.entity_id) != 1:
            raise InputError(
                f"an assembly of {len(self.entity_id)} chains, where one chain is read",
                item=str(self.features.get("chain_id", "")),
                mend="leave complexes out of this set of shards",
            )
        return {**self.features, **self.entities[0]}

    @property
    def chain_sizes(self) -> tuple[int, ...]:
        """Residues of each chain [C]."""
        return tuple(len(self.entities[entity - 1]["aatype"]) for entity in self.entity_id)

    def residue_chains(self) -> dict[str, np.ndarray]:
        """``asym_id``, ``entity_id`` and ``sym_id`` of each residue [R] int32, from 1.

        The chain's place; its entity; which copy of its entity it is.
        """
        sizes = self.chain_sizes
        ids = {
            "asym_id": range(1, len(sizes) + 1),
            "entity_id": self.entity_id,
            "sym_id": copy_numbers(self.entity_id),
        }
        return {name: np.repeat(np.asarray(of, np.int32), sizes) for name, of in ids.items()}


def copy_numbers(entity_id: Sequence[int]) -> list[int]:
    """For each chain, which copy of its entity it is, from 1 (``sym_id``)."""
    seen: dict[int, int] = {}
    numbers = []
    for entity in entity_id:
        seen[entity] = seen.get(entity, 0) + 1
        numbers.append(seen[entity])
    return numbers


def are_entity_ids(entity_id: Sequence[int], num_entities: int) -> bool:
    """Whether chains have these entities in order: 1, …, 1, 2, … up to the last."""
    if not 0 < len(entity_id) <= MAX_CHAINS:
        return False
    steps = np.diff([0, *entity_id])
    # The first step is from no entity to the first.
    in_order = bool(steps[0] == 1 and np.isin(steps, (0, 1)).all())
    return in_order and entity_id[-1] == num_entities


def species_key(text: str) -> int:
    """A species or pair key of at most eight ASCII letters as a number, 0 = ''.

    Numbers are in the order of their texts.

    Raises:
        InputError: the text is longer, or not ASCII.
    """
    if len(text) > _KEY_LETTERS or not text.isascii() or "\0" in text:
        raise InputError(
            "not a species or pair key", item=repr(text[:40]), mend="use at most 8 ASCII letters"
        )
    return int.from_bytes(text.encode().ljust(_KEY_LETTERS, b"\0"), "big")


def species_name(key: int) -> str:
    """The text of a ``species_key``."""
    return int(key).to_bytes(_KEY_LETTERS, "big").rstrip(b"\0").decode("ascii", "replace")
