"""Every layer has a case of the harness, in the file that mirrors its own."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

from tffold import model

SOURCES = Path(model.__path__[0])
BASES = {"Module", "Model"}  # "Model": keras.Model


def classes(path: Path) -> list[ast.ClassDef]:
    return [node for node in ast.parse(path.read_text()).body if isinstance(node, ast.ClassDef)]


def base_names(node: ast.ClassDef) -> set[str]:
    return {base.attr if isinstance(base, ast.Attribute) else base.id for base in node.bases}


def layers() -> list[tuple[str, str]]:
    """(file, class) of every layer; a layer that is another's subclass counts too."""
    found, names = [], set(BASES)
    files = {path.stem: classes(path) for path in sorted(SOURCES.glob("*.py"))}
    for _ in range(3):  # as deep as subclasses of subclasses go
        names |= {c.name for cs in files.values() for c in cs if base_names(c) & names}
    for file, nodes in files.items():
        found += [(file, c.name) for c in nodes if base_names(c) & names]
    return found


def covered(test_file: Path) -> set[str]:
    """Values of ``layer_class = ...`` in a test file's classes."""
    if not test_file.exists():
        return set()
    return {
        statement.value.id
        for node in classes(test_file)
        for statement in node.body
        if isinstance(statement, ast.Assign)
        and statement.targets[0].id == "layer_class"
        and node.name.startswith("Test")
    }


@pytest.mark.parametrize(("file", "name"), layers())
def test_every_layer_has_a_case(file, name):
    assert name in covered(Path(__file__).parent / f"test_{file}.py")


def test_layers_are_found():
    assert len(layers()) >= 30
    assert ("alphafold", "AlphaFold") in layers()
