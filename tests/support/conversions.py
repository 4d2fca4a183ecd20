"""Conversions of the bundled chains, and what they wrote."""

import gzip
import json
import shutil
from dataclasses import replace
from pathlib import Path

from synthetic import data_of

from records import engine, example, shards
from records.arguments import build_parser
from records.cli import main, make_conversion
from records.mmcif import Entry

ROOT = Path(__file__).parents[2]
DEMO = ROOT / "examples" / "demo"
INPUT = ["--mmcif", str(DEMO / "mmcif"), "--alignments", str(DEMO / "alignments")]
WRITTEN = ["1a7g_E", "1a8o_A", "1gbt_A", "1lcd_A", "1pzp_A", "1ubq_A", "2ofg_X", "4cup_A", "4zhl_U"]


def convert(output, *extra, code=0, workers=1):
    arguments = [*INPUT, "--output", str(output), "--workers", str(workers), "--quiet", *extra]
    assert main(arguments) == code
    return output


def manifest(output):
    return {
        line["chain"]: line
        for path in sorted(output.glob("manifest*.jsonl"))
        for line in map(json.loads, path.read_text().splitlines())
    }


def records_of(output, split="train"):
    return {
        found["chain_id"]: found
        for shard in shards.find_shards([output / split])
        for data in data_of(shard)
        for found in [example.decode(data)]
    }


def content(output):
    """Every file below a folder, by relative name."""
    return {
        str(path.relative_to(output)): path.read_bytes()
        for path in sorted(output.rglob("*"))
        if path.is_file()
    }


def conversion_of(shard_bytes=engine.SHARD_BYTES, *extra):
    conversion = make_conversion(build_parser().parse_args([*INPUT, "--output", "unused", *extra]))
    return replace(conversion, shard_bytes=shard_bytes)


def text_of(name):
    """The mmCIF of a bundled entry."""
    return gzip.decompress((DEMO / "mmcif" / f"{name}.cif.gz").read_bytes()).decode("latin-1")


def entry_of(name, *changes):
    """A bundled entry with texts replaced."""
    text = text_of(name)
    for old, new in changes:
        assert text.count(old) == 1, old
        text = text.replace(old, new)
    return Entry(Path(f"{name}.cif"), text.encode("latin-1"))


# Sequences of 4zhl: a protease and the peptide that is bound to it.
PROTEASE, PEPTIDE = (entry_of("4zhl").chain(name).sequence for name in "UP")
_FOUND = f">query\n{PEPTIDE}\n>sp|P1|X_HUMAN\n{PEPTIDE[:-1]}A\n>sp|P2|X_PAPCY\nA{PEPTIDE[1:]}\n"


def uniprot_search(folder):
    """One folder for each chain; what was found for the protease serves as UniProt's hits."""
    for name in ("4zhl_U", "4zhl_P"):
        (folder / name).mkdir(parents=True)
    found = DEMO / "alignments" / "4zhl_U" / "uniref90_hits.sto.gz"
    shutil.copy(found, folder / "4zhl_U" / "uniref90_hits.sto.gz")
    shutil.copy(found, folder / "4zhl_U" / "uniprot_hits.sto.gz")
    (folder / "4zhl_P" / "mgnify_hits.a3m").write_text(f">query\n{PEPTIDE}\n")
    (folder / "4zhl_P" / "uniprot_hits.a3m").write_text(_FOUND)


def convert_4zhl(folder, layout):
    """The complex 4zhl converted below ``folder``, with the alignments that ``layout`` writes."""
    layout(folder / "found")
    (folder / "chains").write_text("4zhl\n")
    return convert(
        folder / "out", "--complexes", "--alignments", str(folder / "found"),
        "--chains", str(folder / "chains"),
    )  # fmt: skip
