"""``python -m records.inspect``: what it shows and how it ends."""

import subprocess
import sys

import pytest
from synthetic import assembly, chain, write_shard

from records import inspect, shards
from records.schema import PAIRING_FEATURES, RECORD_FEATURES


@pytest.fixture
def shard(tmp_path):
    chains = [
        chain(num_res=10, chain_id="1abc_A", num_templates=0),
        chain(num_res=25, chain_id="2def_B", num_msa=7, is_distillation=1),
    ]
    return write_shard(tmp_path / "a.tfrecord", chains)


def test_shows_records_chains_features_and_checksums(shard, capsys):
    assert inspect.main([str(shard)]) == 0
    out = capsys.readouterr().out
    assert "2 records" in out and "all checksums hold" in out and "index present" in out
    assert "1abc_A" in out and "2def_B" in out and "distillation" in out
    stored = set(RECORD_FEATURES) - set(PAIRING_FEATURES)  # nothing to pair in these
    assert all(f"  {name} " in out for name in stored)
    line = next(line for line in out.splitlines() if line.startswith("  msa "))
    assert line.split()[1] == "uint8" and "[7..30, 10..25]" in line
    assert "475 B" in line  # 30 x 10 + 7 x 25 bytes before compression


def test_complexes(tmp_path, capsys):
    shard = write_shard(tmp_path / "c.tfrecord", [assembly((1, 1, 2))])
    assert inspect.main([str(shard)]) == 0
    out = capsys.readouterr().out
    assert "33 residues" in out and "3 chains" in out
    assert "[5..6, 10..13]" in next(line for line in out.splitlines() if line[:6] == "  msa ")


def test_damage_is_counted(shard, capsys):
    entries = shards.read_index(shard)
    damaged = bytearray(shard.read_bytes())
    damaged[entries[1]["offset"] + 100] ^= 1
    shard.write_bytes(damaged)
    assert inspect.main([str(shard), "--no-chains"]) == 1
    out = capsys.readouterr().out
    assert "1 damaged" in out and f"record 1 at byte {entries[1]['offset']}" in out
    assert "checksum of the data fails" in out
    assert "1abc_A" not in out


def test_missing_file_is_one_line(tmp_path):
    run = subprocess.run(
        [sys.executable, "-m", "records.inspect", str(tmp_path / "none.tfrecord")],
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 2
    assert run.stderr.startswith("error: ") and len(run.stderr.splitlines()) == 1
