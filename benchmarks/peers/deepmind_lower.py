"""DeepMind's training gradient as an XLA program, in the environment of ``deepmind_step.py``.

    python deepmind_lower.py FEATURES.json PROGRAM

``FEATURES.json`` holds shape and type of each feature, passes first. The program is the gradient of
one example's loss with everything recomputed, after as many passes without a gradient as
``num_iter_recycling`` says, as DeepMind's paper and code describe it. No optimizer.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import haiku as hk
import jax
import jax.numpy as jnp
from deepmind_step import first_previous, network_config, next_previous, take_old_clip_names


def build(model):
    """The transformed ``loss(features)``; the package has one pass only, so recycling is here."""
    take_old_clip_names()
    from alphafold.model import modules

    def total(features):
        iteration = modules.AlphaFoldIteration(model, model.global_config)
        num_res = features["aatype"].shape[1]
        count = features["num_iter_recycling"][0]

        def run(number, previous, compute_loss):
            one = {name: jax.lax.dynamic_slice_in_dim(x, number, 1) for name, x in features.items()}
            return iteration(one, previous, is_training=True, compute_loss=compute_loss)

        def body(carry):
            number, previous = carry
            result = run(number, previous, compute_loss=False)
            following = next_previous(result)
            return number + 1, jax.tree_util.tree_map(jax.lax.stop_gradient, following)

        previous = first_previous(num_res)
        if not hk.running_init():
            _, previous = hk.while_loop(lambda carry: carry[0] < count, body, (0, previous))
        _, value = run(count, previous, compute_loss=True)
        return jnp.sum(value)

    return hk.transform(total)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("features", type=Path)
    parser.add_argument("program", type=Path)
    parser.add_argument("--evoformer-blocks", type=int, default=48)
    parser.add_argument("--extra-msa-blocks", type=int, default=4)
    parser.add_argument("--bf16", action="store_true")
    options = parser.parse_args()
    options.templates, options.no_remat = True, False
    features = {
        name: jax.ShapeDtypeStruct(shape, kind)
        for name, (shape, kind) in json.loads(options.features.read_text()).items()
    }
    transformed = build(network_config(options))
    key = jax.ShapeDtypeStruct((2,), "uint32")
    parameters = jax.eval_shape(transformed.init, key, features)
    lowered = jax.jit(jax.grad(transformed.apply)).lower(parameters, key, features)
    program = lowered.compiler_ir("hlo").as_serialized_hlo_module_proto()
    options.program.write_bytes(program)


if __name__ == "__main__":
    main()
