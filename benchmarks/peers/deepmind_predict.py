"""Recycling passes of DeepMind's network on one file of features, in an environment of its own.

    python deepmind_predict.py BATCH.npz --json OUT.json

The pass is DeepMind's own iteration as published: ``model_1`` without pTM, dropout off, its
attentions four rows at a time. Passes are called one after the other, as its package does.
"""

from __future__ import annotations

import argparse

import haiku as hk
import jax
import jax.numpy as jnp
import numpy as np
from deepmind_step import (
    drawn,
    first_previous,
    network_config,
    next_previous,
    take_old_clip_names,
)
from passes import main, timed


def build(model):
    """The pass, transformed: ``(batch, previous) -> (what goes on, logits)``."""
    take_old_clip_names()
    from alphafold.model import modules

    def one_pass(batch, previous):
        iteration = modules.AlphaFoldIteration(model, model.global_config)
        result = iteration(batch, previous, is_training=False, return_representations=True)
        return next_previous(result), result["predicted_lddt"]["logits"]

    return hk.transform(one_pass)


def measure(options: argparse.Namespace) -> dict[str, float]:
    options.templates, options.bf16, options.no_remat = True, False, True
    model = network_config(options)
    model.global_config.deterministic = True
    batch = {name: jnp.asarray(x) for name, x in np.load(options.batch).items()}
    num_res = batch["aatype"].shape[1]
    batch["seq_length"] = jnp.full([1], num_res, jnp.int32)
    batch["extra_msa_row_mask"] = batch["extra_msa_mask"].max(axis=-1)
    previous = first_previous(num_res)
    transformed = build(model)
    key = jax.random.PRNGKey(0)
    shapes = jax.eval_shape(transformed.init, key, batch, previous)
    parameters = drawn(shapes)
    program = jax.jit(transformed.apply)

    def run_pass() -> bool:
        nonlocal previous
        previous, logits = program(parameters, key, batch, previous)
        return bool(jnp.isfinite(logits).all())

    count = sum(x.size for x in jax.tree_util.tree_leaves(parameters))
    return timed(run_pass, options.passes) | {"parameters": count}


if __name__ == "__main__":
    main(__doc__.splitlines()[0], measure)
