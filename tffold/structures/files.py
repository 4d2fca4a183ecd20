"""Structures written as PDB and mmCIF files, and PDB files read into atom37 arrays.

The files are made with gemmi and read by ``records.pdb``.  An mmCIF of a prediction carries its
confidence as the ModelCIF extension has it (``_ma_qa_metric`` and its kin) and as B-factors.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

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


def pdb_text(structure: Structure, title: str = "") -> str:
    """The structure as a PDB file.

    Raises:
      InputError: a coordinate is not finite or too large for the format's columns.
    """
    model = _gemmi_structure(structure, title)
    if np.abs(structure.atom_positions[structure.atom_mask > 0]).max(initial=0.0) >= 9999.0:
        raise InputError("a coordinate is too large for the PDB format", mend="write mmCIF")
    return model.make_pdb_string()


def mmcif_text(
    structure: Structure, name: str = "model", plddt: np.ndarray | None = None, title: str = ""
) -> str:
    """The structure as an mmCIF file, with ModelCIF's items if it is a prediction.

    Args:
      name: of the data block and entry.
      plddt: confidence [L] in 0..100; None for a structure that no network made.

    Raises:
      InputError: a coordinate is not finite.
    """
    model = _gemmi_structure(structure, title)
    model.name = name
    groups = gemmi.MmcifOutputGroups(True)
    groups.auth_all = True
    groups.cell = groups.symmetry = False  # there is no crystal
    document = model.make_mmcif_document(groups)
    _name_component_types(document[0])
    if plddt is not None:
        _add_model_items(document[0], structure, np.asarray(plddt, float), title or name)
    return document.as_string()


def _gemmi_structure(structure: Structure, title: str) -> gemmi.Structure:
    positions, present = structure.atom_positions, structure.atom_mask > 0
    bad = present & ~np.isfinite(positions).all(axis=-1)
    if bad.any():
        residue, atom = np.argwhere(bad)[0]
        raise InputError(
            "a coordinate is not finite",
            item=f"residue {structure.residue_index[residue]} atom {ATOM_TYPES[atom]}",
        )
    names = [RESTYPE_NAMES[t] for t in structure.aatype]
    chain = gemmi.Chain(structure.chain_id)
    for i, name in enumerate(names):
        if not present[i].any():
            continue
        residue = gemmi.Residue()
        residue.name = name
        residue.seqid = gemmi.SeqId(int(structure.residue_index[i]), " ")
        residue.label_seq = i + 1
        residue.subchain = structure.chain_id
        residue.entity_id = "1"
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
    model = gemmi.Model(1)
    model.add_chain(chain)
    result = gemmi.Structure()
    result.add_model(model)
    entity = gemmi.Entity("1")
    entity.entity_type = gemmi.EntityType.Polymer
    entity.polymer_type = gemmi.PolymerType.PeptideL
    entity.subchains = [structure.chain_id]
    entity.full_sequence = names
    result.entities.append(entity)
    result.assign_serial_numbers()
    if title:
        result.info["_struct.title"] = title
    return result


def _name_component_types(block: gemmi.cif.Block) -> None:
    for row in block.find("_chem_comp.", ["id", "type"]):
        row[1] = gemmi.cif.quote("peptide linking" if row[0] == "GLY" else "L-peptide linking")


def _add_model_items(
    block: gemmi.cif.Block, structure: Structure, plddt: np.ndarray, title: str
) -> None:
    """What ModelCIF asks of a predicted model, and its confidence, global and per residue."""

    def table(category: str, columns: str, rows: list[list[object]]) -> None:
        loop = block.init_loop(f"_{category}.", columns.split())
        for row in rows:
            loop.add_row([gemmi.cif.quote(str(value)) for value in row])

    table("audit_conform", "dict_name dict_version", [list(_DICTIONARY)])
    table("software", "pdbx_ordinal name classification description", [[1, *_SOFTWARE]])
    table("ma_software_group", "ordinal_id group_id software_id", [[1, 1, 1]])
    table(
        "ma_data",
        "id name content_type",
        [[1, "Target sequence", "target"], [2, "Predicted model", "model coordinates"]],
    )
    table("ma_target_entity", "entity_id data_id origin", [[1, 1, "designed"]])
    table(
        "ma_target_entity_instance",
        "asym_id entity_id details",
        [[structure.chain_id, 1, "the predicted chain"]],
    )
    table(
        "ma_model_list",
        "ordinal_id model_id model_group_id model_name model_group_name data_id model_type",
        [[1, 1, 1, title, title, 2, "Ab initio model"]],
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
    table(
        "ma_qa_metric_local",
        "ordinal_id model_id label_asym_id label_seq_id label_comp_id metric_id metric_value",
        [
            [i, 1, structure.chain_id, i, RESTYPE_NAMES[aatype], 2, f"{value:.2f}"]
            for i, (aatype, value) in enumerate(zip(structure.aatype, plddt, strict=True), 1)
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
