"""What messages, help and docstrings tell a user to type is there: commands, options, settings."""

from __future__ import annotations

import ast
import importlib.util
import re
from collections.abc import Iterator
from pathlib import Path

import documents
import pytest
from documents import ROOT

from tffold import config_file
from tffold.config import Config

COMMAND = re.compile(r"(?<![\w.-])tffold-[a-z]+(?:-[a-z]+)*(?![\w-])")
MODULE = re.compile(r"\bpython -m ([a-z][\w.]*\w)")
OPTION = re.compile(r"(?<![\w-])--[a-z][\w-]*")
SETTING = re.compile(r"(?<![\w./])(?:model|loss|data|train|predict|validation)\.[a-z_][\w.]*\w")
# Of other programs, and what stands between the check's own processes.
OTHERS = {"--dask_npartitions", "--dask_partition_size", "--no-nanny", "--hand", "--cpu",
          "--tf_xla_persistent_cache_directory", "--tf_xla_persistent_cache_prefix",
          "--xla_gpu_deterministic_ops", "--logdir", "tffold-check-line",
          "validation.json"}  # fmt: skip


def sources(*tops: str) -> list[Path]:
    return sorted(path for top in tops for path in (ROOT / top).rglob("*.py"))


def told(path: Path) -> Iterator[str]:
    """The strings of a file, apart from those that are a single word: keys, options' own names."""
    tree = ast.parse(path.read_text())
    parts: set[int] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.JoinedStr):
            parts |= {id(part) for part in node.values}
            text = "".join(p.value if isinstance(p, ast.Constant) else "X" for p in node.values)
            if " " in text:
                yield text
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            if id(node) not in parts and " " in node.value:
                yield node.value


def unknown(text: str, options: set[str], settings: set[str]) -> list[str]:
    """What a text tells to type, and is not there."""
    there = documents.entry_points().keys() | OTHERS
    found = [name for name in COMMAND.findall(text) if name not in there]
    found += [name for name in MODULE.findall(text) if importlib.util.find_spec(name) is None]
    found += [name for name in OPTION.findall(text) if name not in options | OTHERS]
    return found + [name for name in SETTING.findall(text) if name not in settings | OTHERS]


@pytest.fixture(scope="module")
def options() -> set[str]:
    commands = documents.entry_points()
    return {name for one in commands for name in documents.parser(one)._option_string_actions}


@pytest.fixture(scope="module")
def settings() -> set[str]:
    keys = [key.split(".") for key in config_file.flatten(config_file.to_dict(Config()))]
    return {".".join(key[:count]) for key in keys for count in range(1, len(key) + 1)}


def test_the_package_tells_what_is_there(options, settings):
    own = {name for path in sources("records", "tffold") for name in own_options(path)}
    for path in sources("records", "tffold"):
        for text in told(path):
            assert not unknown(text, options | own, settings), (path, text)


def own_options(path: Path) -> set[str]:
    """Of a module that is itself a program."""
    return set(re.findall(r'add_argument\(\s*"(--[\w-]+)"', path.read_text()))


def test_commands_are_there_wherever_they_are_named():
    texts = {path: path.read_text() for path in documents.PAGES}
    texts |= {path: path.read_text() for path in [ROOT / "Makefile", ROOT / ".ci" / "run"]}
    texts |= {path: "\n".join(told(path)) for path in sources("benchmarks", "examples")}
    for path, text in texts.items():
        commands = [one for one in COMMAND.findall(text) if one not in OTHERS]
        assert set(commands) <= documents.entry_points().keys(), path
        for name in MODULE.findall(text):
            assert importlib.util.find_spec(name), (path, name)


@pytest.mark.parametrize(
    "text",
    ["tffold-inspect says what it is", "run python -m records.inspekt", "set data.cache_gib=3",
     "pass --no-such-option"],
)  # fmt: skip
def test_what_is_not_there_is_found(text, options, settings):
    assert unknown(text, options, settings)
