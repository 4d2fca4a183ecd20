"""A training step of DeepMind's network on one batch file, in an environment of its own.

    python deepmind_step.py BATCH.npz --json OUT.json

The network is that of the package ``alphafold-colabfold``, a maintained copy of DeepMind's JAX
code. DeepMind published no training, so the rest of the step stands here: the gradient of the
loss with everything recomputed, clipped to a norm of 0.1, Adam, and the average of the weights.
One jitted program, as DeepMind's users would write it.
"""

from __future__ import annotations

import argparse
import inspect

import haiku as hk
import jax
import jax.numpy as jnp
import numpy as np
from steps import main, timed


def take_old_clip_names() -> None:
    """Lets ``jnp.clip`` take the keywords that older code gives it."""
    clip = jnp.clip
    if "a_min" in inspect.signature(clip).parameters:
        return

    def shim(a, min=None, max=None, *, a_min=None, a_max=None):
        return clip(a, a_min if min is None else min, a_max if max is None else max)

    jnp.clip = shim


def network_config(options: argparse.Namespace):
    """The preset without pTM, with blocks and precision as asked."""
    from alphafold.model import config

    preset = config.model_config("model_1" if options.templates else "model_3")
    model = preset.model
    evoformer = model.embeddings_and_evoformer
    evoformer.evoformer_num_block = options.evoformer_blocks
    evoformer.extra_msa_stack_num_block = options.extra_msa_blocks
    model.global_config.update(
        {"bfloat16": options.bf16, "use_remat": not options.no_remat, "deterministic": False}
    )
    return model


def first_previous(num_res: int) -> dict:
    """What the first pass is given in the place of a pass before it."""
    return {
        "prev_msa_first_row": jnp.zeros([num_res, 256]),
        "prev_pair": jnp.zeros([num_res, num_res, 128]),
        "prev_pos": jnp.zeros([num_res, 37, 3]),
    }


def next_previous(result: dict) -> dict:
    """What a pass gives to the next one."""
    return {
        "prev_msa_first_row": result["representations"]["msa_first_row"],
        "prev_pair": result["representations"]["pair"],
        "prev_pos": result["structure_module"]["final_atom_positions"],
    }


def drawn(shapes):
    """Parameters: values do not change the time; zeros would leave whole branches dead."""
    draw = np.random.default_rng(0)
    return jax.tree_util.tree_map(
        lambda s: jnp.asarray(0.05 * draw.standard_normal(s.shape), s.dtype), shapes
    )


def build(model, batch):
    """``(parameters, loss)``: ``loss(parameters, key, batch)`` of one pass."""
    take_old_clip_names()
    from alphafold.model import modules

    previous = first_previous(batch["aatype"].shape[1])

    def total(features):
        iteration = modules.AlphaFoldIteration(model, model.global_config)
        _, value = iteration(features, previous, is_training=True, compute_loss=True)
        return jnp.sum(value)

    transformed = hk.transform(total)
    shapes = jax.eval_shape(transformed.init, jax.random.PRNGKey(0), batch)
    return drawn(shapes), transformed.apply


def training_step(loss):
    """The jitted step: ``(state, key, batch) -> (state, loss)``."""
    over = jax.tree_util.tree_map

    @jax.jit
    def step(state, key, batch):
        parameters, first, second, average, count = state
        value, gradient = jax.value_and_grad(loss)(parameters, key, batch)
        norm = jnp.sqrt(sum(jnp.sum(g * g) for g in jax.tree_util.tree_leaves(gradient)))
        scale = jnp.minimum(1.0, 0.1 / norm)
        count += 1
        first = over(lambda m, g: 0.9 * m + 0.1 * scale * g, first, gradient)
        second = over(lambda v, g: 0.999 * v + 0.001 * (scale * g) ** 2, second, gradient)

        def moved(p, m, v):
            return p - 1e-3 * (m / (1 - 0.9**count)) / (jnp.sqrt(v / (1 - 0.999**count)) + 1e-6)

        parameters = over(moved, parameters, first, second)
        average = over(lambda a, p: 0.999 * a + 0.001 * p, average, parameters)
        return (parameters, first, second, average, count), value

    return step


def measure(options: argparse.Namespace) -> dict:
    batch = {name: jnp.asarray(x) for name, x in np.load(options.batch).items()}
    parameters, loss = build(network_config(options), batch)
    zeros = jax.tree_util.tree_map(jnp.zeros_like, parameters)
    state = (parameters, zeros, zeros, parameters, jnp.float32(0))
    step = training_step(loss)

    def run_step(number: int) -> float:
        nonlocal state
        state, value = step(state, jax.random.PRNGKey(number), batch)
        return float(value)

    return timed(run_step, options.steps) | {
        "parameters": sum(x.size for x in jax.tree_util.tree_leaves(parameters)),
        "jax": jax.__version__,
    }


if __name__ == "__main__":
    main(__doc__.splitlines()[0], measure, more=("--templates", "--bf16"))
