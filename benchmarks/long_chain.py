"""What predicting a long chain takes: memory by XLA's own account, and by running it.

    python benchmarks/long_chain.py                                   # 1,024 residues, model_1
    python benchmarks/long_chain.py --run --evoformer-blocks 2        # and run one pass of 2 blocks

The account is the buffer assignment of the compiled forward pass: every array that it holds at
once. Memory does not depend on the number of blocks but for their weights, so a run with few
blocks shows the peak of the whole model in a fraction of the time.
"""

from __future__ import annotations

import argparse
import os
import re
import resource
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from tffold.config import Config

ROOT = Path(__file__).parents[1]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--config", default=str(ROOT / "configs" / "model_1.yaml"))
    parser.add_argument("--residues", type=int, default=1024)
    parser.add_argument("--evoformer-blocks", type=int, default=48)
    parser.add_argument("--run", action="store_true", help="also run one pass on made-up features")
    parser.add_argument("overrides", nargs="*", metavar="key=value")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        os.environ["XLA_FLAGS"] = f"--xla_dump_to={folder} --xla_dump_hlo_as_text"
        os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
        measure(options, Path(folder))


def made_up_features(config: Config, residues: int) -> dict[str, np.ndarray]:
    """Features of one pass over a chain of so many residues, [1, ...]: full alignments of one
    letter.  Their values change neither time nor memory.
    """
    from tffold.data.recipe import Recipe

    recipe = Recipe.inference(config.data_for_model, 0, labels=False)
    sizes = recipe.sizes(residues)
    batch = {
        name: np.zeros((1, *feature.sizes(sizes)), feature.dtype)
        for name, feature in recipe.features().items()
    }
    batch["aatype"][:] = np.arange(residues) % 20
    batch["residue_index"][:] = np.arange(residues)
    for name in ("seq_mask", "msa_mask", "extra_msa_mask"):
        batch[name][:] = 1
    return batch


def measure(options: argparse.Namespace, folder: Path) -> None:
    """Compiles the pass, reads XLA's report, and runs the pass if asked to."""
    import tensorflow as tf

    from tffold.config_file import load_config
    from tffold.inference import ForwardProgram
    from tffold.model.alphafold import AlphaFold

    blocks = f"model.evoformer.num_block={options.evoformer_blocks}"
    config = load_config(options.config, [blocks, *options.overrides])
    network = AlphaFold(config.model)
    program = ForwardProgram(network)
    made = made_up_features(config, options.residues)
    batch = {name: tf.constant(value) for name, value in made.items()}
    parameters = [tf.convert_to_tensor(v) for v in network.trainable_variables]
    arguments = (parameters, batch, network.first_previous(options.residues))
    flat = [tf.TensorSpec(x.shape, x.dtype) for x in tf.nest.flatten(arguments)]
    compiled = tf.function(
        lambda *xs: tf.nest.flatten(program.run_pass(*tf.nest.pack_sequence_as(arguments, xs))),
        autograph=False,
        jit_compile=True,
    )
    start = time.perf_counter()
    compiled.experimental_get_compiler_ir(*flat)(stage="optimized_hlo")
    print(f"compiled in {time.perf_counter() - start:.0f} s")
    reports = [p.read_text() for p in folder.glob("*buffer-assignment.txt")]
    used = [int(n) for text in reports for n in re.findall(r"Total bytes used: (\d+)", text)]
    print(f"{options.residues} residues: XLA's buffers {max(used) / 1e9:.2f} GB")
    if options.run:
        start = time.perf_counter()
        outputs = compiled(*tf.nest.flatten(arguments))
        finite = all(bool(tf.reduce_all(tf.math.is_finite(x))) for x in outputs)
        print(f"one pass, with compilation: {time.perf_counter() - start:.0f} s, finite: {finite}")
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9
        print(f"peak of the process {peak:.2f} GB")


if __name__ == "__main__":
    main()
