"""BLAST databases read without BLAST."""

from __future__ import annotations

import pytest
from packages import blast_volume

from examples.learning.sequences import read_blast, write_fasta
from records.errors import InputError

SEQUENCES = ["MKTAYIAKQR", "ACDEFGHIKLMNPQRSTVWYX", "MUO"]


def write(prefix, sequences=SEQUENCES):
    index, residues = blast_volume(sequences)
    prefix.with_name(prefix.name + ".pin").write_bytes(index)
    prefix.with_name(prefix.name + ".psq").write_bytes(residues)
    return prefix


def test_sequences_as_written(tmp_path):
    found = list(read_blast(write(tmp_path / "a.fasta")))
    assert found == [sequence.encode() for sequence in SEQUENCES]


def test_each_sequence_once(tmp_path):
    prefixes = [write(tmp_path / "a"), write(tmp_path / "b", ["NEW", *SEQUENCES[:2]])]
    assert write_fasta(prefixes, tmp_path / "all.fasta") == 4
    lines = (tmp_path / "all.fasta").read_text().split()
    assert lines[0::2] == [">s1", ">s2", ">s3", ">s4"] and lines[1::2] == [*SEQUENCES, "NEW"]


@pytest.mark.parametrize(
    ("suffix", "change", "words"),
    [
        (".pin", lambda data: data[:40], "is cut off"),
        (".pin", lambda data: b"\0\0\0\5" + data[4:], "not a protein database of version 4"),
        (".psq", lambda data: data[:20], "does not fit to its index"),
        (".psq", lambda data: data[:5] + b"\x80" + data[6:], "holds no residues"),
    ],
)
def test_another_format_is_one_error(tmp_path, suffix, change, words):
    prefix = write(tmp_path / "a")
    file = prefix.with_name(prefix.name + suffix)
    file.write_bytes(change(file.read_bytes()))
    with pytest.raises(InputError, match=f"{words} .get metastudent-data 2.0.1 again"):
        list(read_blast(prefix))


def test_missing_volume(tmp_path):
    with pytest.raises(InputError, match=r"a\.pin: No such file"):
        list(read_blast(tmp_path / "a"))
