"""Reference cases: what DeepMind's code answers for a fixed batch and parameters made by rule."""

from __future__ import annotations

import dataclasses
import json
import zlib
from dataclasses import replace
from pathlib import Path

import numpy as np
from structures import labels

from tffold.config import Config
from tffold.config_file import load_config
from tffold.data.inputs import restype_to_hhblits
from tffold.data.recipe import Recipe
from tffold.geometry import atoms

CONFIGS = Path(__file__).parents[2] / "configs"
GOLDEN_FOLDER = Path(__file__).parents[1] / "golden"
COMPLEXES_FOLDER = Path(__file__).parents[1] / "golden_multimer"


@dataclasses.dataclass
class Case:
    """One reference case, described by its ``.expected.json`` alone."""

    folder: Path
    name: str

    @property
    def description(self) -> dict:
        return json.loads((self.folder / f"{self.name}.expected.json").read_text())

    def batch(self) -> dict[str, np.ndarray]:
        """Features with a leading recycling axis."""
        return dict(np.load(self.folder / f"{self.name}.batch.npz"))

    def expected(self) -> dict[str, np.ndarray]:
        return dict(np.load(self.folder / f"{self.name}.expected.npz"))

    def curve(self) -> dict | None:
        """Twenty optimizer steps on the batch, where the case has them."""
        path = self.folder / f"{self.name}.curve.json"
        return json.loads(path.read_text()) if path.exists() else None

    def config(self, bfloat16: bool = False) -> Config:
        """The case's preset with its block counts and recycles, dropout off."""
        description = self.description
        if description["overrides"]:
            raise ValueError(
                f"{self.name}: overrides {description['overrides']} are not understood"
            )
        return self.preset(bfloat16)

    def preset(self, bfloat16: bool) -> Config:
        description = self.description
        config = load_config(CONFIGS / f"{description['preset']}.yaml")
        model = config.model
        model.evoformer.num_block = description["evoformer_num_block"]
        model.extra_msa_stack.num_block = description["extra_msa_stack_num_block"]
        model.num_recycle = description["num_recycle"]
        model.bfloat16 = bfloat16
        switch_dropout_off(model)
        return config

    def params(self) -> dict[str, np.ndarray]:
        """Parameters by the rule: seeded by the key's CRC."""
        params = {}
        for key, shape in self.description["param_shapes"].items():
            random = np.random.RandomState(zlib.crc32(key.encode()))
            value = 0.05 * random.standard_normal(shape) + float(key.endswith("//scale"))
            params[key] = value.astype(np.float32)
        return params


# What a complex's case may say of the published settings beyond its preset.
UNDERSTOOD = {
    "num_msa",
    "num_extra_msa",
    "recycle_early_stop_tolerance",
    "bfloat16",
    "deterministic",
    "resample_msa_in_recycling",
}


@dataclasses.dataclass
class ComplexCase(Case):
    """A case of AlphaFold-Multimer, from the rows that its network drew on."""

    def arrays(self, kind: str) -> dict[str, np.ndarray]:
        return dict(np.load(self.folder / f"{self.name}.{kind}.npz"))

    def batch(self) -> dict[str, np.ndarray]:
        """Our features, made of the raw ones and the drawn rows, with a leading recycling axis."""
        raw, drawn = self.arrays("batch"), self.arrays("sampled")
        aatype = raw["aatype"]
        made = labels(aatype, raw["all_atom_positions"], raw["all_atom_mask"], raw["residue_index"])
        names = ("asym_id", "entity_id", "sym_id", "seq_mask", "resolution")
        made |= {name: raw[name] for name in names}
        made |= {n: raw[n] for n in ("pseudo_beta", "pseudo_beta_mask", "atom37_atom_exists")}
        # The network leaves out the first column.
        made["target_feat"] = np.eye(22, dtype=np.float32)[aatype + 1]
        templates = ("aatype", "all_atom_positions", "all_atom_mask")
        beta = atoms.pseudo_beta(*(raw[f"template_{name}"] for name in templates))
        made |= {
            "template_aatype": raw["template_aatype"],
            "template_all_atom_positions": raw["template_all_atom_positions"],
            "template_all_atom_masks": raw["template_all_atom_mask"],
            "template_pseudo_beta": beta[0],
            "template_pseudo_beta_mask": beta[1],
            "num_iter_recycling": np.int32(self.description["num_recycle"]),
        }
        passes = len(drawn["msa_feat"])
        batch = {name: np.stack(passes * [np.asarray(value)]) for name, value in made.items()}
        names = ("msa_feat", "msa_mask", "true_msa", "bert_mask", "extra_msa", "extra_msa_mask")
        batch |= {name: drawn[name] for name in names}
        deleted = drawn["extra_deletion_matrix"]
        batch["extra_has_deletion"] = np.clip(deleted, 0.0, 1.0)
        batch["extra_deletion_value"] = (np.arctan(deleted / 3.0) * (2.0 / np.pi)).astype("float32")
        return batch

    def sampling(self) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray], Recipe]:
        """The merged alignment as the pipeline has it before its passes, without padding; what
        was drawn, of the same rows and residues; and what to make of it."""
        raw, drawn = self.arrays("batch"), self.arrays("sampled")
        real = np.flatnonzero(raw["msa_mask"].any(1))
        columns = np.flatnonzero(raw["seq_mask"])
        assert raw["msa_mask"][np.ix_(real, columns)].all()
        tables = {name: raw[name][np.ix_(real, columns)].astype(np.uint8) for name in (
            "msa", "deletion_matrix", "bert_mask"
        )}  # fmt: skip
        merged = {
            "msa": restype_to_hhblits(tables["msa"]).numpy(),
            "deletion_matrix": tables["deletion_matrix"],
            "bert_cells": tables["bert_mask"],
            "cluster_bias_mask": raw["cluster_bias_mask"][real],
            "aatype": raw["aatype"][columns],
        }
        place = np.full(len(raw["msa"]), -1)
        place[real] = np.arange(len(real))
        order = place[drawn.pop("row_order")]
        # [passes, N] -> [passes, real rows]
        order = order[order >= 0].reshape(len(order), -1)
        found = {"row_order": order, "order_gumbel": drawn.pop("order_gumbel")[:, real]}
        by_column = (n for n, x in drawn.items() if x.ndim > 2)
        found |= {name: drawn[name][:, :, columns] for name in by_column if name != "msa_profile"}
        passes, centres = drawn["msa"].shape[:2]
        recipe = replace(
            Recipe.inference(self.config().data, passes - 1, labels=True),
            num_centres=centres,
            num_extra=drawn["extra_msa"].shape[1],
            num_chains=int(raw["asym_id"].max()),
        )
        return merged, found, recipe

    def config(self, bfloat16: bool = False) -> Config:
        """The case's preset, its losses as DeepMind's published code has them."""
        overrides = self.description["overrides"]
        if unknown := overrides.keys() - UNDERSTOOD:
            raise ValueError(f"{self.name}: overrides {sorted(unknown)} are not understood")
        config = self.preset(bfloat16)
        config.loss.interface_fape_clamp_distance = 1000.0
        config.loss.chain_center_weight = 0.0
        config.loss.violations_as_released = True
        return config


def cases(folder: Path) -> list[Case]:
    """All cases in a folder: those with sampled rows beside them are complexes."""
    suffix = ".expected.json"
    names = sorted(path.name.removesuffix(suffix) for path in folder.glob("*" + suffix))
    kinds = {True: ComplexCase, False: Case}
    return [kinds[(folder / f"{name}.sampled.npz").exists()](folder, name) for name in names]


def switch_dropout_off(section: object) -> None:
    """Sets every ``*dropout_rate`` of a configuration tree to zero."""
    for field in dataclasses.fields(section):
        value = getattr(section, field.name)
        if dataclasses.is_dataclass(value):
            switch_dropout_off(value)
        elif field.name.endswith("dropout_rate"):
            setattr(section, field.name, 0.0)


def flatten(tree: object, prefix: str = "") -> dict[str, object]:
    """Leaves of nested dictionaries and named tuples under slash-joined names."""
    if hasattr(tree, "_asdict"):
        tree = tree._asdict()
    if not isinstance(tree, dict):
        return {prefix: tree}
    leaves = {}
    for name, value in tree.items():
        leaves.update(flatten(value, f"{prefix}/{name}" if prefix else name))
    return leaves
