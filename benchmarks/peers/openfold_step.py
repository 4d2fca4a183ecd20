"""A training step of OpenFold on one batch file, in an environment of its own.

    python openfold_step.py BATCH.npz --json OUT.json

OpenFold is looked for where Python looks for modules (``environments.py`` brings the release that
PyPI has; a checkout goes on ``PYTHONPATH``).  Network, loss, labels and the average of the weights
are OpenFold's own, and as in its training every block is recomputed, the gradient is clipped to a
norm of 0.1, and Adam is PyTorch's.
"""

from __future__ import annotations

import argparse
import functools
import sys
import types

import numpy as np
import torch
from steps import main, timed


def kernels_without_gpu() -> types.ModuleType:
    """In the place of OpenFold's kernel for GPUs: softmax and its gradient, in place as there."""

    def forward_(logits, rows, columns):
        logits.copy_(torch.softmax(logits, dim=-1))

    def backward_(weights, of_output, values, rows, columns, channels):
        of_weights = torch.matmul(of_output, values.transpose(-1, -2))
        of_weights.sub_((weights * of_weights).sum(dim=-1, keepdim=True))
        weights.mul_(of_weights)

    module = types.ModuleType("attn_core_inplace_cuda")
    module.forward_, module.backward_ = forward_, backward_
    return module


def recompute_as_then() -> None:
    """PyTorch's checkpoints wanted no choice of a kind when OpenFold was written; now they do."""
    import torch.utils.checkpoint as module

    module.checkpoint = functools.partial(module.checkpoint, use_reentrant=True)


def network_config(options: argparse.Namespace):
    """The preset of initial training, with blocks as asked and no templates."""
    from openfold.config import model_config

    config = model_config("initial_training", train=True)
    config.model.template.enabled = False
    config.model.evoformer_stack.no_blocks = options.evoformer_blocks
    config.model.extra_msa.extra_msa_stack.no_blocks = options.extra_msa_blocks
    if options.no_remat:
        config.globals.blocks_per_ckpt = None
        config.model.extra_msa.extra_msa_stack.ckpt = False
    return config


def batch_of(path: str) -> dict[str, torch.Tensor]:
    """The file's features, and labels as OpenFold derives them; the recycling pass comes last."""
    from openfold.data import data_transforms

    given = {name: torch.as_tensor(x) for name, x in np.load(path).items()}
    batch = {name: x.long() if x.dtype == torch.int32 else x for name, x in given.items()}
    for derive in (
        data_transforms.make_atom14_masks,
        data_transforms.make_atom14_positions,
        data_transforms.atom37_to_frames,
        data_transforms.atom37_to_torsion_angles(""),
        data_transforms.make_pseudo_beta(""),
        data_transforms.get_backbone_frames,
        data_transforms.get_chi_angles,
    ):
        batch = derive(batch)
    return {name: x[..., None] for name, x in batch.items()}


def measure(options: argparse.Namespace) -> dict:
    recompute_as_then()
    sys.modules.setdefault("attn_core_inplace_cuda", kernels_without_gpu())
    from openfold.model.model import AlphaFold
    from openfold.utils.exponential_moving_average import ExponentialMovingAverage
    from openfold.utils.loss import AlphaFoldLoss

    config = network_config(options)
    torch.manual_seed(0)
    batch = batch_of(options.batch)
    model = AlphaFold(config).train()
    with torch.no_grad():  # zeros, as OpenFold initialises, would leave whole branches dead
        for parameter in model.parameters():
            parameter.add_(0.05 * torch.randn_like(parameter))
    loss_of = AlphaFoldLoss(config.loss)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3, eps=1e-5)
    average = ExponentialMovingAverage(model, decay=0.999)

    def run_step(number: int) -> float:
        optimizer.zero_grad(set_to_none=True)
        outputs = model(dict(batch))
        loss = loss_of(outputs, {name: x[..., -1] for name, x in batch.items()})
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 0.1)
        optimizer.step()
        average.update(model)
        return float(loss.detach())

    result = timed(run_step, options.steps)
    without = [name for name, p in model.named_parameters() if p.grad is None]
    if without:
        raise SystemExit(f"no gradient came to {without}")
    return result | {
        "compile_seconds": 0.0,  # PyTorch runs operation by operation
        "parameters": sum(p.numel() for p in model.parameters()),
        "torch": torch.__version__,
        "threads": torch.get_num_threads(),
    }


if __name__ == "__main__":
    main(__doc__.splitlines()[0], measure)
