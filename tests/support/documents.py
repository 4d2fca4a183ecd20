"""The Markdown pages of this repository: their code blocks, commands, links and code spans."""

from __future__ import annotations

import argparse
import importlib
import re
import shlex
from collections.abc import Callable, Iterator, Sequence
from configparser import ConfigParser
from dataclasses import dataclass
from pathlib import Path
from unittest import mock

ROOT = Path(__file__).parents[2]
PAGES = sorted(
    [
        ROOT / "README.md",
        ROOT / "CONTRIBUTING.md",
        *ROOT.glob("docs/*.md"),
        *ROOT.glob("examples/*/README.md"),
    ]
)
NOT_RUN = "not run: "
_FENCE = re.compile(r"^(`{3,})(.*?)\n(.*?)^\1$", re.MULTILINE | re.DOTALL)
_SPAN = re.compile(r"(?<!`)`([^`\n]+)`(?!`)")
_SEPARATORS = {";", "&&", "||", "|", "&", "(", ")"}
_KEYWORDS = {"do", "done", "then", "fi", "else"}
_ASSIGNMENT = re.compile(r"[A-Za-z_]\w*=")


@dataclass(frozen=True)
class Block:
    """A fenced block: ``kind`` is the first word behind the fence, ``note`` the rest."""

    page: Path
    kind: str
    note: str
    text: str

    @property
    def runs(self) -> bool:
        return self.kind == "sh" and self.note == "run"

    def __str__(self) -> str:
        return f"{self.page.relative_to(ROOT)}: {self.text.splitlines()[0]}"


def blocks(page: Path) -> list[Block]:
    found = []
    for _, info, text in _FENCE.findall(page.read_text()):
        kind, _, note = info.strip().partition(" ")
        found.append(Block(page, kind, note.strip(), text))
    return found


def prose(page: Path) -> str:
    """The page without its fenced blocks."""
    return _FENCE.sub("", page.read_text())


def spans(page: Path) -> list[str]:
    """What stands between single backquotes."""
    return _SPAN.findall(prose(page))


def links(page: Path) -> list[str]:
    """Targets of links and pictures to other places of this repository."""
    targets = re.findall(r"\]\(([^)\s]+)\)", prose(page))
    return [target for target in targets if "://" not in target]


def anchors(page: Path) -> set[str]:
    """The headings as GitHub makes anchors of them."""
    headings = re.findall(r"^#+ (.*)$", prose(page), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def commands(text: str) -> Iterator[list[str]]:
    """The commands of a shell text as words, without assignments and redirections before them."""
    for line in text.replace("\\\n", " ").splitlines():
        lexer = shlex.shlex(line, posix=True, punctuation_chars=True)
        lexer.whitespace_split = True
        words: list[str] = []
        skip = False
        for word in [*lexer, ";"]:
            if skip:
                skip = False
            elif word in _SEPARATORS:
                if words and words[0] != "for":
                    yield words
                words = []
            elif set(word) <= set("<>"):
                skip = True
            elif words or not (word in _KEYWORDS or _ASSIGNMENT.match(word)):
                words.append(word)


def entry_points() -> dict[str, str]:
    """The package's commands and the module of each."""
    setup = ConfigParser()
    setup.read(ROOT / "setup.cfg")
    lines = setup["options.entry_points"]["console_scripts"].split("\n")
    pairs = (line.split("=") for line in lines if line)
    return {name.strip(): module.strip().removesuffix(":main") for name, module in pairs}


def extras() -> set[str]:
    """What stands in brackets behind the package's name for pip."""
    setup = ConfigParser()
    setup.read(ROOT / "setup.cfg")
    return set(setup["options.extras_require"])


class _FoundParser(BaseException):
    """Brings the parser out of a command's ``main``."""


def parser(command: str) -> argparse.ArgumentParser:
    """The parser that a command makes for itself."""

    def stop(self: argparse.ArgumentParser, *_: object) -> None:
        raise _FoundParser(self)

    main: Callable[[Sequence[str]], int] = importlib.import_module(entry_points()[command]).main
    names = ("parse_args", "parse_known_args", "parse_intermixed_args")
    with mock.patch.multiple(argparse.ArgumentParser, **dict.fromkeys(names, stop)):
        try:
            main([])
        except _FoundParser as found:
            return found.args[0]
    raise AssertionError(f"{command} parses no arguments")


def parse(command: str, words: Sequence[str]) -> argparse.Namespace:
    """The words behind a command, parsed as it would; ``SystemExit`` where it would refuse them."""
    found = parser(command)
    if command == "tffold-predict":
        return found.parse_intermixed_args(words)
    if "--runner" in words:  # what is left belongs to Beam
        return found.parse_known_args(words)[0]
    return found.parse_args(words)
