"""Makes what ``run.py`` measures on a GPU machine without TensorFlow: programs and their inputs.

    python benchmarks/gpu/export.py FOLDER                 # the paper's first stage, all blocks
    python benchmarks/gpu/export.py FOLDER --small         # a minute's worth, to try the way

TensorFlow lowers the whole training step (gradient, clipping, Adam, averages) of one example to an
XLA program; JAX can compile and run it wherever it has a device. FOLDER gets, for float32 and for
bfloat16, the program, the shapes of its arguments and the batch; and a small case whose answers
TensorFlow computed here, so that the other machine's numbers can be held to them. Weights are not
carried: both sides make them by the same rule from the arguments' numbers (``arguments.py``).
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
from pathlib import Path
from typing import Any

import numpy as np

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
sys.path[:0] = [str(HERE), str(ROOT), str(ROOT / "benchmarks"), str(ROOT / "benchmarks" / "peers")]

import arguments  # noqa: E402
from arguments import BATCH, ONES, WEIGHT, ZEROS  # noqa: E402

FULL = {"crop": 256, "msa": 128, "extra": 1024, "evoformer": 48, "extra_blocks": 4}
SMALL = {"crop": 32, "msa": 8, "extra": 16, "evoformer": 2, "extra_blocks": 1}


def configuration(sizes: dict[str, int], bfloat16: bool) -> Any:
    """The first stage without templates, one pass, with these sizes."""
    from train_step import of_size

    from tffold.config_file import load_config

    settings = {
        "model.evoformer.num_block": sizes["evoformer"],
        "model.extra_msa_stack.num_block": sizes["extra_blocks"],
        "model.template.enabled": False,
        "model.bfloat16": bfloat16,
        **of_size(sizes["crop"], sizes["msa"], sizes["extra"]),
    }
    overrides = [f"{name}={value}" for name, value in settings.items()]
    return load_config(ROOT / "configs" / "initial_training_no_templates.yaml", overrides)


def lowered(config: Any) -> tuple[Any, list[dict[str, Any]], int, list[str]]:
    """The step on flat arguments, compiled; their specs; how many are state; the logs' names."""
    import tensorflow as tf

    from tffold.plan.lower import array_specs, batch_specs, state_specs
    from tffold.train.step import TrainingStep
    from tffold.train.task import alphafold_task

    task = alphafold_task()
    step = TrainingStep(task.network(config), config, task.loss_fn(config), task.metric_fn(config))
    state = state_specs(step.trained)
    features = batch_specs(config, 1)
    tensors = (state, features, array_specs(step.frozen))
    names: list[str] = []

    def flat(*values: Any) -> list[Any]:
        after, logs = step.pure(*tf.nest.pack_sequence_as(tensors, values))
        names[:] = sorted(logs)
        return tf.nest.flatten((after, logs))

    def kind(variable: Any) -> str:
        return ONES if variable.path.endswith("scale") else WEIGHT

    kinds = [kind(v) for v in step.trained]
    kinds = [*kinds, ZEROS, ZEROS, *kinds, ZEROS, ZEROS]  # moments; averages; the two counters
    specs = [
        {"kind": k, "shape": list(s.shape), "dtype": s.dtype.name}
        for k, s in zip(kinds, tf.nest.flatten(state), strict=True)
    ]
    specs += [
        {"kind": BATCH, "name": name, "shape": list(x.shape), "dtype": x.dtype.name}
        for name, x in sorted(features.items())
    ]
    if step.frozen:
        raise SystemExit("this configuration freezes weights; export one that does not")
    function = tf.function(flat, autograph=False, jit_compile=True)
    return function, specs, len(kinds), names


def export(folder: Path, config: Any, batch: dict[str, np.ndarray], check: bool) -> None:
    """Writes one case: ``program.hlo``, ``case.json``, ``batch.npz``."""
    import tensorflow as tf

    function, specs, num_state, names = lowered(config)
    flat = [tf.TensorSpec(s["shape"], s["dtype"]) for s in specs]
    program = function.experimental_get_compiler_ir(*flat)(
        stage="hlo_serialized", platform_name="CPU"
    )
    case: dict[str, Any] = {"specs": specs, "num_state": num_state, "logs": names}
    if check:
        given = arguments.make(specs, batch)
        found = [np.asarray(x) for x in function(*map(tf.constant, given))]
        case["moved"] = [
            float(np.linalg.norm(np.float64(after) - before))
            for after, before in zip(found[:num_state], given[:num_state], strict=True)
        ]
        case["values"] = [x.ravel().tolist() for x in found[num_state:]]
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "program.hlo").write_bytes(program)
    (folder / "case.json").write_text(json.dumps(case))
    np.savez_compressed(folder / "batch.npz", **batch)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--small", action="store_true", help="small programs only")
    options = parser.parse_args()
    from make_batch import others_read
    from train_step import bundled_batch

    cases = [("check", SMALL, False), ("check_bfloat16", SMALL, True)]
    if not options.small:
        cases += [("float32", FULL, False), ("bfloat16", FULL, True)]
    for name, sizes, bfloat16 in cases:
        config = configuration(sizes, bfloat16)
        one = bundled_batch(config)
        one = {**one, **others_read(one)}
        # The step wants a batch of one; DeepMind's network the pass in front, as it is here.
        batch = {feature: value[None] for feature, value in one.items()}
        export(options.folder / name, config, batch, check=name.startswith("check"))
        (options.folder / name / "sizes.json").write_text(json.dumps(sizes))
        print(f"{options.folder / name}: written", flush=True)
    for file in ("run.py", "arguments.py"):
        shutil.copy(HERE / file, options.folder / file)
    for file in ("deepmind_step.py", "steps.py"):
        shutil.copy(ROOT / "benchmarks" / "peers" / file, options.folder / file)


if __name__ == "__main__":
    main()
