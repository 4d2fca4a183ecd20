"""Speed, memory and shares of the input pipeline, from disk to batch.

    python benchmarks/input_pipeline.py                        # a few minutes on one core
    python benchmarks/input_pipeline.py --cores 2              # how it scales
    python benchmarks/input_pipeline.py --parallel 1 2 4       # examples prepared at once
    python benchmarks/input_pipeline.py --against REVISION     # an older one beside it, in turn
    python benchmarks/input_pipeline.py --records DIR          # your own shards

Initial-training size: crop 256, 124 + 4 rows, 1024 extra rows, four passes, one
example per batch.  Measured on the bundled chains and on generated ones, each in
a process of its own that is tied to so many cores.  Processor time, the least of
all rounds, holds on a busy machine, too; examples a second do not.  An older revision
reads shards that it wrote itself.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).parents[1]
DEMO = ROOT / "examples" / "demo"
GENERATED = ((200, 300), (200, 1500), (200, 4800), (400, 5000), (400, 30000))
NUM_RECYCLE = 3
_WARM = 12  # examples before the clock runs: what few and what many rows need is compiled then


def generated_chain(num_res: int, num_msa: int, num_templates: int = 20) -> dict[str, Any]:
    """A chain as large as a real one: rows of 30 to 90 % identity with gapped ends."""
    from records.chemistry import GAP_INDEX, RESTYPE_ATOM37_MASK, sequence_to_aatype

    rng = np.random.default_rng([num_res, num_msa])
    query = rng.integers(0, 20, num_res)
    msa = np.where(
        rng.random((num_msa, num_res)) < rng.uniform(0.3, 0.9, (num_msa, 1)),
        query,
        rng.integers(0, 20, (num_msa, num_res)),
    ).astype(np.uint8)
    ends = np.sort(rng.integers(0, num_res + 1, (num_msa, 2)), axis=1)
    place = np.arange(num_res)
    msa[(place < ends[:, :1] // 2) | (place >= (ends[:, 1:] + num_res) // 2)] = GAP_INDEX
    msa[0] = query
    deletions = np.where(rng.random(msa.shape) < 0.02, rng.integers(1, 20, msa.shape), 0)
    sequence = "".join("ACDEFGHIKLMNPQRSTVWY"[letter] for letter in query)
    aatype = sequence_to_aatype(sequence)

    def atoms(mask: np.ndarray) -> np.ndarray:
        spread = rng.normal(scale=15.0, size=(*mask.shape[:-1], 1, 3))
        near = rng.normal(size=(*mask.shape, 3))
        return ((spread + near) * mask[..., None]).round(3).astype(np.float32)

    mask = RESTYPE_ATOM37_MASK[aatype].astype(np.uint8)
    template_mask = np.tile(mask, (num_templates, 1, 1))
    return {
        "chain_id": f"gen{num_res}_{num_msa}",
        "sequence": sequence,
        "aatype": aatype,
        "residue_index": place,
        "between_segment_residues": np.zeros(num_res, np.uint8),
        "all_atom_positions": atoms(mask),
        "all_atom_mask": mask,
        "msa": msa,
        "deletion_matrix": deletions,
        "template_aatype": np.tile(aatype, (num_templates, 1)),
        "template_all_atom_positions": atoms(template_mask),
        "template_all_atom_masks": template_mask,
        "template_sum_probs": np.linspace(90, 20, num_templates),
        "template_domain_names": [f"gen_{i}" for i in range(num_templates)],
        "template_release_date": ["2000-01-01"] * num_templates,
        "resolution": 2.0,
        "release_date": "2010-01-01",
        "is_distillation": 0,
        "cluster_size": 1,
        "confidence": np.full(num_res, 100.0),
    }


def case_names(only: str) -> list[str]:
    """The cases whose names have ``only`` in them."""
    generated = [f"{num_res} residues, {num_msa} rows" for num_res, num_msa in GENERATED]
    return [name for name in ("bundled chains", *generated) if only in name]


def make_shards(folder: Path, tree: Path, only: str) -> None:
    """Writes the shards of each case into a folder of its name, with the program of ``tree``."""
    from records import example, shards

    for name in case_names(only):
        if name == "bundled chains":
            subprocess.run(
                [sys.executable, "-m", "records.cli", "--quiet", "--mmcif", DEMO / "mmcif"]
                + ["--alignments", DEMO / "alignments", "--output", folder / name],
                check=True,
                cwd=tree,
                stdout=subprocess.DEVNULL,
            )
            continue
        chain = generated_chain(*(int(word) for word in name.split() if word.isdigit()))
        with shards.ShardWriter(folder / name / "generated.tfrecord") as writer:
            writer.write(chain["chain_id"], example.encode(chain), example.index_entry(chain))


def measure(options: argparse.Namespace) -> dict[str, Any]:
    """One case, in this process: seconds and memory of whole examples, then of their stages."""
    path, cores, batch_size = options.case, options.cores, options.batch_size
    (parallel,) = options.parallel or [cores]
    os.sched_setaffinity(0, set(sorted(os.sched_getaffinity(0))[:cores]))
    import tensorflow as tf

    from tffold.config import DataConfig, FilterConfig
    from tffold.data import pipeline

    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    config = DataConfig(
        train=[path], train_filter=FilterConfig(sample_by_length=False), num_parallel=parallel
    )
    made = time.process_time()
    dataset = pipeline.training_dataset(
        config, num_recycle=NUM_RECYCLE, batch_size=batch_size, seed=0
    )
    iterator = iter(dataset)
    next(iterator)
    made = time.process_time() - made
    for _ in range(parallel + _WARM):
        next(iterator)
    wall, processor = time.perf_counter(), time.process_time()
    for _ in range(options.examples // batch_size):
        batch = next(iterator)
    wall, processor = time.perf_counter() - wall, time.process_time() - processor
    del iterator
    count = options.examples // batch_size * batch_size
    result = {
        "wall": wall / count,
        "processor": processor / count,
        "made": made,
        "peak_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
        "import_mib": before / 1024,
        "batch_mib": sum(
            tf.size(v).numpy() * v.dtype.size for v in batch.values() if v.dtype != tf.string
        )
        / 2**20,
    }
    if options.stages:
        result["stages"] = stages(config)
    return result


def stages(config: Any) -> dict[str, float]:
    """Processor seconds of each stage of one example, alone, all passes together."""
    import tensorflow as tf

    from tffold.data import clusters, features, inputs, keys, masking, msa, pipeline
    from tffold.data.recipe import Recipe

    recipe = Recipe.training(config, NUM_RECYCLE)
    passes, size = recipe.num_passes, config.crop_size
    reader = pipeline.TrainingReader(config, num_recycle=NUM_RECYCLE, global_batch_size=1, seed=0)
    choices = next(iter(reader.chosen(0, (1, 0, 1))))
    raw = reader.read(choices)
    key = keys.key(0, raw["position"])
    cost: dict[str, float] = {}

    def clock(name: str, function: Callable[..., Any], *arguments: Any, times: float = 1) -> Any:
        for _ in range(3):
            result = function(*arguments)
        best = np.inf
        for _ in range(7):
            start = time.process_time()
            result = function(*arguments)
            best = min(best, time.process_time() - start)
        cost[name] = best * times
        return result

    def graph(name: str, function: Callable[..., Any], *arguments: Any, times: float = 1) -> Any:
        return clock(name, tf.function(function, autograph=False), *arguments, times=times)

    many = [tf.repeat(choices[name], 64) for name in ("position", "number")]
    graph("choose", reader.choose, *many, times=1 / 64)
    graph("read, check, inflate, crop", reader.read, choices)
    full, deletions = raw["msa"], raw["deletion_matrix"]

    def rows(full: Any) -> Any:
        left = msa.block_deletion(
            tf.shape(full)[0], key, 0, num_blocks=recipe.num_blocks, fraction=recipe.block_fraction
        )
        return msa.choose_centres(left, key, 0, num_centres=recipe.num_centres)

    centre_rows, rest = graph("block deletion, centres", rows, full, times=passes)
    centres, others = graph(
        "gather rows",
        lambda full: (tf.gather(full, centre_rows), tf.gather(full, rest)),
        full,
        times=passes,
    )
    masked, _ = graph(
        "masking",
        lambda centres, full: masking.mask_centres(
            centres, full, key, 0, fraction=0.15, replacement=recipe.replacement
        ),
        centres,
        full,
        times=passes,
    )
    assigned = graph(
        "cluster assignment",
        lambda *x: clusters.assign(*x, num_centres=recipe.num_centres),
        masked,
        others,
        times=passes,
    )
    window = slice(raw["crop_start"], raw["crop_start"] + raw["crop_size"])
    cut = [masked[:, window], tf.gather(deletions[:, window], centre_rows)]
    cut += [others[:, window], tf.gather(deletions[:, window], rest), assigned]
    profile, mean = graph(
        "cluster profiles",
        lambda *x: clusters.summarize(*x, num_centres=recipe.num_centres, num_res=size),
        *cut,
        times=passes,
    )
    fitted = [
        tf.zeros([recipe.num_centres, size], tf.uint8),
        tf.zeros([recipe.num_centres, size], tf.uint8),
        profile,
        mean,
    ]
    stacked = [tf.stack([value] * passes) for value in fitted]
    graph("msa_feat", inputs.msa_features, *stacked)
    extra = tf.zeros([passes, recipe.num_extra, size], tf.uint8)
    graph(
        "extra rows",
        lambda x: (inputs.has_deletion(x), inputs.deletion_value(x), tf.cast(x, tf.int32)),
        extra,
    )
    graph("labels, templates", lambda raw: features._shared_part(raw, recipe), raw)
    whole = tf.function(
        lambda raw: features.make_features(raw, seed=0, recipe=recipe, padded_size=size),
        autograph=False,
    )
    clock("whole graph", whole, raw)
    inside = ("block deletion, centres", "gather rows", "masking", "cluster assignment")
    inside += ("cluster profiles", "msa_feat", "extra rows", "labels, templates")
    rest_of_graph = cost.pop("whole graph") - sum(cost[name] for name in inside)
    cost["pad, stack, repeat"] = max(0.0, rest_of_graph)
    if len(rest):
        cost["(one-hot product instead)"] = dense_assignment(masked, others) * passes
    return cost


def dense_assignment(centres: Any, rows: Any) -> float:
    """Processor seconds of the assignment as the product of one-hot encodings."""
    import tensorflow as tf

    @tf.function(autograph=False)
    def dense(centres: Any, rows: Any) -> Any:
        a = tf.reshape(tf.one_hot(rows, 23)[..., :21], [tf.shape(rows)[0], -1])
        b = tf.reshape(tf.one_hot(centres, 23)[..., :21], [tf.shape(centres)[0], -1])
        return tf.argmax(tf.matmul(a, b, transpose_b=True), axis=1)

    best = np.inf
    for _ in range(3):
        start = time.process_time()
        dense(centres, rows)
        best = min(best, time.process_time() - start)
    return best


def report(name: str, result: dict[str, Any], cores: int) -> list[str]:
    """One case as lines of text."""
    per_second = 1 / result["wall"] / cores
    lines = [
        f"{name}: {1000 * result['processor']:.0f} ms of processor time per example; "
        f"{per_second:.1f} examples per second and core, "
        f"peak {result['peak_mib']:.0f} MiB ({result['import_mib']:.0f} of them before the first "
        f"example; a batch is {result['batch_mib']:.0f}); {result['made']:.1f} s of processor "
        "time to make the data set and its first batch"
    ]
    for stage, seconds in result.get("stages", {}).items():
        share = 100 * seconds / sum(v for k, v in result["stages"].items() if k[0] != "(")
        text = f"{share:5.1f} %" if stage[0] != "(" else ""
        lines.append(f"    {stage:<28}{1000 * seconds:8.2f} ms {text}")
    return lines


def run(tree: Path, *arguments: Any) -> str:
    """What this program prints in a process of its own, with the packages of ``tree``."""
    command = [sys.executable, __file__, "--tree", tree, *arguments]
    ran = subprocess.run([str(w) for w in command], check=True, stdout=subprocess.PIPE, text=True)
    return ran.stdout


def measured(tree: Path, path: Path | str, parallel: int, options: Any) -> dict[str, Any]:
    """``measure`` in a process of its own."""
    stages = options.cores == parallel == 1 and tree == ROOT and not options.no_stages
    arguments = ["--case", path, "--cores", options.cores, "--parallel", parallel]
    arguments += ["--examples", options.examples, "--batch-size", options.batch_size]
    return json.loads(run(tree, *arguments, *(["--stages"] if stages else [])))


def best_of(rounds: list[dict[str, Any]]) -> dict[str, Any]:
    """The least of each number over rounds, which is what other work disturbed least."""
    numbers = [key for key in rounds[0] if key != "stages"]
    return rounds[0] | {key: min(one[key] for one in rounds) for key in numbers}


def main() -> None:
    """Runs every case in a process of its own and prints the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--records", help="measure these shards instead")
    parser.add_argument("--against", metavar="REVISION", help="measure it too, in turn")
    parser.add_argument("--cores", type=int, default=1)
    parser.add_argument("--parallel", type=int, nargs="+", help="examples at once (default: cores)")
    parser.add_argument("--examples", type=int, default=40)
    parser.add_argument("--batch-size", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--only", default="", help="cases that have this in their names")
    parser.add_argument("--no-stages", action="store_true")
    for hidden in ("--case", "--make", "--tree"):
        parser.add_argument(hidden, help=argparse.SUPPRESS)
    parser.add_argument("--stages", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    tree = Path(options.tree or ROOT)
    sys.path.insert(0, str(tree))
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    os.environ["CUDA_VISIBLE_DEVICES"] = "-1"
    if options.make:
        make_shards(Path(options.make), tree, options.only)
        return
    if options.case:
        print(json.dumps(measure(options)))
        return
    print(f"{options.cores} core(s), {options.examples} examples a case, load {os.getloadavg()[0]}")
    with tempfile.TemporaryDirectory() as folder:
        trees = {"": ROOT}
        if options.against:
            trees[f" ({options.against})"] = old = Path(folder) / "old"
            git = ["git", "-C", str(ROOT), "worktree"]
            subprocess.run([*git, "add", "-q", "--detach", old, options.against], check=True)
        try:
            compare(trees, Path(folder), options)
        finally:
            if options.against:
                subprocess.run([*git, "remove", "--force", old], check=True)


def compare(trees: dict[str, Path], folder: Path, options: argparse.Namespace) -> None:
    """Measures every case with every tree, in turn, and prints the least of all rounds."""
    if not options.records:
        for label, tree in trees.items():
            run(tree, "--make", folder / f"shards{label}", "--only", options.only)
    for name in [options.records] if options.records else case_names(options.only):
        for parallel in options.parallel or [options.cores]:
            found: dict[str, list] = {label: [] for label in trees}
            for _ in range(options.rounds):
                for label, tree in trees.items():
                    path = options.records or folder / f"shards{label}" / name
                    found[label].append(measured(tree, path, parallel, options))
            for label, rounds in found.items():
                title = f"{name}, {parallel} at once{label}"
                print("\n".join(report(title, best_of(rounds), options.cores)), flush=True)


if __name__ == "__main__":
    main()
