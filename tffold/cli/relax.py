"""``tffold-relax IN.pdb OUT.pdb``: restrained minimisation of a structure."""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Sequence
from dataclasses import fields

from records import paths
from records.arguments import ShowVersion
from records.errors import InputError
from tffold.cli.fit import EXIT_INPUT
from tffold.config import RelaxConfig

EXIT_VIOLATED = 1  # written, but with violations left


def main(arguments: Sequence[str] | None = None) -> int:
    """Entry point; returns the exit code."""
    options = _parser().parse_args(arguments)
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    config = RelaxConfig(**{f.name: getattr(options, f.name) for f in fields(RelaxConfig)})
    try:
        from tffold.structures.files import read_pdb
        from tffold.structures.relax import relax

        try:
            result = relax(read_pdb(options.input), config)
        except InputError as error:
            raise error if error.file else InputError(str(error), file=options.input) from None
        paths.write_whole(options.output, result.pdb_text)
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        return EXIT_INPUT
    except OSError as error:
        print(f"error: {error.filename}: {error.strerror}", file=sys.stderr)
        return EXIT_INPUT
    print(json.dumps(result.report, indent=1))
    return EXIT_VIOLATED if result.report["violating_residues"] else 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="tffold-relax",
        description="Minimise a protein structure in the Amber99SB force field, every heavy atom "
        "restrained, until no bond, angle or contact is violated. Prints a report as JSON.",
        epilog=f"Exit codes: 0 done; {EXIT_VIOLATED} violations are left; {EXIT_INPUT} bad input.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    parser.add_argument("--version", action=ShowVersion)
    parser.add_argument("input", help="a PDB file, a path or a URL: its protein chains are taken")
    parser.add_argument("output", help="the PDB file to write, with hydrogens")
    units = {
        "stiffness": "kcal/mol/Å^2, of the restraints",
        "tolerance": "kcal/mol/nm, at which a round ends",
        "max_rounds": "each frees the residues left violated",
        "max_iterations": "of a round; 0: until the tolerance is met",
        "max_seconds": "after which a round ends as it is; 0: never",
        "platform": "OpenMM's: CPU, CUDA, …; auto: the fastest",
    }
    for field in fields(RelaxConfig):
        flag = "--" + field.name.replace("_", "-")
        kind = type(field.default)
        parser.add_argument(flag, type=kind, default=field.default, help=units[field.name])
    return parser


if __name__ == "__main__":
    sys.exit(main())
