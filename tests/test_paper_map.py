"""The map from the paper's algorithms to the code is the generated one, and complete."""

from __future__ import annotations

import ast

import pytest

from tffold import paper_map


def test_page_is_the_generated_one():
    page = paper_map.ROOT / "docs" / "paper_map.md"
    assert page.read_text(encoding="utf-8") == paper_map.markdown()


def test_every_algorithm_is_there_or_said_to_be_absent(monkeypatch):
    assert len(paper_map.TITLES) == len(set(paper_map.TITLES)) == 32
    places = paper_map.places()
    monkeypatch.setattr(paper_map, "places", lambda: places | {17: []})
    with pytest.raises(ValueError, match="Algorithm 17 must be in a docstring or in ABSENT"):
        paper_map.markdown()
    monkeypatch.setattr(paper_map, "ABSENT", {17: "because"})
    assert "| 17 | TemplatePointwiseAttention | absent: because |" in paper_map.markdown()
    monkeypatch.setattr(paper_map, "places", lambda: places)
    with pytest.raises(ValueError, match="not both"):
        paper_map.markdown()


@pytest.mark.parametrize(
    ("mention", "expected"),
    [
        ("Algorithm 10", [(10, "")]),
        ("Algorithms 13 and 14", [(13, ""), (14, "")]),
        ("Algorithms 3 to 5", [(3, ""), (4, ""), (5, "")]),
        ("Algorithms 6, 16 and 18, line 1", [(6, "line 1"), (16, "line 1"), (18, "line 1")]),
        ("Algorithm 20, lines 6 to 14; Algorithm 23", [(20, "lines 6 to 14"), (23, "")]),
    ],
)
def test_mentions(mention, expected):
    assert list(paper_map.numbered(mention)) == expected


def test_a_mention_that_cannot_be_read_is_an_error():
    with pytest.raises(ValueError, match="cannot read 'Algorithm 20 line 4'"):
        list(paper_map.numbered("Algorithm 20 line 4"))


def test_every_layer_says_what_of_the_paper_it_is():
    for path in (paper_map.ROOT / "tffold" / "model").glob("*.py"):
        for name, node in paper_map.named_nodes(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ClassDef) and "Module" in map(ast.unparse, node.bases):
                docstring = ast.get_docstring(node) or ""
                assert "Algorithm" in docstring or "supplement" in docstring, f"{path.name}: {name}"
