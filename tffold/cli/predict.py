"""``tffold-predict CONFIG ... --params FILE --input X --output DIR``: structures of sequences."""

from __future__ import annotations

import argparse
import importlib.util
import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from records.arguments import ShowVersion, add_search_arguments, iso_date, search_options
from records.errors import InputError
from tffold import compile_cache, logs
from tffold.cli.fit import EXIT_DOES_NOT_FIT, EXIT_INPUT, EXIT_INTERRUPTED, NO_TENSORFLOW
from tffold.config import Config
from tffold.config_file import load_config, weights_beside
from tffold.lean_import import import_tensorflow

EXIT_FAILED = 1  # some targets could not be predicted

EXAMPLE = """examples:
  tffold-predict runs/first/config.yaml --params runs/first \\
      --input queries.fasta --alignments alignments --output predictions
  tffold-predict model_1_ptm model_2_ptm --params alphafold_params --relax best \\
      --input query.fasta --search found --uniref90 uniref90.fasta --output predictions \\
      predict.rank_by=ptm model.num_recycle=20 predict.recycle_tolerance=0.5
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Entry point; returns the exit code."""
    options = _parser().parse_intermixed_args(arguments)
    logs.show()
    try:
        overrides = [text for text in options.configs if _is_override(text)]
        files = [text for text in options.configs if not _is_override(text)]
        if not files:
            raise InputError("no configuration named", mend="name model_1, say, or a YAML file")
        configs = {name: load_config(path, overrides) for name, path in _named(files).items()}
        if importlib.util.find_spec("tensorflow") is None:
            raise InputError(NO_TENSORFLOW)
        os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")  # the cache is noisy
        if options.plan:
            return _plan(configs, options.plan, options.residues)
        for needed in ("input", "output"):
            if not getattr(options, needed):
                raise InputError(f"--{needed} is missing", mend="name it, or pass --plan")
        params = options.params or [_own_weights(file) for file in files]
        search = search_options(options)
        compile_cache.use(options.compile_cache)
        import_tensorflow()
        from tffold.predict.evidence import Evidences
        from tffold.predict.session import predict

        evidences = Evidences(
            alignments=options.alignments,
            search=search,
            alone=options.single_sequence,
            template_folder=options.template_mmcif,
            template_dates=options.template_dates,
            max_template_date=options.max_template_date,
        )
        outcome = predict(
            configs,
            params,
            options.input,
            evidences,
            options.output,
            raw=options.raw,
            complexes=options.complexes,
            relax=options.relax,
            distill=options.distill,
            reference=options.reference,
            overwrite=options.overwrite,
            progress=not options.quiet,
        )
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        return EXIT_INPUT
    except OSError as error:
        where = error.filename or options.output
        print(f"error: {where}: {error.strerror or error}", file=sys.stderr)
        return EXIT_INPUT
    except KeyboardInterrupt:
        print("interrupted: the same command goes on where this stopped", file=sys.stderr)
        return EXIT_INTERRUPTED
    return EXIT_FAILED if outcome.failed else 0


def _plan(configs: Mapping[str, Config], topology: str, residues: Sequence[int]) -> int:
    """Plans each configuration; the exit code."""
    from tffold.plan import report

    fits = [report.plan_prediction(config, topology, residues) for config in configs.values()]
    return 0 if all(fits) else EXIT_DOES_NOT_FIT


def _is_override(text: str) -> bool:
    return "=" in text and not os.path.exists(text)


def _own_weights(file: str) -> str:
    """The weights that come with a configuration.  Raises InputError."""
    weights = weights_beside(file)
    if weights is None:
        raise InputError("no weights come with this configuration", item=file, mend="pass --params")
    return str(weights)


def _named(files: Sequence[str]) -> dict[str, str]:
    """Model name -> file: the file's stem, or its folder's name for a run's config.yaml."""
    named: dict[str, str] = {}
    for file in files:
        path = Path(file)
        name = path.stem if path.stem != "config" else path.absolute().parent.name
        if name in named:
            raise InputError(
                f"two configurations are called '{name}'", file=file, mend="rename one"
            )
        named[name] = file
    return named


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="tffold-predict",
        description="Predict structures. Finished targets are skipped when it is run again.",
        epilog=f"{EXAMPLE}\nExit codes: 0 all predicted; {EXIT_FAILED} some targets failed "
        f"(the output says why, so does DIR/summary.json); {EXIT_INPUT} bad input; "
        f"{EXIT_DOES_NOT_FIT} a plan does not fit; "
        f"{EXIT_INTERRUPTED} interrupted.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action=ShowVersion)
    parser.add_argument("configs", nargs="+", metavar="CONFIG | key=value",
        help="for each model a YAML file or a packaged configuration (model_1, model_1_ptm, …); "
        "and settings for all of them, such as model.num_recycle=20 or "
        "predict.num_seeds=5")  # fmt: skip
    add = parser.add_argument_group("model").add_argument
    add(
        "--params",
        nargs="+",
        default=[],
        metavar="PATH",
        help="a .npz like DeepMind's, a "
        "checkpoint or a run folder; one for each CONFIG, or a folder of params_CONFIG.npz; "
        "default: the .npz of CONFIG's name beside it, where one comes with it",
    )
    add(
        "--raw",
        action="store_true",
        help="of a checkpoint the weights themselves, not their moving average",
    )
    add = parser.add_argument_group("input").add_argument
    add(
        "--input",
        nargs="+",
        default=[],
        metavar="PATH",
        help="FASTA files or folders of them, or TFRecord shards or folders of them",
    )
    add(
        "--complexes",
        action="store_true",
        help="each FASTA file is one complex, its records are the chains; without it each record "
        "is a target, and a complex where its sequence has colons between chains",
    )
    add(
        "--alignments",
        nargs="+",
        default=[],
        metavar="PATH",
        help="as for tffold-convert, by the sequences' names",
    )
    add(
        "--single-sequence",
        action="store_true",
        help="predict sequences without alignments from the sequence alone",
    )
    add(
        "--template-mmcif",
        default="",
        metavar="DIR",
        help="structures of templates; without it there are none (records bring theirs along)",
    )
    add("--template-dates", default="", metavar="FILE", help="JSON of release dates")
    add("--max-template-date", type=iso_date, default="", metavar="DATE")
    add_search_arguments(parser)
    add = parser.add_argument_group("output").add_argument
    add("--output", default="", metavar="DIR", help="a folder for each target goes there")
    add(
        "--relax",
        choices=("none", "best", "all"),
        default="none",
        help="restrained minimisation of the best or of all predictions; needs tffold[relax]",
    )
    add(
        "--distill",
        action="store_true",
        help="also choose chains and residues to learn from: DIR/distillation, with a manifest "
        "for tffold-convert --distillation --mmcif @DIR/distillation/manifest.jsonl",
    )
    add(
        "--reference",
        default="",
        metavar="FILE",
        help="the distances of unrelated pairs, "
        "reference.npz of an earlier --distill; without it they are this run's own mean",
    )
    add("--overwrite", action="store_true", help="predict finished targets again")
    add("--quiet", action="store_true", help="no progress bar")
    compile_cache.add_option(parser)
    add = parser.add_argument_group("planning").add_argument
    add(
        "--plan",
        default="",
        metavar="TOPOLOGY",
        help="predict nothing: compile a pass for a TPU that need not be there (v5e, v4, v5p, "
        "v6e) and tell memory, work and whether it fits; needs tffold[plan], no --input, "
        "no --output",
    )
    add(
        "--residues",
        nargs="+",
        type=int,
        default=[],
        metavar="N",
        help="lengths to plan for; without it the largest of data.size_buckets that fits is sought",
    )
    return parser


if __name__ == "__main__":
    sys.exit(main())
