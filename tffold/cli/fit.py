"""``tffold-fit CONFIG [key=value ...]``: trains what a configuration describes."""

from __future__ import annotations

import argparse
import importlib.util
import os
import signal
import sys
from collections.abc import Sequence

from records.arguments import ShowVersion
from records.errors import InputError
from tffold import compile_cache, logs
from tffold.config_file import load_config, packaged
from tffold.lean_import import import_tensorflow

EXIT_INPUT = 2  # something that the user can mend
EXIT_NON_FINITE = 3  # loss or gradient stayed non-finite
EXIT_DOES_NOT_FIT = 4  # --plan: the configuration needs more memory than the chip has
EXIT_REPLICAS_DIFFER = 5  # a device keeps corrupting its weights
EXIT_PREEMPTED = 75  # SIGTERM: saved; run the same command again to go on
EXIT_INTERRUPTED = 130  # SIGINT: saved likewise

NO_TENSORFLOW = (
    "TensorFlow is not installed: pip install 'tffold[cpu]', 'tffold[gpu]' or 'tffold[tpu]' "
    "(exactly one of them)"
)


def main(arguments: Sequence[str] | None = None) -> int:
    """Entry point; returns the exit code."""
    options = _parser().parse_intermixed_args(arguments)
    logs.show()
    try:
        config = load_config(options.config, options.overrides)
        if importlib.util.find_spec("tensorflow") is None:
            raise InputError(NO_TENSORFLOW)
        os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")  # the cache is noisy
        import_tensorflow()
        from tffold.train.callbacks import NonFiniteError
        from tffold.train.replicas import ReplicasDifferError
        from tffold.train.run import train, validate
        from tffold.train.summary import summary_lines
        from tffold.train.task import alphafold_task

        if options.plan:
            from tffold.plan import report

            fits = report.run(config, alphafold_task(), options.plan)
            return 0 if fits else EXIT_DOES_NOT_FIT
        kept = compile_cache.use(options.compile_cache)
        if options.compile_apart and not kept:
            raise InputError(
                "--compile-apart hands the program over in --compile-cache", mend="name a folder"
            )
        if options.validate:
            validate(config, alphafold_task(), options.validate)
            return 0
        try:
            outcome = train(
                config,
                alphafold_task(),
                options.allow_config_change,
                compile_apart=options.compile_apart,
            )
        except NonFiniteError as error:
            print(f"error: {error}", file=sys.stderr)
            return EXIT_NON_FINITE
        except ReplicasDifferError as error:
            print(f"error: {error}", file=sys.stderr)
            return EXIT_REPLICAS_DIFFER
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        return EXIT_INPUT
    except KeyboardInterrupt:
        return EXIT_INTERRUPTED
    for line in summary_lines(outcome.summary):
        print(line)
    codes = {0: 0, signal.SIGTERM: EXIT_PREEMPTED, signal.SIGINT: EXIT_INTERRUPTED}
    return codes[outcome.signal]


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="tffold-fit",
        description="Train AlphaFold 2. A run folder that holds a checkpoint is resumed.",
        epilog=f"Exit codes: 0 done; {EXIT_INPUT} bad input; {EXIT_NON_FINITE} non-finite loss; "
        f"{EXIT_DOES_NOT_FIT} a plan does not fit; {EXIT_REPLICAS_DIFFER} replicas differ; "
        f"{EXIT_PREEMPTED} stopped by SIGTERM after saving; {EXIT_INTERRUPTED} by Ctrl-C.",
    )
    parser.add_argument("--version", action=ShowVersion)
    parser.add_argument(
        "config",
        metavar="CONFIG",
        help=f"a YAML file, or a packaged configuration: {', '.join(packaged())}",
    )
    parser.add_argument(
        "overrides", nargs="*", metavar="key=value", help="for example train.steps=50"
    )
    parser.add_argument(
        "--allow-config-change",
        action="store_true",
        help="resume a run although its configuration has changed",
    )
    parser.add_argument(
        "--validate",
        metavar="CHECKPOINT",
        help="train nothing: evaluate a checkpoint, a run's newest one, or an .npz on "
        "data.validation, and write tables and structures under train.run_dir",
    )
    parser.add_argument(
        "--plan",
        metavar="TOPOLOGY",
        help="train nothing: compile this configuration for a TPU that need not be there (v5e, "
        "v4, v5p, v6e, or with a shape: v5e:4x4) and tell memory, work and whether it fits",
    )
    compile_cache.add_option(parser)
    parser.add_argument(
        "--compile-apart",
        action="store_true",
        help="on a CPU: let another process compile the step, so that this one stays small",
    )
    return parser


if __name__ == "__main__":
    sys.exit(main())
