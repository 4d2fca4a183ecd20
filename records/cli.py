"""``tffold-convert``: structures and alignments to sharded TFRecords."""

from __future__ import annotations

import argparse
import shutil
import sys
from collections.abc import Sequence

from records import afdb, paths, spool
from records.arguments import BEAM_PARTS, build_parser, search_options
from records.convert import ConvertOptions
from records.engine import Conversion, run, work_folder
from records.errors import InputError
from records.search_missing import search_missing
from records.sources import find_path, spelt
from records.tasks import add_resolutions, angstroms, make_tasks
from records.templates import TemplateLibrary


def _holds_many(source: str) -> bool:
    """Whether a source of structures is a folder or an archive of them."""
    return source.lower().endswith(spool.ARCHIVE) or (
        not source.startswith("@") and paths.is_folder(source)
    )


_INPUTS = (
    "chains", "duplicates", "clusters", "validation_chains", "template_mmcif", "template_dates",
    "afdb",
)  # fmt: skip


def _as_spelt(source: str) -> str:
    """An input's place; where its name has another case there, that is said.  Raises InputError."""
    listed = source.startswith("@")
    given = paths.tidy(source.removeprefix("@"))
    found = find_path(given)
    if found != given:
        print(f"{given}: not there, so this is read: {found}", file=sys.stderr)
    return f"@{found}" if listed else found


def make_conversion(args: argparse.Namespace) -> Conversion:
    """Options and tasks of a command line.  Raises InputError."""
    args.mmcif, args.alignments = (
        list(map(_as_spelt, given)) for given in (args.mmcif, args.alignments)
    )
    for name in _INPUTS:
        if getattr(args, name):
            setattr(args, name, _as_spelt(getattr(args, name)))
    if args.complexes and args.distillation and args.search:
        raise InputError("predicted complexes are not searched for", mend="give --alignments")
    if args.afdb:
        found = afdb.places(args.afdb, args.afdb_source, args.afdb_version)
        args.mmcif, args.distillation = [*args.mmcif, *found], True
    if not args.mmcif:
        raise InputError("no structures", mend="give --mmcif or --afdb")
    templates = args.template_mmcif or ""
    if not templates and len(args.mmcif) == 1 and _holds_many(args.mmcif[0]):
        templates = args.mmcif[0]
    if args.distillation and not args.template_mmcif:
        templates = ""  # predictions are nobody's templates
    if args.no_templates or args.max_templates == 0:
        templates = ""
    if templates:
        TemplateLibrary.open(templates, args.template_dates)  # tell mistakes at once
    shared = {
        name: getattr(args, name)
        for name in ConvertOptions.__dataclass_fields__
        if hasattr(args, name)
    }
    of_all = args.resolutions and spelt(args.resolutions) is None
    if of_all:
        shared["resolution"] = angstroms(args.resolutions, item="--resolution")
    options = ConvertOptions(template_folder=templates, **shared)
    search = search_options(args)
    tasks = make_tasks(
        args.mmcif,
        args.alignments,
        chains=args.chains,
        duplicates=args.duplicates,
        clusters=args.clusters,
        validation_chains=args.validation_chains,
        distillation=args.distillation,
        complexes=args.complexes,
        limit=args.limit,
    )
    if args.resolutions and not of_all:
        tasks = add_resolutions(tasks, _as_spelt(args.resolutions))
    part, parts = args.part
    if search is not None:
        share = search_missing(
            tasks[part::parts], options, search, workers=args.workers, progress=not args.quiet
        )
        tasks[part::parts] = share
    return Conversion(tasks, options, args.shard_size << 20, part, parts)


def _reads_stores(args: argparse.Namespace) -> bool:
    """Whether any input of a command line lies on a store, as far as it can be seen."""
    given = [*args.mmcif, *args.alignments, args.template_mmcif or ""]
    given += [args.afdb_source] if args.afdb else []
    return any(paths.is_url(place.removeprefix("@")) for place in given) or any(
        place.startswith("@") for place in args.mmcif
    )


def main(argv: Sequence[str] | None = None) -> int:
    """Entry point.  0: done (rejected chains are in the manifest); 2: bad input."""
    parser = build_parser()
    args, rest = parser.parse_known_args(argv)
    if rest and not args.runner:  # options that are not ours belong to Beam
        parser.error(f"unrecognized arguments: {' '.join(rest)}")
    if args.runner and args.part != (0, 1):
        parser.error("--shard is one job of an array; --runner runs all of them: give one")
    if args.parts and not args.runner:
        parser.error("--parts belongs to --runner")
    output = paths.tidy(args.output)
    kept = work_folder(f"{output} {args.part}", args.cache_dir) / "read"
    try:
        if _reads_stores(args):
            shutil.rmtree(kept, ignore_errors=True)  # what a killed run left may be old
            spool.use(kept, args.cache_gb << 30)
        conversion = make_conversion(args)
        if args.runner:
            from records.beam import run_beam

            parts = args.parts or BEAM_PARTS
            summary = run_beam(conversion, output, args.runner, parts, rest, args.overwrite)
        else:
            summary = run(
                conversion, output, workers=args.workers, overwrite=args.overwrite,
                progress=not args.quiet, cache_dir=args.cache_dir,
            )  # fmt: skip
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except OSError as error:
        print(f"error: {error.filename or output}: {error.strerror or error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("interrupted: the same command goes on where this stopped", file=sys.stderr)
        return 130
    finally:
        if spool.in_use():
            spool.use(None)
            shutil.rmtree(kept.parent, ignore_errors=True)
    print(summary.line())
    print(f"shards: {len(summary.shards)} in {output}, {sum(summary.shards.values()):,} bytes")
    if not summary.written:
        print("error: no chain was written: see the manifest for the reasons", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
