"""What a run is, in words: for TensorBoard's text and hyperparameter pages."""

from __future__ import annotations

import os
import platform
from collections.abc import Mapping, Sequence

import keras
import numpy as np
import tensorflow as tf

from tffold import config_file
from tffold.config import Config
from tffold.data.reader import RecordSet
from tffold.rules import rules
from tffold.train.norms import parameters_by_module
from tffold.train.strategy import Cluster
from tffold.weights.checkpoint import versions


def markdown_table(head: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    lines = [head, ["-"] * len(head), *rows]
    return "\n".join("| " + " | ".join(str(cell) for cell in line) + " |" for line in lines)


def settings(config: Config) -> str:
    """The whole configuration."""
    return f"```yaml\n{config_file.to_yaml(config)}```"


def environment(cluster: Cluster) -> str:
    """What the run runs on."""
    devices = [device.name for device in tf.config.list_logical_devices()]
    rows = [
        *versions().items(),
        ("system", platform.platform()),
        ("processor cores", len(os.sched_getaffinity(0))),
        ("strategy", type(cluster.strategy).__name__),
        ("replicas", cluster.num_replicas),
        ("devices", ", ".join(devices)),
    ]
    return markdown_table(("what", "value"), rows)


def model_table(network: keras.layers.Layer) -> str:
    """Parameters of every module."""
    variables = network.trainable_variables
    rows = []
    for module, indices in parameters_by_module(variables).items():
        sizes = [int(np.prod(variables[i].shape)) for i in indices]
        rows.append((module, len(sizes), f"{sum(sizes):,}"))
    total = sum(int(np.prod(variable.shape)) for variable in variables)
    rows.append(("**all**", len(variables), f"{total:,}"))
    return markdown_table(("module", "arrays", "parameters"), rows)


def data_table(sets: Mapping[str, RecordSet | None]) -> str:
    """Sizes of the record sets, by what they are for; smallest, median and largest."""

    def quantiles(values: np.ndarray) -> str:
        return " / ".join(f"{x:g}" for x in np.percentile(values, [0, 50, 100]))

    rows = []
    for name, records in sets.items():
        if records is not None:
            columns = (records.num_res, records.num_msa, records.num_templates)
            rows.append((name, records.name, len(records), *map(quantiles, columns)))
    head = ("set", "shards", "chains", "residues", "alignment rows", "templates")
    return markdown_table(head, rows)


def hyperparameters(config: Config) -> dict[str, bool | int | float | str]:
    """Settings by which runs are compared: those of training and loss, and changed others."""
    now, default = (config_file.flatten(config_file.to_dict(c)) for c in (config, Config()))
    compared = {
        name: now[name] != default[name] if rule.compared is None else rule.compared
        for name, rule in rules(Config).items()
    }
    chosen = {name: value for name, value in now.items() if compared[name]}
    return {
        name: ", ".join(map(str, value)) if isinstance(value, list) else value
        for name, value in chosen.items()
    }
