"""YAML files and overrides to a checked ``Config``, and back."""

from __future__ import annotations

import dataclasses
import difflib
import io
import math
import os
import re
import types
import typing
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException
from yaml import YAMLError

from records import paths
from records.errors import InputError
from records.paths import Place
from tffold.config import AttentionConfig, Config
from tffold.rules import Rule, rules

BASE_KEY = "base"  # a configuration to start from: packaged, or a file beside the one naming it
PACKAGED = Path(__file__).parent / "configs"


def load_config(name: Place, overrides: Sequence[str] = ()) -> Config:
    """Reads a YAML file (and the ``base`` it names), applies overrides, checks everything.

    Args:
      name: a packaged configuration (``initial_training``) or the path or URL of a YAML file; it
        says only what differs from the defaults or its base.
      overrides: ``dotted.key=value`` strings, as on the command line.

    Raises:
      InputError: a missing or broken file, an unknown or ill-typed key, a value out of range;
        the message names the file, the key and, for an unknown key, its nearest neighbour.
    """
    path = _find(name)
    merged = _read_tree(path, seen=())
    for override in overrides:
        source = f"override '{override}'"
        key, equals, _ = override.partition("=")
        if not equals or not key:
            raise InputError(f"{source}: write it as section.key=value")
        try:
            tree = OmegaConf.from_dotlist([override])
        except (OmegaConfBaseException, YAMLError) as error:
            raise InputError(f"{source}: {_first_line(error)}") from None
        merged = OmegaConf.merge(merged, _checked(tree, source))
    return from_dict(OmegaConf.to_container(merged, resolve=True), path)


def from_dict(tree: Mapping[str, Any], source: str) -> Config:
    """A checked ``Config`` from a nested dictionary; ``source`` names it in errors."""
    tree = _checked_tree(Config, tree, source, ())
    config = OmegaConf.to_object(OmegaConf.merge(OmegaConf.structured(Config), tree))
    _check_values(config, source)
    return config


def to_dict(config: Config) -> dict[str, Any]:
    """The whole configuration as nested plain dictionaries."""
    return dataclasses.asdict(config)


def to_yaml(config: Config) -> str:
    """The whole configuration, defaults included, as YAML that ``load_config`` reads back."""
    return OmegaConf.to_yaml(OmegaConf.create(to_dict(config)))


def flatten(tree: Mapping[str, Any]) -> dict[str, Any]:
    """Every setting of a nested dictionary under its dotted key."""
    return dict(_leaves(tree, ()))


def _leaves(tree: Mapping[str, Any], prefix: tuple[str, ...]) -> Iterator[tuple[str, Any]]:
    for key, value in tree.items():
        if isinstance(value, Mapping):
            yield from _leaves(value, (*prefix, key))
        else:
            yield ".".join((*prefix, key)), value


def packaged() -> list[str]:
    """The names of the configurations that come with the package."""
    return sorted(path.stem for path in PACKAGED.glob("*.yaml"))


def weights_beside(name: Place) -> str | None:
    """The weights that come with a configuration: the ``.npz`` beside it that has its name.

    None where there are none.  A run folder's ``config.yaml`` has none, whatever it began from.
    """
    path = os.path.splitext(_find(name))[0] + ".npz"
    return path if paths.is_file(path) else None


def _find(name: Place, folder: str = "") -> str:
    """A packaged configuration by its bare name, else a file, relative to ``folder``."""
    if str(name) in packaged():
        return str(PACKAGED / f"{name}.yaml")
    path = paths.join(folder, str(name)) if folder and not paths.is_url(name) else str(name)
    if paths.exists(path):
        return path
    near = difflib.get_close_matches(Path(name).stem, packaged(), len(packaged()), 0.0)
    raise InputError(
        f"{path}: no such configuration file, and none of the packaged ones: {', '.join(near)}"
    )


def _read_tree(path: str, seen: tuple[str, ...]) -> Any:
    itself = path if paths.is_url(path) else os.path.realpath(path)
    if itself in seen:
        raise InputError(f"{path}: '{BASE_KEY}' leads back to this file; remove the circle")
    try:
        tree = OmegaConf.load(io.StringIO(paths.read_text(path)) if paths.is_url(path) else path)
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror}") from None
    except (OmegaConfBaseException, YAMLError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: not valid YAML: {_first_line(error)}") from None
    if not OmegaConf.is_dict(tree):
        raise InputError(f"{path}: expected sections such as 'model:' and 'train:' at the top")
    base = tree.pop(BASE_KEY, None)
    tree = _checked(tree, path)
    if base is None:
        return tree
    if not isinstance(base, str):
        raise InputError(f"{path}: '{BASE_KEY}' must name a configuration file")
    return OmegaConf.merge(_read_tree(_find(base, paths.parent(path)), (*seen, itself)), tree)


def _checked(tree: Any, source: str) -> Any:
    try:
        container = OmegaConf.to_container(tree, resolve=True)
    except OmegaConfBaseException as error:
        raise InputError(f"{source}: {_first_line(error)}") from None
    return OmegaConf.create(_checked_tree(Config, container, source, ()))


def _first_line(error: Exception) -> str:
    lines = str(error).splitlines()
    mark = getattr(error, "problem_mark", None)
    where = f" (line {mark.line + 1})" if mark is not None else ""
    return (getattr(error, "problem", None) or lines[0] if lines else type(error).__name__) + where


def _checked_tree(cls: type, tree: Any, source: str, prefix: tuple[str, ...]) -> dict[str, Any]:
    """Holds a nested dictionary against a dataclass: known keys, right types.

    One string where several are meant becomes a list.
    """
    if not isinstance(tree, Mapping):
        name = ".".join(prefix)
        raise InputError(f"{source}: '{name}' is a section; give it keys, not {tree!r}")
    hints = typing.get_type_hints(cls)
    checked: dict[str, Any] = {}
    for key, value in tree.items():
        dotted = ".".join((*prefix, str(key)))
        if key not in hints:
            raise InputError(
                f"{source}: unknown key '{dotted}'; {_suggestion(dotted, hints, prefix)}"
            )
        if dataclasses.is_dataclass(hints[key]):
            checked[key] = _checked_tree(hints[key], value, source, (*prefix, key))
        elif hints[key] == list[str] and isinstance(value, str):
            checked[key] = [value]
        elif dotted == "model.remat" and isinstance(value, bool):  # as it was written once
            checked[key] = "all" if value else "none"
        elif not _has_type(value, hints[key]):
            kind = hints[key].__name__ if not typing.get_args(hints[key]) else str(hints[key])
            raise InputError(f"{source}: '{dotted}' must be {kind}, not {value!r}")
        else:
            checked[key] = value
    return checked


def _has_type(value: Any, kind: Any) -> bool:
    if isinstance(kind, types.GenericAlias):
        (item,) = typing.get_args(kind)
        return isinstance(value, list) and all(_has_type(element, item) for element in value)
    if kind is float:
        return isinstance(value, (int, float)) and not isinstance(value, bool)
    if kind is int:
        return isinstance(value, int) and not isinstance(value, bool)
    return isinstance(value, kind)


def _suggestion(dotted: str, siblings: Iterable[str], prefix: tuple[str, ...]) -> str:
    """The same name in another section, else the nearest beside the unknown one or anywhere."""
    beside = [".".join((*prefix, name)) for name in siblings]
    everywhere = list(flatten(to_dict(Config())))
    wanted = dotted.rpartition(".")[2]
    same_name = [key for key in everywhere if key.rpartition(".")[2] == wanted]
    near = (
        difflib.get_close_matches(dotted, same_name, 1, 0.0)
        or difflib.get_close_matches(dotted, beside, 1, 0.7)
        or difflib.get_close_matches(dotted, everywhere, 1, 0.6)
    )
    if near:
        return f"did you mean '{near[0]}'?"
    return "known keys here: " + ", ".join(sorted(beside))


def _check_values(config: Config, source: str) -> None:
    """What a type cannot express: the settings' rules, and what binds several settings."""
    values = flatten(to_dict(config))
    for key, rule in rules(Config).items():
        for value in values[key] if isinstance(values[key], list) else [values[key]]:
            if problem := _problem(rule, value):
                raise InputError(f"{source}: '{key}' must {problem}, not {value}")
    profiled_steps(config.train.profile, source)
    _check_train(config, source)
    _check_data(config, source)
    _check_model(config, source)


def _problem(rule: Rule, value: Any) -> str | None:
    """What a value must do and does not."""
    if isinstance(value, str):
        known = not rule.one_of or value in rule.one_of
        return None if known else f"be one of {', '.join(rule.one_of)}"
    if not math.isfinite(value):
        return "be finite"
    if rule.at_least <= value <= rule.at_most and value < rule.below:
        return None
    if math.isfinite(rule.at_most):
        return f"lie between {rule.at_least} and {rule.at_most}"
    return f"be at least {rule.at_least}" if value < rule.at_least else f"be below {rule.below}"


def profiled_steps(setting: str, source: str = "train.profile") -> range:
    """The steps that ``train.profile`` names, as "100:110"; empty if it is."""
    if not setting:
        return range(0)
    first, colon, end = setting.partition(":")
    if not (colon and first.isdecimal() and end.isdecimal() and int(first) < int(end)):
        raise InputError(
            f"{source}: 'train.profile' must be like 100:110, the first step and the one after "
            f"the last, not {setting!r}"
        )
    return range(int(first), int(end))


def host_and_port(address: str, source: str) -> tuple[str, int]:
    """The parts of an address like ``grpc://host:port``."""
    found = re.fullmatch(r"grpc://(\[[0-9a-fA-F:]+\]|[^/:\s]+):(\d{1,5})", address)
    if found is None or not 0 < int(found[2]) < 1 << 16:
        raise InputError(f"{source} must be like grpc://host:5050, not {address!r}")
    return found[1].strip("[]"), int(found[2])


def _check_train(config: Config, source: str) -> None:
    train = config.train
    if train.check_replicas_every and train.checkpoint_every_seconds:
        raise InputError(
            f"{source}: 'train.checkpoint_every_seconds' must be 0 with "
            "'train.check_replicas_every': what is saved by one process's clock was not compared"
        )


def _check_data(config: Config, source: str) -> None:
    data = config.data
    replaced = ("uniform_prob", "profile_prob", "same_prob")
    if sum(getattr(data, f"masked_msa_{name}") for name in replaced) > 1:
        raise InputError(
            f"{source}: 'data.masked_msa_uniform_prob', '…_profile_prob' and '…_same_prob' "
            "must not exceed 1 together"
        )
    if config.model.encode_chains != bool(data.max_chains):
        wanted = "at least 1, as" if config.model.encode_chains else "0, unless"
        raise InputError(
            f"{source}: 'data.max_chains' must be {wanted} 'model.encode_chains' is on"
        )
    if data.complexes and not data.max_chains:
        raise InputError(
            f"{source}: 'data.complexes' is for a network that knows chains; start from a "
            "multimer's configuration, such as model_1_multimer"
        )
    if data.service:
        host_and_port(data.service, f"{source}: 'data.service'")
    if not data.size_buckets:
        raise InputError(f"{source}: 'data.size_buckets' must hold one size at least")
    if config.model.template.enabled and not data.max_templates:
        raise InputError(
            f"{source}: 'data.max_templates' must be at least 1, as 'model.template.enabled' is on"
        )


def _check_model(config: Config, source: str) -> None:
    model = config.model
    if config.predict.rank_by == "ptm" and not model.heads.predicted_aligned_error:
        raise InputError(
            f"{source}: 'predict.rank_by' is ptm, but 'model.heads.predicted_aligned_error' is off"
        )
    for key, attention in _attentions(model, ("model",)):
        if attention.key_dim % attention.num_head:
            raise InputError(
                f"{source}: '{key}.key_dim' ({attention.key_dim}) must be a multiple of "
                f"'{key}.num_head' ({attention.num_head})"
            )


def _attentions(section: Any, prefix: tuple[str, ...]) -> Iterator[tuple[str, AttentionConfig]]:
    for item in dataclasses.fields(section):
        value, path = getattr(section, item.name), (*prefix, item.name)
        if isinstance(value, AttentionConfig):
            yield ".".join(path), value
        elif dataclasses.is_dataclass(value):
            yield from _attentions(value, path)
