"""Recycling passes of tffold's network on one file of features: what ``predict.py`` runs.

python tffold_predict.py BATCH.npz --json OUT.json
"""

from __future__ import annotations

import argparse
import json
import resource
import time
from pathlib import Path

import numpy as np

ROOT = Path(__file__).parents[2]


def measure(options: argparse.Namespace) -> dict[str, float]:
    from tffold.lean_import import import_tensorflow

    import_tensorflow()  # as tffold-predict does
    import tensorflow as tf

    from tffold.config_file import load_config
    from tffold.inference import ForwardProgram
    from tffold.model.alphafold import AlphaFold

    blocks = [
        f"model.evoformer.num_block={options.evoformer_blocks}",
        f"model.extra_msa_stack.num_block={options.extra_msa_blocks}",
    ]
    network = AlphaFold(load_config(ROOT / "configs" / "model_1.yaml", blocks).model)
    program = ForwardProgram(network)
    draw = np.random.default_rng(0)
    # As in the peer's script: zeros would leave whole branches without numbers.
    parameters = [
        tf.constant(0.05 * draw.standard_normal(v.shape), tf.float32)
        for v in network.trainable_variables
    ]
    batch = {name: tf.constant(value) for name, value in np.load(options.batch).items()}
    previous = network.first_previous(batch["aatype"].shape[1])
    seconds = []
    for _ in range(options.passes):
        start = time.perf_counter()
        outputs, previous, _ = program.compiled_pass(parameters, batch, previous)
        finite = np.isfinite(outputs["predicted_lddt"]["logits"].numpy()).all()
        seconds.append(time.perf_counter() - start)
        del outputs
    if not finite:
        raise SystemExit("the outputs are not finite")
    return {
        "first_seconds": seconds[0],
        "pass_seconds": min(seconds[1:]),
        "peak_gb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9,
        "parameters": sum(int(np.prod(v.shape)) for v in network.trainable_variables),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("batch")
    parser.add_argument("--json", type=Path, required=True)
    parser.add_argument("--evoformer-blocks", type=int, default=48)
    parser.add_argument("--extra-msa-blocks", type=int, default=4)
    parser.add_argument("--passes", type=int, default=2)
    options = parser.parse_args()
    options.json.write_text(json.dumps(measure(options), indent=1))


if __name__ == "__main__":
    main()
