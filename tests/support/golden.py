"""Reference cases: what DeepMind's code answers for a fixed batch and parameters made by rule."""

from __future__ import annotations

import dataclasses
import json
import zlib
from pathlib import Path

import numpy as np

from tffold.config import Config
from tffold.config_file import load_config

CONFIGS = Path(__file__).parents[2] / "configs"
GOLDEN_FOLDER = Path(__file__).parents[1] / "golden"


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


def cases(folder: Path) -> list[Case]:
    """All cases in a folder."""
    suffix = ".expected.json"
    names = sorted(path.name.removesuffix(suffix) for path in folder.glob("*" + suffix))
    return [Case(folder, name) for name in names]


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
