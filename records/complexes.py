"""The chains of an assembly and what was found for each of their sequences as one record."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from records.assembly import PlacedChain
from records.chains import Assembly
from records.features import coordinates
from records.schema import PAIRING_FEATURES
from records.structure import Chain

# Features of a chain and of the names that its copies have in the file.
FeaturesOf = Callable[[Chain, Sequence[str]], Mapping[str, Any]]
CoordinatesOf = Callable[[Chain], Mapping[str, Any]]


def by_entity(placed: Sequence[PlacedChain]) -> list[list[PlacedChain]]:
    """The chains of each sequence, sequences by first appearance.

    Which of their residues are observed may differ from copy to copy.
    """
    groups: dict[str, list[PlacedChain]] = {}
    for one in placed:
        groups.setdefault(one.chain.sequence, []).append(one)
    return list(groups.values())


def join(
    chain_id: str,
    placed: Sequence[PlacedChain],
    features_of: FeaturesOf,
    coordinates_of: CoordinatesOf = coordinates,
) -> Assembly:
    """The raw features of an assembly, its chains ordered by entity.

    Args:
        chain_id: name of the record.
        placed: the chains.
        features_of: makes the features of a monomer of one chain of each entity.
        coordinates_of: makes what belongs to the residues of each chain.
    """
    groups = by_entity(placed)
    monomers = []
    for group in groups:
        sources = list(dict.fromkeys(one.source for one in group))
        features = features_of(group[0].chain, sources)
        if len(groups) == 1:  # there is nobody to pair with
            features = {n: v for n, v in features.items() if n not in PAIRING_FEATURES}
        monomers.append(Assembly.of_chain(features))
    ordered = [one for group in groups for one in group]
    of_chains = [coordinates_of(one.chain) for one in ordered]
    return Assembly(
        {
            **monomers[0].features,
            **{name: np.concatenate([of[name] for of in of_chains]) for name in of_chains[0]},
            "chain_id": chain_id,
            "chain_names": [one.name for one in ordered],
        },
        tuple(monomer.entities[0] for monomer in monomers),
        tuple(number for number, group in enumerate(groups, start=1) for _ in group),
    )


def num_shared_species(assembly: Assembly) -> int:
    """How many species (or ready pairs) at least two entities have rows of."""
    of_each = [set(map(int, e.get("uniprot_species", ()))) - {0} for e in assembly.entities]
    counts = Counter(key for keys in of_each for key in keys)
    return sum(count > 1 for count in counts.values())
