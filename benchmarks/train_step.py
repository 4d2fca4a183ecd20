"""What a training step costs: compile time, seconds, FLOPs, share of the machine, memory.

    python benchmarks/train_step.py --no-templates                  # the reference batch's size
    python benchmarks/train_step.py --batch case_a.batch.npz        # DeepMind's feature names
    python benchmarks/train_step.py --crop 256 --msa 128 --extra 1024 --evoformer-blocks 48

The step is the one that ``tffold-fit`` takes: full widths, dropout on, gradient, clipping, Adam
and weight average, of one example, with one pass (no recycling). Without a batch file a bundled
chain is cropped. FLOPs are those of the matrix products in the compiled program, loops counted
as often as they run; the share is of the rate of a large matrix product measured alongside.
Peak memory is the whole process's, TensorFlow and compilation included.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import os
import resource
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).parents[1]
DEMO = ROOT / "examples" / "demo"


def settings(options: argparse.Namespace) -> dict[str, object]:
    """The configuration's overrides."""
    return {
        "model.evoformer.num_block": options.evoformer_blocks,
        "model.extra_msa_stack.num_block": options.extra_msa_blocks,
        "model.template.enabled": not options.no_templates,
        "model.bfloat16": options.bf16,
        "model.remat": "none" if options.no_remat else "all",
        **of_size(options.crop, options.msa, options.extra),
    }


def of_size(crop: int, msa: int, extra: int) -> dict[str, object]:
    """Overrides for one example of this size in one pass."""
    return {
        "model.num_recycle": 0,
        "data.crop_size": crop,
        "data.max_msa_clusters": msa,
        "data.max_extra_msa": extra,
        "data.reduce_msa_clusters_by_max_templates": False,
        "train.batch_size": 1,
    }


def bundled_batch(config: Any) -> dict[str, np.ndarray]:
    """A training crop of a bundled chain, [1 pass, ...]."""
    from records.cli import main as convert
    from tffold.data.pipeline import training_dataset

    with tempfile.TemporaryDirectory() as folder:
        with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
            inputs = ("--mmcif", DEMO / "mmcif", "--alignments", DEMO / "alignments")
            convert([str(x) for x in (*inputs, "--output", folder)])
        config.data.train = [str(Path(folder) / "train")]
        batches = training_dataset(config.data_for_model, num_recycle=0, batch_size=1, seed=0)
        features = {name: value.numpy()[0] for name, value in next(iter(batches)).items()}
    features.pop("chain_id")
    return features


def matrix_product_rate(size: int = 3072, repeats: int = 5) -> float:
    """Floating-point operations a second in the best of some large float32 products."""
    import tensorflow as tf

    product = tf.function(lambda a, b: a @ b, jit_compile=True)
    a, b = tf.random.normal([size, size]), tf.random.normal([size, size])
    product(a, b)
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        product(a, b).numpy()
        times.append(time.perf_counter() - start)
    return 2.0 * size**3 / min(times)


def measure(options: argparse.Namespace) -> dict[str, Any]:
    """Compiles the step, takes some, and counts."""
    from tffold.lean_import import import_tensorflow

    import_tensorflow()  # as tffold-fit does
    import keras
    import tensorflow as tf

    from tffold.config_file import load_config
    from tffold.plan.hlo import Program
    from tffold.plan.lower import array_specs
    from tffold.train.run import build_trainer
    from tffold.train.strategy import build_cluster
    from tffold.train.task import alphafold_task

    overrides = [f"{name}={value}" for name, value in settings(options).items()]
    config = load_config(ROOT / "configs" / "initial_training.yaml", overrides + options.overrides)
    cluster = build_cluster(config.train)  # first, as in tffold-fit
    if options.batch:
        features = dict(np.load(options.batch))
    else:
        features = bundled_batch(config)
    num_pass, num_res = features["aatype"].shape
    features["num_iter_recycling"] = np.full(num_pass, num_pass - 1, "int32")
    batch = {name: tf.constant(value[None]) for name, value in features.items()}
    trainer = build_trainer(config, alphafold_task(), cluster)

    def step() -> tuple[float, float, float, int]:
        """Seconds, the processor's, of these the kernel's, and page faults."""
        used, start = resource.getrusage(resource.RUSAGE_SELF), time.perf_counter()
        trainer.run_step(batch)
        seconds, now = time.perf_counter() - start, resource.getrusage(resource.RUSAGE_SELF)
        kernel = now.ru_stime - used.ru_stime
        cpu = now.ru_utime - used.ru_utime + kernel
        return seconds, cpu, kernel, now.ru_minflt - used.ru_minflt

    before = peak_gb()
    first, first_cpu, *_ = step()
    after_compile = peak_gb()
    steps = [step() for _ in range(options.steps)]
    seconds, cpu, kernel, faults = zip(*steps, strict=True)
    result = {
        "compile_seconds": first - min(seconds),
        "compile_cpu_seconds": first_cpu - min(cpu),
        "step_seconds": statistics.median(seconds),
        "step_seconds_min": min(seconds),
        "step_cpu_seconds": min(cpu),
        "step_kernel_seconds": statistics.median(kernel),
        "step_page_faults": statistics.median(faults),
        "peak_gb": peak_gb(),
        "peak_gb_before": before,
        "peak_gb_after_compile": after_compile,
        "matrix_gflops": matrix_product_rate() / 1e9,
    }
    if not options.no_count:
        arguments = (
            array_specs(trainer.training_step.trained),
            {name: tf.TensorSpec(x.shape, x.dtype) for name, x in batch.items()},
            tf.TensorSpec([], tf.int32),
            tf.TensorSpec([], tf.int32),
            array_specs(trainer.training_step.frozen),
        )
        flat = tf.nest.flatten(arguments)
        gradients = tf.function(
            lambda *xs: tf.nest.flatten(
                trainer.training_step.local_gradients(*tf.nest.pack_sequence_as(arguments, xs))
            ),
            autograph=False,
            jit_compile=True,
        )
        program = Program(gradients.experimental_get_compiler_ir(*flat)(stage="hlo"), num_pass - 1)
        result["instructions"] = len(program)
        result["gflop"] = program.cost().flops / 1e9
        rate = result["gflop"] / result["step_seconds"]
        result["share_of_matrix_product"] = rate / result["matrix_gflops"]
    weights = sum(int(np.prod(v.shape)) for v in trainer.network.trainable_variables)
    return {"residues": num_res, "passes": num_pass, "parameters": weights, **result} | {
        "keras": keras.__version__,
        "tensorflow": tf.__version__,
    }


def peak_gb() -> float:
    """The most memory that this process held so far."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9


def report(result: dict[str, Any]) -> str:
    """Figures for people."""
    return "\n".join(
        f"{name:24} {value:.3f}" if isinstance(value, float) else f"{name:24} {value}"
        for name, value in result.items()
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--batch", type=Path, help="features [passes, ...] as .npz")
    parser.add_argument("--crop", type=int, default=64)
    parser.add_argument("--msa", type=int, default=32)
    parser.add_argument("--extra", type=int, default=64)
    parser.add_argument("--evoformer-blocks", type=int, default=4)
    parser.add_argument("--extra-msa-blocks", type=int, default=1)
    parser.add_argument("--no-templates", action="store_true")
    parser.add_argument("--no-remat", action="store_true")
    parser.add_argument("--bf16", action="store_true")
    parser.add_argument("--steps", type=int, default=10)
    parser.add_argument("--no-count", action="store_true", help="time only: do not count FLOPs")
    parser.add_argument("--json", type=Path, help="also write the figures there")
    parser.add_argument("overrides", nargs="*", metavar="key=value", help="further settings")
    options = parser.parse_args()
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    result = measure(options)
    print(report(result))
    if options.json:
        options.json.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
