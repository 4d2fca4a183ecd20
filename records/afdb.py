"""AlphaFold DB's predicted structures by accession: where they lie, and their confidence.

Its public bucket and its HTTP server have the same names in one folder:
``AF-P69905-F1-model_v4.cif`` and, of a few kilobytes, ``AF-P69905-F1-confidence_v4.json``.
"""

from __future__ import annotations

import json
import re

from records import paths, spool
from records.errors import InputError
from records.sources import read_lines

BUCKET = "gs://public-datasets-deepmind-alphafold-v4"
VERSION = 4
_MODEL = re.compile(r"(AF-\w+-F\d+)-model(_v\d+)\.cif$")
_ACCESSION = re.compile(r"(?:AF-)?([A-Za-z0-9]{6,10})(?:-F(\d+))?$")


def places(accessions: str, source: str, version: int) -> list[str]:
    """The structures of a list of accessions, one a line: ``P69905`` or ``AF-P69905-F1``.

    Long proteins are in fragments; the first is meant where none is named.  Raises InputError.
    """
    found = {}
    for words in read_lines(accessions):
        match = _ACCESSION.match(words[0])
        if not match:
            raise InputError(
                "no accession of UniProt", file=accessions, item=words[0],
                mend="write one a line: P69905",
            )  # fmt: skip
        name = f"AF-{match[1].upper()}-F{match[2] or 1}-model_v{version}.cif"
        found[paths.join(source, name)] = None
    if not found:
        raise InputError("no accessions", file=accessions, mend="write one a line: P69905")
    return list(found)


def mean_confidence(place: str) -> float | None:
    """The mean pLDDT of a structure of AlphaFold DB, from the small file beside it.

    None where a file is not named so or has no such file beside it.  Raises InputError.
    """
    match = _MODEL.search(place)
    if not match:
        return None
    beside = paths.join(paths.parent(place), f"{match[1]}-confidence{match[2]}.json")
    try:
        scores = json.loads(spool.read(beside))["confidenceScore"]
        return sum(map(float, scores)) / len(scores)
    except paths.MissingError:
        return None
    except InputError:
        raise
    except (ValueError, KeyError, TypeError, ZeroDivisionError, RecursionError) as error:
        raise InputError(
            f"not a table of confidence ({type(error).__name__})", file=beside,
            mend="get it again, or set --min-mean-confidence 0",
        ) from error  # fmt: skip
