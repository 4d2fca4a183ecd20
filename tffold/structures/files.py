"""Structures written as PDB and mmCIF files, and PDB files read into atom37 arrays.

The files are made with gemmi and read by ``records.pdb``.  An mmCIF of a prediction carries its
confidence as the ModelCIF extension has it (``_ma_qa_metric`` and its kin) and as B-factors.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import count, product

import gemmi
import numpy as np

from records import paths
from records.chemistry import ATOM_ORDER, ATOM_TYPES, RESTYPE_NAMES, RESTYPES_WITH_X
from records.errors import InputError
from records.pdb import read_chains, residues_to_arrays
from records.structure import AGAIN

CA = ATOM_ORDER["CA"]
_SOFTWARE = ("tffold", "model building", "AlphaFold 2 in TensorFlow")
_DICTIONARY = ("mmcif_ma.dic", "1.4.6")
_CAPITALS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
CHAIN_LETTERS = _CAPITALS + _CAPITALS.lower() + "0123456789"  # a PDB file has no others


@dataclass(frozen=True)
class Structure:
    """One protein chain of L residues.

    ``aatype`` [L] (20 is unknown), ``atom_positions`` [L, 37, 3] Å, ``atom_mask`` [L, 37],
    ``residue_index`` [L] as it is written (the first residue of a sequence is 1),
    ``b_factors`` [L, 37] (pLDDT of a prediction).  A residue without atoms is in the
    sequence of an mmCIF file and nowhere else.
    """

    aatype: np.ndarray
    atom_positions: np.ndarray
    atom_mask: np.ndarray
    residue_index: np.ndarray
    b_factors: np.ndarray
    chain_id: str = "A"

    @property
    def sequence(self) -> str:
        return "".join(RESTYPES_WITH_X[t] for t in self.aatype)

    def with_b_factors(self, values: np.ndarray) -> Structure:
        """The same atoms with one B-factor [L] for all atoms of a residue."""
        column = np.asarray(values, np.float32)[:, None]
        return replace(self, b_factors=np.repeat(column, len(ATOM_TYPES), axis=1))


def chain_names(number: int) -> list[str]:
    """Names of so many chains: A to Z, a to z, 0 to 9, and where they do not do AA, AB, ..."""
    names = list(CHAIN_LETTERS)
    for length in count(2):
        if len(names) >= number:
            return names[:number]
        names += ["".join(letters) for letters in product(_CAPITALS, repeat=length)]
    raise AssertionError


def pdb_text(chains: Sequence[Structure], title: str = "") -> str:
    """The chains as a PDB file.

    Raises:
      InputError: a coordinate is not finite or too large for the format's columns, or a chain
        has no letter of its own.
    """
    for chain in chains:
        if len(chain.chain_id) != 1:
            raise InputError(
                f"chain {chain.chain_id} of {len(chains)}: the PDB format has a letter for "
                f"{len(CHAIN_LETTERS)} chains",
                mend="write mmCIF",
            )
    model = _gemmi_structure(chains, title)
    for chain in chains:
        if np.abs(chain.atom_positions[chain.atom_mask > 0]).max(initial=0.0) >= 9999.0:
            raise InputError("a coordinate is too large for the PDB format", mend="write mmCIF")
    return model.make_pdb_string()


def mmcif_text(
    chains: Sequence[Structure],
    name: str = "model",
    plddt: np.ndarray | None = None,
    title: str = "",
) -> str:
    """The chains as an mmCIF file, with ModelCIF's items if they are a prediction.

    Chains of one sequence are one entity.

    Args:
      name: of the data block and entry.
      plddt: confidence in 0..100 of the residues of all chains, one after another; None for a
        structure that no network made.

    Raises:
      InputError: a coordinate is not finite.
    """
    model = _gemmi_structure(chains, title)
    model.name = name
    groups = gemmi.MmcifOutputGroups(True)
    groups.auth_all = True
    groups.cell = groups.symmetry = False  # there is no crystal
    document = model.make_mmcif_document(groups)
    _name_component_types(document[0])
    if plddt is not None:
        _add_model_items(document[0], chains, np.asarray(plddt, float), title or name)
    return document.as_string()


def entity_numbers(chains: Sequence[Structure]) -> list[int]:
    """Of each chain the number of its sequence, from 1 by first appearance."""
    numbers: dict[str, int] = {}
    return [numbers.setdefault(chain.sequence, len(numbers) + 1) for chain in chains]


def _gemmi_structure(chains: Sequence[Structure], title: str) -> gemmi.Structure:
    names = [chain.chain_id for chain in chains]
    if len(set(names)) != len(names):
        raise InputError(
            "two chains have the same name", item=", ".join(names), mend="name each chain"
        )
    model = gemmi.Model(1)
    result = gemmi.Structure()
    entities: dict[int, gemmi.Entity] = {}
    for structure, number in zip(chains, entity_numbers(chains), strict=True):
        model.add_chain(_gemmi_chain(structure, str(number)))
        if number not in entities:
            entity = entities[number] = gemmi.Entity(str(number))
            entity.entity_type = gemmi.EntityType.Polymer
            entity.polymer_type = gemmi.PolymerType.PeptideL
            entity.full_sequence = [RESTYPE_NAMES[t] for t in structure.aatype]
        # A copy of the list comes out of an entity.
        entities[number].subchains = [*entities[number].subchains, structure.chain_id]
    result.add_model(model)
    for entity in entities.values():
        result.entities.append(entity)
    result.assign_serial_numbers()
    if title:
        result.info["_struct.title"] = title
    return result


def _gemmi_chain(structure: Structure, entity: str) -> gemmi.Chain:
    positions, present = structure.atom_positions, structure.atom_mask > 0
    bad = present & ~np.isfinite(positions).all(axis=-1)
    if bad.any():
        residue, atom = np.argwhere(bad)[0]
        raise InputError(
            "a coordinate is not finite",
            item=f"residue {structure.residue_index[residue]} atom {ATOM_TYPES[atom]}",
        )
    chain = gemmi.Chain(structure.chain_id)
    for i, aatype in enumerate(structure.aatype):
        if not present[i].any():
            continue
        residue = gemmi.Residue()
        residue.name = RESTYPE_NAMES[aatype]
        residue.seqid = gemmi.SeqId(int(structure.residue_index[i]), " ")
        residue.label_seq = i + 1
        residue.subchain = structure.chain_id
        residue.entity_id = entity
        residue.entity_type = gemmi.EntityType.Polymer
        residue.het_flag = "A"
        for slot in np.flatnonzero(present[i]):
            atom = gemmi.Atom()
            atom.name = ATOM_TYPES[slot]
            atom.element = gemmi.Element(ATOM_TYPES[slot][0])
            atom.pos = gemmi.Position(*(round(float(x), 3) for x in positions[i, slot]))
            atom.occ = 1.0
            atom.b_iso = round(float(structure.b_factors[i, slot]), 2)
            residue.add_atom(atom)
        chain.add_residue(residue)
    return chain


def _name_component_types(block: gemmi.cif.Block) -> None:
    for row in block.find("_chem_comp.", ["id", "type"]):
        row[1] = gemmi.cif.quote("peptide linking" if row[0] == "GLY" else "L-peptide linking")


def _add_model_items(
    block: gemmi.cif.Block, chains: Sequence[Structure], plddt: np.ndarray, title: str
) -> None:
    """What ModelCIF asks of a predicted model, and its confidence, global and per residue."""

    def table(category: str, columns: str, rows: list[list[object]]) -> None:
        loop = block.init_loop(f"_{category}.", columns.split())
        for row in rows:
            loop.add_row([gemmi.cif.quote(str(value)) for value in row])

    table("audit_conform", "dict_name dict_version", [list(_DICTIONARY)])
    table("software", "pdbx_ordinal name classification description", [[1, *_SOFTWARE]])
    table("ma_software_group", "ordinal_id group_id software_id", [[1, 1, 1]])
    numbers = entity_numbers(chains)
    entities = sorted(set(numbers))
    model = len(entities) + 1
    table(
        "ma_data",
        "id name content_type",
        [[number, "Target sequence", "target"] for number in entities]
        + [[model, "Predicted model", "model coordinates"]],
    )
    table(
        "ma_target_entity",
        "entity_id data_id origin",
        [[number, number, "designed"] for number in entities],
    )
    table(
        "ma_target_entity_instance",
        "asym_id entity_id details",
        [
            [chain.chain_id, number, "the predicted chain"]
            for chain, number in zip(chains, numbers, strict=True)
        ],
    )
    table(
        "ma_model_list",
        "ordinal_id model_id model_group_id model_name model_group_name data_id model_type",
        [[1, 1, 1, title, title, model, "Ab initio model"]],
    )
    table(
        "ma_protocol_step",
        "ordinal_id protocol_id step_id method_type",
        [[1, 1, 1, "modeling"]],
    )
    table(
        "ma_qa_metric",
        "id mode name type software_group_id",
        [[1, "global", "pLDDT", "pLDDT", 1], [2, "local", "pLDDT", "pLDDT", 1]],
    )
    table(
        "ma_qa_metric_global",
        "ordinal_id model_id metric_id metric_value",
        [[1, 1, 1, f"{plddt.mean():.2f}"]],
    )
    residues = [
        (chain.chain_id, i, RESTYPE_NAMES[aatype])
        for chain in chains
        for i, aatype in enumerate(chain.aatype, 1)
    ]
    table(
        "ma_qa_metric_local",
        "ordinal_id model_id label_asym_id label_seq_id label_comp_id metric_id metric_value",
        [
            [ordinal, 1, name, number, residue, 2, f"{value:.2f}"]
            for ordinal, ((name, number, residue), value) in enumerate(
                zip(residues, plddt, strict=True), 1
            )
        ],
    )


def read_pdb(path: paths.Place) -> list[Structure]:
    """The protein chains of a PDB file's first model, in order, hydrogens left out.

    Waters, ligands and nucleic acids are left out too.

    Raises:
      InputError: no such file, no PDB file, or without a protein.
    """
    text = paths.read_bytes(path).decode("latin-1")
    structures = structures_of(text, path)
    if not structures:
        raise InputError("holds no protein atoms", file=path, mend=AGAIN)
    return structures


def structures_of(text: str, file: object = "PDB text") -> list[Structure]:
    """The protein chains of a PDB file's text; see ``read_pdb``."""
    found = []
    for name, residues in read_chains(text, file, unknown=False):
        sequence, positions, mask, b_factor = residues_to_arrays(residues, file)
        found.append(
            Structure(
                aatype=np.array([RESTYPES_WITH_X.index(letter) for letter in sequence], np.int32),
                atom_positions=positions,
                atom_mask=mask.astype(np.float32),
                residue_index=np.array([residue.seqid.num for residue in residues], np.int32),
                b_factors=np.repeat(b_factor[:, None], len(ATOM_TYPES), axis=1),
                chain_id=name or "A",
            )
        )
    return found
