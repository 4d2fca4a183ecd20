"""mmCIF entries to protein chains, with gemmi.

Author chain names (``auth_asym_id``) name the chains, as in OpenProteinSet and the
PDB's own speech; SEQRES (``_entity_poly_seq``) gives the sequence, label numbering
(``label_seq_id``) places the atoms, so insertion codes and gaps need no thought.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from dataclasses import dataclass, field

import gemmi

from records import paths, spool
from records.errors import InputError
from records.gunzip import gunzipped
from records.structure import (
    AGAIN,
    LEAVE_OUT,
    Atom,
    Chain,
    atoms_to_arrays,
    check_backbone,
    located,
    one_letter,
)

MMCIF_SUFFIXES = (".cif", ".mmcif", ".cif.gz", ".mmcif.gz")
MISSING = ("?", ".", "", None)
_DATE = re.compile(r"\d{4}-\d{2}-\d{2}")
# Where the release date is looked for, best first: the earliest date of the first
# category that has any.  Deposition dates are not release dates and do not stand in.
_DATE_ITEMS = (
    "_pdbx_audit_revision_history.revision_date",
    "_database_PDB_rev.date",
    "_pdbx_version.revision_date",
)
_RESOLUTION_ITEMS = (
    "_refine.ls_d_res_high",
    "_em_3d_reconstruction.resolution",
    "_reflns.d_resolution_high",
)
_ATOM_ITEMS = (
    "label_comp_id", "label_atom_id", "label_alt_id", "label_seq_id",
    "Cartn_x", "Cartn_y", "Cartn_z", "occupancy", "B_iso_or_equiv",
)  # fmt: skip


def read_bytes(path: str | os.PathLike) -> bytes:
    """A file's content, decompressed when it is gzip; InputError names what is wrong."""
    return gunzipped(spool.read(path), path, AGAIN)


def entry_name(path: str | os.PathLike) -> str:
    """The name before the suffixes, lower-case: '1UBQ.cif.gz' -> '1ubq'."""
    name = paths.name(path).lower()
    for suffix in sorted(MMCIF_SUFFIXES, key=len, reverse=True):
        if name.endswith(suffix):
            return name[: -len(suffix)]
    return name


def mmcif_files(sources: Iterable[str | os.PathLike]) -> dict[str, str]:
    """Entry name -> file, over folders (searched through), archives and single files, by name.

    The first file of a name counts.  Raises InputError for a source that is not there, and for
    two files whose names differ in case only.
    """
    found: dict[str, str] = {}
    for root in map(paths.tidy, sources):
        for path in files_below(root):
            if path == root or path.lower().endswith(MMCIF_SUFFIXES):
                first = found.setdefault(entry_name(path), path)
                if first != path and first.lower() == path.lower():
                    raise InputError(
                        f"differs from {first} in case only", file=path, mend="remove one"
                    )
    return found


def files_below(source: str | os.PathLike) -> list[str]:
    """A file itself, or the files of a folder or zip archive, here or on a store, in order.

    Raises InputError if there is none.
    """
    root = paths.tidy(source)
    if paths.is_url(root) and root.lower().endswith((*MMCIF_SUFFIXES, ".pdb", ".pdb.gz")):
        return [root]  # what is wrong with it is told when it is read
    if paths.is_url(root) or root.lower().endswith(spool.ARCHIVE):
        files = [file.place for file in spool.find(root)]
        if files:
            return files
        paths.info(root)  # says what is wrong with it
        return [root]
    if os.path.isfile(root):
        return [root]
    if not os.path.isdir(root):
        raise InputError("no such file or folder", file=source, mend="check the path")
    found = []
    for folder, subfolders, names in os.walk(root, followlinks=True):
        subfolders.sort()
        found += [os.path.join(folder, name) for name in sorted(names)]
    return found


@dataclass
class _Polymer:
    entity: str
    asym: str  # label_asym_id
    rows: list[int] = field(default_factory=list)  # rows of _atom_site, first model


class Entry:
    """One parsed mmCIF file: its polymer chains by author name, date and resolution."""

    def __init__(self, path: str | os.PathLike, data: bytes | None = None) -> None:
        self.path = path
        self.name = entry_name(path)
        data = read_bytes(path) if data is None else data
        self.size = len(data)
        try:
            # Latin-1 never fails, and only ASCII items are read.
            document = gemmi.cif.read_string(data.decode("latin-1"))
        except (ValueError, RuntimeError, IndexError) as error:
            raise InputError(
                "not readable as mmCIF", file=path, item=str(error), mend=AGAIN
            ) from error
        blocks = [b for b in document if b.find_values("_atom_site.label_asym_id")]
        if not blocks:
            raise InputError("no _atom_site.label_asym_id: cut off or empty", file=path, mend=AGAIN)
        self._document = document  # keeps the block alive
        self._block = blocks[0]
        self.release_date = self._release_date()
        self.resolution = self._resolution()
        self._types = self._table("_entity_poly.", "entity_id", "type")
        self._sequences = self._entity_sequences()
        self._polymers = self._chains()

    def chain_names(self) -> list[str]:
        """Author names of all polymer chains, nucleic acids too, in file order."""
        return list(self._polymers)

    def chain(self, name: str) -> Chain:
        """Extract one protein chain.  Raises InputError with the reason it cannot serve."""
        try:
            return self._chain(name)
        except InputError as error:
            raise located(error, self.path, f"chain {name}") from error

    def protein_sequences(self) -> dict[str, str]:
        """SEQRES of every L-polypeptide chain that has one, by author name."""
        return {
            name: "".join(map(one_letter, self._sequences[polymer.entity]))
            for name, polymer in self._polymers.items()
            if polymer.entity in self._sequences
            and self._types.get(polymer.entity, "polypeptide(L)").lower() == "polypeptide(l)"
        }

    def protein_asyms(self) -> dict[str, str]:
        """Label name -> author name of every L-polypeptide chain, in file order."""
        return {
            polymer.asym: name
            for name, polymer in self._polymers.items()
            if self._types.get(polymer.entity, "polypeptide(L)").lower() == "polypeptide(l)"
        }

    def asyms(self) -> list[str]:
        """Label names of everything in the file, ligands and waters too."""
        listed = self._block.find_values("_struct_asym.id")
        names = [*listed, *self._block.find_values("_atom_site.label_asym_id")]
        return list(dict.fromkeys(gemmi.cif.as_string(name) for name in names))

    def rows(self, category: str, items: list[str]) -> list[list[str]]:
        """A category's rows as texts, with these items; none when the file lacks one of them."""
        return [
            [row.str(column) for column in range(len(items))]
            for row in self._block.find(category, items)
        ]

    def _chain(self, name: str) -> Chain:
        if name not in self._polymers:
            have = ", ".join(list(self._polymers)[:12]) or "none"
            raise InputError("no such polymer chain", mend=f"the file has {have} (author names)")
        polymer = self._polymers[name]
        kind = self._types.get(polymer.entity, "polypeptide(L)").lower()
        if kind != "polypeptide(l)":
            what = "nucleic acid" if "nucleotide" in kind else "not an L-polypeptide"
            raise InputError(f"{what}: {kind}", mend=LEAVE_OUT)
        components = self._sequences.get(polymer.entity)
        if components is None:
            components = self._observed_sequence(polymer)
        if not components:
            raise InputError("empty sequence", mend=LEAVE_OUT)
        sequence = "".join(map(one_letter, components))
        positions, mask, b_factor = atoms_to_arrays(sequence, self._atoms(polymer, components))
        chain = Chain(
            chain_id=f"{self.name}_{name}",
            sequence=sequence,
            positions=positions,
            mask=mask,
            b_factor=b_factor,
            resolution=self.resolution,
            release_date=self.release_date,
            unknown=tuple(
                f"{component} {number}"
                for number, component in enumerate(components, start=1)
                if one_letter(component) == "X"
            ),
        )
        check_backbone(chain)
        self._check_complete(polymer, chain)
        return chain

    def _table(self, category: str, key: str, value: str) -> dict[str, str]:
        rows = self._block.find(category, [key, value])
        return {row.str(0): row.str(1) for row in rows}

    def _release_date(self) -> str:
        for item in _DATE_ITEMS:
            values = (gemmi.cif.as_string(v) for v in self._block.find_values(item))
            dates = [v for v in values if _DATE.fullmatch(v)]
            if dates:
                return min(dates)
        return ""

    def _resolution(self) -> float:
        """Å; 0 when no item gives one (NMR)."""
        for item in _RESOLUTION_ITEMS:
            for value in self._block.find_values(item):
                number = gemmi.cif.as_number(value)
                if 0.0 < number < 1000.0:
                    return float(number)
        return 0.0

    def _entity_sequences(self) -> dict[str, list[str]]:
        """SEQRES as component names; the first listed stands for a heterogeneous position.

        The canonical one-letter sequence, and so published alignments, list it too.
        """
        numbered: dict[str, dict[int, str]] = {}
        for row in self._block.find("_entity_poly_seq.", ["entity_id", "num", "mon_id"]):
            number = _integer(row.str(1), "_entity_poly_seq.num", self.path)
            numbered.setdefault(row.str(0), {}).setdefault(number, row.str(2))
        sequences = {}
        for entity, by_number in numbered.items():
            if sorted(by_number) != list(range(1, len(by_number) + 1)):
                raise InputError(
                    f"_entity_poly_seq is not numbered 1 to {len(by_number)}",
                    file=self.path,
                    item=f"entity {entity}",
                    mend=AGAIN,
                )
            sequences[entity] = [by_number[number] for number in sorted(by_number)]
        return sequences

    def _chains(self) -> dict[str, _Polymer]:
        find = self._block.find_values
        asyms = list(find("_atom_site.label_asym_id"))
        count = len(asyms)
        authors = list(find("_atom_site.auth_asym_id")) or asyms
        entities = self._table("_struct_asym.", "id", "entity_id")
        if not entities:
            labelled = list(find("_atom_site.label_entity_id"))
            entities = dict(zip(asyms, labelled, strict=False)) if labelled else {}
        models = list(find("_atom_site.pdbx_PDB_model_num"))
        polymer_entities = set(self._types) | set(self._sequences)
        if not polymer_entities:  # a minimal file: whatever is numbered is polymer
            sequenced = find("_atom_site.label_seq_id")
            numbered = {a for a, n in zip(asyms, sequenced, strict=False) if n not in MISSING}
            entities = {asym: entities.get(asym, asym) for asym in numbered}
            polymer_entities = set(entities.values())
        if len(authors) != count or (models and len(models) != count):
            raise InputError("_atom_site columns differ in length", file=self.path, mend=AGAIN)
        by_asym: dict[str, _Polymer] = {}
        names: dict[str, str] = {}
        # Chains without any observed atom are named by the sequence scheme alone.
        for row in self._block.find("_pdbx_poly_seq_scheme.", ["asym_id", "pdb_strand_id"]):
            names.setdefault(row.str(0), row.str(1))
        first_model = models[0] if models else None
        for row, asym in enumerate(asyms):
            if models and models[row] != first_model:
                continue
            polymer = by_asym.get(asym)
            if polymer is None:
                polymer = by_asym[asym] = _Polymer(entities.get(asym, ""), asym)
                names.setdefault(asym, gemmi.cif.as_string(authors[row]))
            polymer.rows.append(row)
        chains: dict[str, _Polymer] = {}
        for asym in [*entities, *(a for a in by_asym if a not in entities)]:
            polymer = by_asym.get(asym) or _Polymer(entities.get(asym, ""), asym)
            if polymer.entity in polymer_entities and asym in names:
                chains.setdefault(names[asym], polymer)
        return chains

    def _columns(self) -> list[gemmi.cif.Column]:
        columns = [self._block.find_values(f"_atom_site.{item}") for item in _ATOM_ITEMS]
        for item, column in zip(_ATOM_ITEMS, columns, strict=True):
            if not column and item not in ("occupancy", "B_iso_or_equiv", "label_alt_id"):
                raise InputError(f"no _atom_site.{item}", mend=AGAIN)
        return columns

    def _atoms(self, polymer: _Polymer, components: list[str]) -> list[Atom]:
        comp, name, alt, seq, *numeric = self._columns()
        as_string, as_number = gemmi.cif.as_string, gemmi.cif.as_number
        atoms = []
        for row in polymer.rows:
            if seq[row] in MISSING:
                continue
            index = _integer(seq[row], "_atom_site.label_seq_id") - 1
            if not 0 <= index < len(components):
                raise InputError(
                    f"label_seq_id {index + 1} is outside SEQRES 1 to {len(components)}", mend=AGAIN
                )
            component = as_string(comp[row])
            if component != components[index]:
                continue  # the other residue of a heterogeneous position
            x, y, z, occupancy, b_factor = (
                as_number(column[row]) if column else 1.0 for column in numeric
            )
            location = alt[row] if alt else "."
            atoms.append(
                Atom(
                    index,
                    component,
                    as_string(name[row]),
                    "" if location in MISSING else location,
                    x,
                    y,
                    z,
                    occupancy,
                    b_factor,
                )  # fmt: skip
            )
        return atoms

    def _observed_sequence(self, polymer: _Polymer) -> list[str]:
        """Components from the atoms, where the file has no SEQRES (some predictions)."""
        comp, _, _, seq, *_ = self._columns()
        found: dict[int, str] = {}
        for row in polymer.rows:
            if seq[row] not in MISSING:
                number = _integer(seq[row], "_atom_site.label_seq_id")
                found.setdefault(number, gemmi.cif.as_string(comp[row]))
        if sorted(found) != list(range(1, len(found) + 1)):
            raise InputError("no _entity_poly_seq, and gaps in label_seq_id", mend="add SEQRES")
        return [found[number] for number in sorted(found)]

    def _check_complete(self, polymer: _Polymer, chain: Chain) -> None:
        """Residues that the scheme lists as observed must have atoms: catches cut-off files."""
        scheme = self._block.find(
            "_pdbx_poly_seq_scheme.", ["asym_id", "seq_id", "auth_mon_id", "mon_id"]
        )
        observed = {
            int(row.str(1))
            for row in scheme
            if row.str(0) == polymer.asym
            and row[2] not in MISSING
            and row.str(2) == row.str(3)
            and row.str(1).isdigit()
        }
        absent = [n for n in sorted(observed) if n <= chain.num_res and not chain.mask[n - 1].any()]
        # Single residues may be modelled with atoms that atom37 does not know.
        standard = [n for n in absent if chain.sequence[n - 1] != "X"]
        if len(standard) > max(1, 0.05 * chain.num_res):
            raise InputError(
                f"{len(standard)} residues, {standard[0]} the first, are listed as observed "
                "but have no atoms: the file is cut off",
                mend=AGAIN,
            )


def _integer(text: str, item: str, path: str | None = None) -> int:
    try:
        return int(text)
    except ValueError:
        raise InputError(
            f"{text[:20]!r} is not an integer", file=path, item=item, mend=AGAIN
        ) from None
