"""Alignments and templates of sequences to predict: found, searched for, or none."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from records.assembly import PlacedChain
from records.chains import Assembly
from records.chemistry import ATOM_TYPES
from records.complexes import join
from records.errors import InputError
from records.features import (
    Evidence,
    build_features,
    choose_templates,
    read_evidence,
    read_part,
    single_sequence,
)
from records.search import SearchOptions, search_sequence
from records.sources import AlignmentRef, find_alignments, normalized
from records.structure import Chain, located
from records.templates import TemplateLibrary
from tffold.structures.files import chain_names

_MAX_TEMPLATES = 20  # as in a record; the pipeline takes the best of them


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
        """Name -> alignments.  Raises InputError for a folder that is not there."""
        return find_alignments(self.alignments)

    def assembly(
        self,
        target: str,
        names: Sequence[str],
        sequences: Sequence[str],
        refs: Mapping[str, AlignmentRef],
    ) -> Assembly:
        """The raw features of a target of one chain or more; its structure is unknown.

        A chain's alignments are those of its own name, or of the name of a copy of it; else those
        of ``target``, for the whole complex.

        Args:
          names: each chain's; sequences: likewise.

        Raises:
          InputError: a chain without alignment, or one that is another's.
        """
        placed = [
            PlacedChain(letter, name, _chain(letter, sequence))
            for letter, name, sequence in zip(
                chain_names(len(names)), names, sequences, strict=True
            )
        ]
        several = len(placed) > 1

        def features(chain: Chain, copies: Sequence[str]) -> dict[str, Any]:
            whole = refs.get(normalized(target)) if several else None
            try:
                return self._features(chain, copies, refs, whole, len(set(sequences)) > 1)
            except InputError as error:
                if error.file or not several:
                    raise
                raise located(error, None, f"chain {', '.join(copies)}") from None

        return join(target, placed, features)

    def _features(
        self,
        chain: Chain,
        names: Sequence[str],
        refs: Mapping[str, AlignmentRef],
        whole: AlignmentRef | None,
        pairing: bool,
    ) -> dict[str, Any]:
        evidence = self._read(chain.sequence, names, refs, whole, pairing)
        library = None
        if self.template_folder:
            library = TemplateLibrary.open(self.template_folder, self.template_dates)
        templates, _ = choose_templates(
            evidence, chain.sequence, library, self.max_template_date, _MAX_TEMPLATES
        )
        return build_features(chain, evidence.alignment, templates, pairs=evidence.pairs)

    def _read(
        self,
        sequence: str,
        names: Sequence[str],
        refs: Mapping[str, AlignmentRef],
        whole: AlignmentRef | None,
        pairing: bool,
    ) -> Evidence:
        own = next((refs[normalized(name)] for name in names if normalized(name) in refs), None)
        if own is not None:
            return read_evidence(own, sequence, pairing)
        if whole is not None:
            return read_part(whole, sequence)
        if self.search is not None:
            folder = search_sequence(sequence, folder_name(names[0]), self.search)
            ref = AlignmentRef(names[0], str(folder), "folder")
            return read_evidence(ref, sequence, pairing)
        if self.alone:
            return single_sequence(sequence)
        raise InputError(
            f"no alignment of that name in {', '.join(self.alignments) or 'any --alignments'}",
            mend="add one, or pass --search or --single-sequence",
        )


def _chain(name: str, sequence: str) -> Chain:
    """A chain without a structure."""
    none = np.zeros((len(sequence), len(ATOM_TYPES)), np.uint8)
    return Chain(
        chain_id=name,
        sequence=sequence,
        positions=np.zeros((*none.shape, 3), np.float32),
        mask=none,
        b_factor=np.zeros(len(sequence), np.float32),
    )


def folder_name(name: str) -> str:
    """A name that a folder can have."""
    return re.sub(r'[\s/\\:*?"<>\0]', "_", name).lstrip(".") or "_"
