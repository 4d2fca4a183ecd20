"""``tffold-data-worker``: one clear line for each mistake. It works: tests/data/test_service.py."""

from __future__ import annotations

import socket

import pytest

from tffold.cli import data_worker


@pytest.fixture
def taken():
    with socket.socket() as one:
        one.bind(("localhost", 0))
        one.listen()
        yield one.getsockname()[1]


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["localhost:1"], "the dispatcher's address must be like grpc://host:5050"),
        (["grpc://localhost:1", "--wait", "0"], "no dispatcher answers at grpc://localhost:1"),
        (["--dispatcher", "--port", "TAKEN"], "port TAKEN cannot be had"),
    ],
)
def test_mistakes_are_one_line(words, told, taken, capsys):
    words, told = ([w.replace("TAKEN", str(taken)) for w in given] for given in (words, [told]))
    assert data_worker.main(words) == data_worker.EXIT_INPUT
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"error: {told[0]}")


@pytest.mark.parametrize("words", [[], ["grpc://h:1", "--dispatcher"], ["--port", "x"]])
def test_unclear_words_are_refused(words, capsys):
    with pytest.raises(SystemExit):
        data_worker.main(words)
    assert "usage: tffold-data-worker" in capsys.readouterr().err


def test_the_address_by_which_others_reach_this_machine():
    assert data_worker._own_address("localhost", 5050) in ("127.0.0.1", "::1")
    assert data_worker._joined("::1", 5050) == "[::1]:5050"
