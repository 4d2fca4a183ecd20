"""The feature table: what a record holds, what a batch holds.

One row per feature: name, dtype, symbolic shape, group and a line of
description.  The record's codec and checks, the batch's crop axes, padding
and tensor specifications, and the README's table all derive from it
(``python -m records.schema`` prints the table).  Padding is zero throughout.

A record is an assembly of one or more chains; a monomer has one.  What belongs
to a sequence is stored once per entity, what belongs to coordinates once per
chain (``Feature.per``).  An optional feature (``Feature.optional``) that a record
does not hold reads as empty, and one that the table does not know is passed
over: so a feature can be added without converting anything again.

Lengths are in Å, angles in radians.  Residue types are numbered in
AlphaFold's order (ARNDCQEGHILKMFPSTWYV, X = 20, gap = 21, mask = 22), except
``msa`` in a record, which keeps the order of HHblits (ACDEFGHIKLMNPQRSTVWY,
X = 20, gap = 21).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

SCHEMA_VERSION = 2
# What this program reads.  Version 1: one chain, each array one stream of any length.
READABLE_VERSIONS = (1, SCHEMA_VERSION)

# Symbolic dimensions.
NUM_RES = "num_res"  # R: residues of the entity or of all chains (record), of the crop (batch)
NUM_CHAINS = "num_chains"  # C: chains of the assembly (record)
NUM_MSA = "num_msa"  # N: rows of the whole alignment (record)
NUM_HITS = "num_templates"  # H: template hits kept in a record, best first
NUM_UNIPROT = "num_uniprot"  # U: rows of the alignment with UniProt (record)
NUM_MSA_SEQ = "num_msa_seq"  # S: cluster centres
NUM_EXTRA_SEQ = "num_extra_seq"  # E: extra rows
NUM_TEMPLATES = "num_templates_used"  # T: templates given to the model
NUM_ASSEMBLY_RES = "num_assembly_res"  # A: residues of all chains, before any crop (batch)

LETTERS = {
    NUM_RES: "R",
    NUM_CHAINS: "C",
    NUM_MSA: "N",
    NUM_HITS: "H",
    NUM_UNIPROT: "U",
    NUM_MSA_SEQ: "S",
    NUM_EXTRA_SEQ: "E",
    NUM_TEMPLATES: "T",
    NUM_ASSEMBLY_RES: "A",
}
RECORD_DIMENSIONS = (NUM_RES, NUM_MSA, NUM_HITS)
ENTITY_DIMENSIONS = (NUM_RES, NUM_MSA, NUM_HITS, NUM_UNIPROT)

# Groups: what a batch feature is, or what is made of a record's feature.
INPUT = "input"
LABEL = "label"
RECORD = "record"  # read by people, by sampling and by pairing alone

# What a record's feature is stored once of, and whose residues its R counts.
ASSEMBLY = "assembly"  # all chains, one after another
ENTITY = "entity"  # each distinct sequence

STRING = "str"  # one text, or a list of texts when the shape is not ()


@dataclass(frozen=True)
class Feature:
    """One row of the table."""

    name: str
    dtype: str  # a NumPy dtype name, or STRING
    shape: tuple[str | int, ...]
    group: str
    description: str
    per: str = ASSEMBLY
    optional: bool = False  # where it is absent, no rows or empty texts stand for it

    def axes(self, dimension: str) -> tuple[int, ...]:
        """The axes that run over ``dimension``: where cropping and padding act."""
        return tuple(axis for axis, size in enumerate(self.shape) if size == dimension)

    def sizes(self, dimensions: Mapping[str, int]) -> tuple[int, ...]:
        """The shape in numbers."""
        return tuple(dimensions[s] if isinstance(s, str) else s for s in self.shape)

    def symbols(self) -> str:
        """The shape in letters, e.g. ``[S, R, 49]``."""
        return "[" + ", ".join(LETTERS.get(str(s), str(s)) for s in self.shape) + "]"


def _table(group: str, rows: Iterable[tuple[str, str, tuple, str]]) -> dict[str, Feature]:
    return {name: Feature(name, dtype, shape, group, text) for name, dtype, shape, text in rows}


_R, _N, _H, _U, _C = NUM_RES, NUM_MSA, NUM_HITS, NUM_UNIPROT, NUM_CHAINS
_S, _E, _T, _A = NUM_MSA_SEQ, NUM_EXTRA_SEQ, NUM_TEMPLATES, NUM_ASSEMBLY_RES

RECORD_FEATURES: dict[str, Feature] = {
    row[0]: Feature(*row)
    for row in (
        ("chain_id", STRING, (), RECORD, "name of the chain or assembly, e.g. 1ubq_A"),
        ("chain_names", STRING, (_C,), RECORD, "the author's names", ASSEMBLY, True),
        ("sequence", STRING, (), RECORD, "one-letter sequence (SEQRES)", ENTITY),
        ("aatype", "uint8", (_R,), INPUT, "residue type", ENTITY),
        ("residue_index", "int32", (_R,), INPUT, "0-based SEQRES position in its chain"),
        (
            "between_segment_residues",
            "uint8",
            (_R,),
            INPUT,
            "1 on residues that bridge two segments",
            ENTITY,
        ),
        (
            "all_atom_positions",
            "float32",
            (_R, 37, 3),
            LABEL,
            "atom coordinates, Å, 0 where absent",
        ),
        ("all_atom_mask", "uint8", (_R, 37), LABEL, "1 where the atom was observed"),
        ("msa", "uint8", (_N, _R), INPUT, "whole alignment, query first, HHblits order", ENTITY),
        (
            "deletion_matrix",
            "uint8",
            (_N, _R),
            INPUT,
            "deleted residues left of each cell, at most 255",
            ENTITY,
        ),
        (
            "template_aatype",
            "uint8",
            (_H, _R),
            INPUT,
            "template residue on the query, gap = 21",
            ENTITY,
        ),
        (
            "template_all_atom_positions",
            "float32",
            (_H, _R, 37, 3),
            INPUT,
            "template atoms, Å",
            ENTITY,
        ),
        (
            "template_all_atom_masks",
            "uint8",
            (_H, _R, 37),
            INPUT,
            "1 where the template has the atom",
            ENTITY,
        ),
        (
            "template_sum_probs",
            "float32",
            (_H,),
            RECORD,
            "alignment probability, descending",
            ENTITY,
        ),
        ("template_domain_names", STRING, (_H,), RECORD, "template chain, e.g. 4zhl_U", ENTITY),
        (
            "template_release_date",
            STRING,
            (_H,),
            RECORD,
            "template release date, YYYY-MM-DD",
            ENTITY,
        ),
        ("uniprot_msa", "uint8", (_U, _R), RECORD, "rows to pair, as `msa`", ENTITY, True),
        (
            "uniprot_deletion_matrix",
            "uint8",
            (_U, _R),
            RECORD,
            "as `deletion_matrix`",
            ENTITY,
            True,
        ),
        (
            "uniprot_species",
            "int64",
            (_U,),
            RECORD,
            "species or pair key: 8 letters as one number, 0 = unknown",
            ENTITY,
            True,
        ),
        ("resolution", "float32", (), LABEL, "Å; 0 = unknown (NMR, predicted)"),
        ("release_date", STRING, (), RECORD, "YYYY-MM-DD"),
        ("is_distillation", "uint8", (), LABEL, "1 for a predicted structure"),
        (
            "cluster_size",
            "int32",
            (),
            RECORD,
            "chains in its sequence cluster; below 1 = unknown",
            ENTITY,
        ),
        ("confidence", "float32", (_R,), LABEL, "pLDDT 0-100 (100 for an experiment)"),
    )
}
# What only the pairing of several chains reads.
PAIRING_FEATURES = tuple(name for name, f in RECORD_FEATURES.items() if NUM_UNIPROT in f.shape)

_INPUTS = _table(
    INPUT,
    [
        ("aatype", "int32", (_R,), "residue type"),
        ("residue_index", "int32", (_R,), "position in the whole sequence"),
        ("seq_mask", "float32", (_R,), "1 on residues, 0 on padding"),
        ("seq_length", "int32", (), "residues in the crop"),
        ("target_feat", "float32", (_R, 22), "between-segment bit, one-hot residue type 21"),
        ("msa_feat", "float32", (_S, _R, 49), "cluster features (supplement table 1)"),
        ("msa_mask", "float32", (_S, _R), "1 on cells of real rows"),
        ("msa_row_mask", "float32", (_S,), "1 on real rows"),
        ("bert_mask", "float32", (_S, _R), "1 on cells chosen for the masked-MSA loss"),
        ("true_msa", "int32", (_S, _R), "cluster centres before masking"),
        ("extra_msa", "int32", (_E, _R), "extra rows"),
        ("extra_msa_mask", "float32", (_E, _R), "1 on cells of real extra rows"),
        ("extra_has_deletion", "float32", (_E, _R), "1 where residues were deleted"),
        ("extra_deletion_value", "float32", (_E, _R), "2/π·atan(deletions / 3)"),
        ("template_aatype", "int32", (_T, _R), "template residue type, gap = 21"),
        ("template_mask", "float32", (_T,), "1 on real templates"),
        ("template_all_atom_positions", "float32", (_T, _R, 37, 3), "template atoms, Å"),
        ("template_all_atom_masks", "float32", (_T, _R, 37), "1 where the template has the atom"),
        ("template_pseudo_beta", "float32", (_T, _R, 3), "Cβ (Gly: Cα), Å"),
        ("template_pseudo_beta_mask", "float32", (_T, _R), "1 where it is known"),
        ("atom14_atom_exists", "float32", (_R, 14), "1 where the residue type has the atom"),
        ("residx_atom14_to_atom37", "int32", (_R, 14), "atom37 slot of each atom14 slot"),
        ("atom37_atom_exists", "float32", (_R, 37), "1 where the residue type has the atom"),
        ("residx_atom37_to_atom14", "int32", (_R, 37), "atom14 slot of each atom37 slot"),
        ("num_iter_recycling", "int32", (), "extra passes to run, the same for the whole batch"),
    ],
)

_LABELS = _table(
    LABEL,
    [
        ("all_atom_positions", "float32", (_R, 37, 3), "true atoms, Å"),
        ("all_atom_mask", "float32", (_R, 37), "1 where observed (and confident enough)"),
        ("pseudo_beta", "float32", (_R, 3), "Cβ (Gly: Cα), Å"),
        ("pseudo_beta_mask", "float32", (_R,), "1 where it is known"),
        ("backbone_affine_tensor", "float32", (_R, 7), "backbone frame: quaternion and Cα, Å"),
        ("backbone_affine_mask", "float32", (_R,), "1 where N, Cα and C are known"),
        ("rigidgroups_gt_frames", "float32", (_R, 8, 12), "frames: rotation 9, translation 3 (Å)"),
        ("rigidgroups_alt_gt_frames", "float32", (_R, 8, 12), "the same, ambiguous atoms renamed"),
        ("rigidgroups_gt_exists", "float32", (_R, 8), "1 where the frame's atoms are known"),
        ("atom14_gt_positions", "float32", (_R, 14, 3), "true atoms, Å"),
        ("atom14_alt_gt_positions", "float32", (_R, 14, 3), "the same, ambiguous atoms renamed"),
        ("atom14_gt_exists", "float32", (_R, 14), "1 where observed"),
        ("atom14_alt_gt_exists", "float32", (_R, 14), "the same, ambiguous atoms renamed"),
        ("atom14_atom_is_ambiguous", "float32", (_R, 14), "1 on atoms with a twin name"),
        ("chi_angles", "float32", (_R, 4), "side-chain torsions, radians, 0 where undefined"),
        ("chi_mask", "float32", (_R, 4), "1 where the torsion's atoms are known"),
        ("resolution", "float32", (), "Å; 0 = unknown"),
        ("use_clamped_fape", "float32", (), "1 where the backbone FAPE is clamped"),
    ],
)

# What batches of complexes hold beside these; those of monomers do not.
COMPLEX_FEATURES = {
    **_table(
        INPUT,
        [
            ("asym_id", "int32", (_R,), "chain, from 1"),
            ("entity_id", "int32", (_R,), "distinct sequence, from 1"),
            ("sym_id", "int32", (_R,), "copy within its entity, from 1"),
        ],
    ),
    **_table(
        LABEL,
        [
            ("assembly_atom_positions", "float32", (_A, 37, 3), "true atoms of all chains, Å"),
            ("assembly_atom_mask", "float32", (_A, 37), "1 where observed"),
            ("assembly_chain_start", "int32", (_C,), "a chain's first residue; in asym_id's order"),
            ("assembly_chain_length", "int32", (_C,), "its residues"),
            ("assembly_chain_entity", "int32", (_C,), "its entity_id"),
        ],
    ),
}

# What DeepMind's batches hold beside these, no model, loss or metric of ours reads.
BATCH_FEATURES: dict[str, Feature] = {**_INPUTS, **_LABELS}

# Of no use to a model without templates, which is not given them.
TEMPLATE_FEATURES = tuple(name for name, f in _INPUTS.items() if NUM_TEMPLATES in f.shape)


def batch_features(
    *, templates: bool = True, labels: bool = True, complexes: bool = False
) -> dict[str, Feature]:
    """The rows of the table that a batch carries.

    Args:
        templates: whether the model reads templates.
        labels: whether the true structure is known and wanted.
        complexes: whether the model knows chains.
    """
    table = BATCH_FEATURES | COMPLEX_FEATURES if complexes else BATCH_FEATURES
    return {
        name: feature
        for name, feature in table.items()
        if (templates or name not in TEMPLATE_FEATURES) and (labels or feature.group != LABEL)
    }


def markdown() -> str:
    """The table as Markdown, for ``docs/features.md``."""
    lines = [
        "R residues, C chains, N alignment rows, H template hits, U rows to pair; in a batch S "
        "cluster centres, E extra rows, T templates, A residues of all chains before any crop.",
        "A batch has two further leading axes: example and recycling pass.",
    ]
    lines += ["", "**In a record**", "", "| feature | dtype | shape | per | meaning |"]
    lines += ["|-|-|-|-|-|"]
    lines += [
        f"| `{f.name}` | {f.dtype} | {f.symbols()} | {f.per} | {f.description}"
        f"{'; optional' if f.optional else ''} |"
        for f in RECORD_FEATURES.values()
    ]
    titles = {
        "In a batch: inputs": _INPUTS,
        "In a batch: labels (training only)": _LABELS,
        "In a batch of complexes": COMPLEX_FEATURES,
    }
    for title, features in titles.items():
        lines += ["", f"**{title}**", "", "| feature | dtype | shape | meaning |", "|-|-|-|-|"]
        lines += [
            f"| `{f.name}` | {f.dtype} | {f.symbols()} | {f.description} |"
            for f in features.values()
        ]
    return "\n".join(lines)


if __name__ == "__main__":
    print(markdown())
