"""Recycling passes of DeepMind's network on one file of features, in an environment of its own.

    python deepmind_predict.py BATCH.npz --json OUT.json

The pass is DeepMind's own iteration as published: ``model_1`` without pTM, dropout off, its
attentions four rows at a time. Passes are called one after the other, as its package does.
"""

from __future__ import annotations

import argparse
import json
import resource
import time

import haiku as hk
import jax
import jax.numpy as jnp
import numpy as np
from deepmind_step import network_config, take_old_clip_names


def build(model):
    """The jitted pass: ``(parameters, key, batch, previous) -> (what goes on, logits)``."""
    take_old_clip_names()
    from alphafold.model import modules

    def one_pass(batch, previous):
        iteration = modules.AlphaFoldIteration(model, model.global_config)
        result = iteration(batch, previous, is_training=False, return_representations=True)
        onward = {
            "prev_pos": result["structure_module"]["final_atom_positions"],
            "prev_msa_first_row": result["representations"]["msa_first_row"],
            "prev_pair": result["representations"]["pair"],
        }
        return onward, result["predicted_lddt"]["logits"]

    return hk.transform(one_pass)


def measure(options: argparse.Namespace) -> dict[str, float]:
    options.templates, options.bf16, options.no_remat = True, False, True
    model = network_config(options)
    model.global_config.deterministic = True
    batch = {name: jnp.asarray(x) for name, x in np.load(options.batch).items()}
    num_res = batch["aatype"].shape[1]
    batch["seq_length"] = jnp.full([1], num_res, jnp.int32)
    batch["extra_msa_row_mask"] = batch["extra_msa_mask"].max(axis=-1)
    previous = {
        "prev_msa_first_row": jnp.zeros([num_res, 256]),
        "prev_pair": jnp.zeros([num_res, num_res, 128]),
        "prev_pos": jnp.zeros([num_res, 37, 3]),
    }
    transformed = build(model)
    key = jax.random.PRNGKey(0)
    shapes = jax.eval_shape(transformed.init, key, batch, previous)
    draw = np.random.default_rng(0)
    parameters = jax.tree_util.tree_map(
        lambda s: jnp.asarray(0.05 * draw.standard_normal(s.shape), s.dtype), shapes
    )
    run_pass = jax.jit(transformed.apply)
    seconds = []
    for _ in range(options.passes):
        start = time.perf_counter()
        previous, logits = run_pass(parameters, key, batch, previous)
        finite = bool(jnp.isfinite(logits).all())
        seconds.append(time.perf_counter() - start)
    if not finite:
        raise SystemExit("the outputs are not finite")
    return {
        "first_seconds": seconds[0],
        "pass_seconds": min(seconds[1:]),
        "peak_gb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9,
        "parameters": sum(x.size for x in jax.tree_util.tree_leaves(parameters)),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("batch")
    parser.add_argument("--json", required=True)
    parser.add_argument("--evoformer-blocks", type=int, default=48)
    parser.add_argument("--extra-msa-blocks", type=int, default=4)
    parser.add_argument("--passes", type=int, default=2)
    options = parser.parse_args()
    result = measure(options)
    with open(options.json, "w") as file:
        json.dump(result, file, indent=1)


if __name__ == "__main__":
    main()
