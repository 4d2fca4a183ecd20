"""Speed, memory and shares of the input pipeline, from disk to batch.

    python benchmarks/input_pipeline.py                        # a few minutes on one core
    python benchmarks/input_pipeline.py --cores 2              # how it scales
    python benchmarks/input_pipeline.py --records DIR          # your own shards

Initial-training size: crop 256, 124 + 4 rows, 1024 extra rows, four passes, one
example per batch.  Measured on the bundled chains and on generated ones, each in
a process of its own that is tied to so many cores.  OpenFold's loader needs 0.25
to 0.6 s per example and core for a 200-residue chain with 300 to 4,800 rows, its
input already parsed; the ratios are to that.
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
OPENFOLD = {(200, 300): 0.25, (200, 4800): 0.6}  # seconds per example and core
NUM_RECYCLE = 3


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


def make_shards(folder: Path, records: str | None) -> list[tuple[str, str]]:
    """The cases: their names and where their shards lie."""
    from records import example, shards

    if records:
        return [(records, records)]
    cases = []
    converted = folder / "demo"
    subprocess.run(
        [sys.executable, "-m", "records.cli", "--quiet", "--mmcif", DEMO / "mmcif"]
        + ["--alignments", DEMO / "alignments", "--output", converted],
        check=True,
        cwd=ROOT,
        stdout=subprocess.DEVNULL,
    )
    cases.append(("bundled chains", str(converted)))
    for num_res, num_msa in GENERATED:
        path = folder / f"{num_res}_{num_msa}" / "generated.tfrecord"
        chain = generated_chain(num_res, num_msa)
        with shards.ShardWriter(path) as writer:
            writer.write(chain["chain_id"], example.encode(chain), example.index_entry(chain))
        cases.append((f"{num_res} residues, {num_msa} rows", str(path)))
    return cases


def measure(path: str, cores: int, examples: int, batch_size: int) -> dict[str, Any]:
    """One case, in this process: seconds and memory of whole examples, then of their stages."""
    os.sched_setaffinity(0, set(sorted(os.sched_getaffinity(0))[:cores]))
    import tensorflow as tf

    from tffold.config import DataConfig, FilterConfig
    from tffold.data import pipeline

    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    config = DataConfig(
        train=[path], train_filter=FilterConfig(sample_by_length=False), num_parallel=cores
    )
    dataset = pipeline.training_dataset(
        config, num_recycle=NUM_RECYCLE, batch_size=batch_size, seed=0
    )
    iterator = iter(dataset)
    for _ in range(cores + 3):
        next(iterator)
    wall, processor = time.perf_counter(), time.process_time()
    for _ in range(examples // batch_size):
        batch = next(iterator)
    wall, processor = time.perf_counter() - wall, time.process_time() - processor
    del iterator
    count = examples // batch_size * batch_size
    result = {
        "wall": wall / count,
        "processor": processor / count,
        "peak_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
        "import_mib": before / 1024,
        "batch_mib": sum(
            tf.size(v).numpy() * v.dtype.size for v in batch.values() if v.dtype != tf.string
        )
        / 2**20,
    }
    if cores == 1:
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
        f"{name}: {1000 * result['wall']:.0f} ms per example ({1000 * result['processor']:.0f} ms "
        f"of processor time), {per_second:.1f} examples per second and core, "
        f"peak {result['peak_mib']:.0f} MiB ({result['import_mib']:.0f} of them before the first "
        f"example; a batch is {result['batch_mib']:.0f})"
    ]
    for (num_res, num_msa), seconds in OPENFOLD.items():
        if name == f"{num_res} residues, {num_msa} rows":
            ratio = seconds / result["processor"]
            lines.append(
                f"    {ratio:.1f} times as fast as OpenFold's loader ({seconds} s), processor time"
            )
    for stage, seconds in result.get("stages", {}).items():
        share = 100 * seconds / sum(v for k, v in result["stages"].items() if k[0] != "(")
        text = f"{share:5.1f} %" if stage[0] != "(" else ""
        lines.append(f"    {stage:<28}{1000 * seconds:8.2f} ms {text}")
    return lines


def main() -> None:
    """Runs every case in a process of its own and prints the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--records", help="measure these shards instead")
    parser.add_argument("--cores", type=int, default=1)
    parser.add_argument("--examples", type=int, default=40)
    parser.add_argument("--batch-size", type=int, default=1)
    parser.add_argument("--case", help=argparse.SUPPRESS)
    options = parser.parse_args()
    sys.path.insert(0, str(ROOT))
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    os.environ["CUDA_VISIBLE_DEVICES"] = "-1"
    if options.case:
        result = measure(options.case, options.cores, options.examples, options.batch_size)
        print(json.dumps(result))
        return
    print(f"{options.cores} core(s), {options.examples} examples a case, load {os.getloadavg()[0]}")
    with tempfile.TemporaryDirectory() as folder:
        for name, path in make_shards(Path(folder), options.records):
            command = [sys.executable, __file__, "--case", path, "--cores", str(options.cores)]
            command += ["--examples", str(options.examples)]
            command += ["--batch-size", str(options.batch_size)]
            run = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
            print("\n".join(report(name, json.loads(run.stdout), options.cores)), flush=True)


if __name__ == "__main__":
    main()
