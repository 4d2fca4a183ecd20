"""Recycling passes of tffold's network on one file of features: what ``predict.py`` runs.

python tffold_predict.py BATCH.npz --json OUT.json
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
from passes import main, timed

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

    def run_pass() -> bool:
        nonlocal previous
        outputs, previous, _ = program.compiled_pass(parameters, batch, previous)
        return bool(np.isfinite(outputs["predicted_lddt"]["logits"].numpy()).all())

    count = sum(int(np.prod(v.shape)) for v in network.trainable_variables)
    return timed(run_pass, options.passes) | {"parameters": count}


if __name__ == "__main__":
    main(__doc__.splitlines()[0], measure)
