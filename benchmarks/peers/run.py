"""tffold's training step beside its peers': the same batch, the same machine, in turn, in one run.

    python benchmarks/peers/run.py                                   # DeepMind's network
    python benchmarks/peers/run.py --openfold                        # and OpenFold
    python benchmarks/peers/run.py --crop 128 --msa 128 --extra 512 --rounds 5
    python benchmarks/peers/run.py --remat all cheap                 # tffold in two ways
    python benchmarks/peers/run.py --peer NAME PYTHON SCRIPT         # another, beside it

The first run makes an environment for DeepMind's network (a minute, 1 GB), and one for OpenFold if
it is asked for (three minutes, 6 GB: PyTorch's package holds its libraries for GPUs). Every round
runs each program once, in a process of its own; who goes first changes from round to round. Printed
are each program's medians, and the ratios of tffold to it: of the medians, and the least and the
most of the rounds' own. Seconds are worth nothing on another day, so nothing is stored. Leave the
machine alone meanwhile.

The step is the gradient of one example in one pass with everything recomputed (``--no-remat``: with
nothing recomputed; ``--remat``: what tffold alone recomputes), dropout on, clipping, Adam and the
average of the weights. OpenFold compiles nothing. A script of another peer takes a batch file (see
``make_batch.py``) and the options of ``deepmind_step.py``, and writes ``compile_seconds``,
``step_seconds`` and ``peak_gb`` as JSON.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

from environments import deepmind_python, openfold_python

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
FIGURES = {"step": "step_seconds", "compile": "compile_seconds", "peak memory": "peak_gb"}


def run_once(command: list[str], arguments: list[str]) -> dict[str, float]:
    """One process of a trainer; its figures."""
    with tempfile.TemporaryDirectory() as folder:
        result = Path(folder) / "result.json"
        subprocess.run(
            [*command, "--json", str(result), *arguments],
            check=True,
            stdout=subprocess.DEVNULL,
            cwd=folder,
            env=os.environ | {"PYTHONPATH": str(ROOT), "TF_CPP_MIN_LOG_LEVEL": "2"},
        )
        return json.loads(result.read_text())


def take_turns(
    programs: dict[str, list[str]], arguments: list[str], rounds: int
) -> dict[str, list[dict]]:
    """Every program once a round; who goes first changes from round to round."""
    runs: dict[str, list[dict]] = {name: [] for name in programs}
    for turn in range(rounds):
        order = list(programs) if turn % 2 == 0 else list(reversed(programs))
        for name in order:
            runs[name].append(run_once(programs[name], arguments))
            print(f"round {turn + 1}: {name} done", file=sys.stderr, flush=True)
    return runs


def table(
    runs: dict[str, list[dict]], own: list[str], figures: dict[str, str] = FIGURES
) -> list[str]:
    """Median and spread of each trainer's figures; what each of ``own`` takes of each peer's."""
    lines = [f"{'':16}{'':14}{'median':>9}   of rounds"]
    for name, results in runs.items():
        for title, key in figures.items():
            values = [result[key] for result in results]
            spread = f"{min(values):.3g} to {max(values):.3g}"
            lines.append(f"{name:16}{title:14}{statistics.median(values):9.3g}   {spread}")
    lines.append(f"\n{'ratio of':16}{'to':16}{'':14}{'medians':>9}   of each round")
    for peer in [name for name in runs if name not in own]:
        for name in own:
            for title, key in figures.items():
                ours, theirs = ([r[key] for r in runs[x]] for x in (name, peer))
                if min(theirs) <= 0:  # it compiles nothing
                    continue
                rounds = [a / b for a, b in zip(ours, theirs, strict=True)]
                ratio = statistics.median(ours) / statistics.median(theirs)
                spread = f"{min(rounds):.2f} to {max(rounds):.2f}"
                lines.append(f"{name:16}{peer:16}{title:14}{ratio:9.2f}   {spread}")
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--crop", type=int, default=64)
    parser.add_argument("--msa", type=int, default=32)
    parser.add_argument("--extra", type=int, default=64)
    parser.add_argument("--evoformer-blocks", type=int, default=4)
    parser.add_argument("--extra-msa-blocks", type=int, default=1)
    parser.add_argument(
        "--remat",
        nargs="+",
        choices=("all", "cheap", "none"),
        default=["all"],
        help="what tffold recomputes; it runs once for each of these, its peers but once",
    )
    parser.add_argument("--no-remat", action="store_true", help="nobody recomputes anything")
    parser.add_argument("--steps", type=int, default=10, help="timed steps of each process")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--environments", type=Path, default=ROOT / ".peers")
    parser.add_argument("--no-deepmind", action="store_true")
    parser.add_argument("--openfold", action="store_true", help="run OpenFold, too")
    parser.add_argument(
        "--peer", nargs=3, action="append", default=[], metavar=("NAME", "PYTHON", "SCRIPT")
    )
    parser.add_argument("--json", type=Path, help="also write every process's figures there")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        batch = Path(folder) / "batch.npz"
        sizes = [f"--{name}={getattr(options, name)}" for name in ("crop", "msa", "extra")]
        make = [sys.executable, str(HERE / "make_batch.py"), str(batch), *sizes]
        subprocess.run(make, check=True, env=os.environ | {"PYTHONPATH": str(ROOT)})

        step = str(ROOT / "benchmarks" / "train_step.py")
        ours = [sys.executable, step, "--batch", str(batch), "--no-templates", "--no-count"]
        policies = ["none"] if options.no_remat else options.remat
        programs = {f"tffold {p}": [*ours, *sizes, f"model.remat={p}"] for p in policies}
        own = list(programs)
        if not options.no_deepmind:
            python = deepmind_python(options.environments / "deepmind")
            programs["DeepMind"] = [python, str(HERE / "deepmind_step.py"), str(batch)]
        if options.openfold:
            python = openfold_python(options.environments / "openfold")
            programs["OpenFold"] = [python, str(HERE / "openfold_step.py"), str(batch)]
        for name, python, script in options.peer:
            programs[name] = [python, str(Path(script).resolve()), str(batch)]

        arguments = [
            f"--evoformer-blocks={options.evoformer_blocks}",
            f"--extra-msa-blocks={options.extra_msa_blocks}",
            f"--steps={options.steps}",
            *(["--no-remat"] if options.no_remat else []),
        ]
        runs = take_turns(programs, arguments, options.rounds)
    print("\n".join(table(runs, own)))
    if options.json:
        options.json.write_text(json.dumps(runs, indent=1) + "\n")


if __name__ == "__main__":
    main()
