"""AlphaFold 2 and AlphaFold-Multimer as a Keras model."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any

import keras
from keras import ops

from tffold.config import ModelConfig
from tffold.model.block_stack import BlockStack
from tffold.model.embedders import ExtraMSAEmbedder, InputEmbedder
from tffold.model.evoformer import EvoformerBlock
from tffold.model.heads import NUM_ATOM, make_heads, run_heads
from tffold.model.module import GROUP, Module, Options, weight_seed
from tffold.model.primitives import Linear, fold_key
from tffold.model.recycling import RecyclingEmbedder
from tffold.model.structure_module import StructureModule
from tffold.model.templates import (
    AverageTemplateEmbedding,
    TemplateAngleEmbedder,
    TemplateEmbedding,
)

Tensor = Any


class EmbeddingsAndEvoformer(Module):
    """All before the structure module (Algorithm 2, lines 5 to 17; Algorithm 6, line 12).

        {m_si}, {z_ij} = InputEmbedder(target_feat, residue_index, msa_feat)       (2: 5)
        m_1i, z_ij += RecyclingEmbedder(m_1i^prev, z_ij^prev, x_i^prev)            (2: 6)
        {m_si} <- concat_s({m_si}, template angles)                                (2: 7 and 8)
        z_ij += TemplateEmbedding({z_ij}, template pairs)                          (2: 9 to 13)
        {z_ij} <- ExtraMsaStack(Linear(extra_msa_feat), {z_ij})                    (2: 14 to 16)
        {m_si}, {z_ij} <- EvoformerStack({m_si}, {z_ij})                           (2: 17)
        s_i = Linear(m_1i)                                                         (6: 12)

    Lines 7 and 8 come after 16: nothing before the Evoformer reads their rows.

    One pass's features and the last pass's results -> ``single`` [i, c_s],
    ``pair`` [i, j, c_z], ``msa`` [s, i, c_m] and ``msa_first_row`` [i, c_m],
    in float32 whatever the trunk's precision.
    """

    def __init__(self, config: ModelConfig):
        super().__init__("evoformer")
        c = self.config = config
        self.trunk_dtype = "bfloat16" if c.bfloat16 else "float32"
        self.input_embedder = InputEmbedder(c)
        self.recycling_embedder = RecyclingEmbedder(c)
        if c.template.enabled:
            embedding = AverageTemplateEmbedding if c.template.sum_embeddings else TemplateEmbedding
            self.template_embedding = embedding(c)
            if c.template.embed_torsion_angles:
                self.template_angles = TemplateAngleEmbedder(c, GROUP + "template_angles")
        self.extra_msa_embedder = ExtraMSAEmbedder(c)
        options = Options.of(c)
        extra_block = EvoformerBlock(
            c.extra_msa_stack,
            c.extra_msa_channel,
            c.pair_channel,
            is_extra_msa=True,
            name="extra_msa_stack",
            divide_first=c.outer_product_divides_first,
            outer_product_first=c.outer_product_first,
            options=options,
        )
        self.extra_msa_stack = BlockStack(
            extra_block, c.extra_msa_stack.num_block, GROUP + "extra_msa_loop", options
        )
        block = EvoformerBlock(
            c.evoformer,
            c.msa_channel,
            c.pair_channel,
            is_extra_msa=False,
            name="evoformer_iteration",
            divide_first=c.outer_product_divides_first,
            outer_product_first=c.outer_product_first,
            options=options,
        )
        self.evoformer_stack = BlockStack(
            block, c.evoformer.num_block, GROUP + "evoformer_loop", options
        )
        self.single_activations = Linear(c.msa_channel, c.single_channel, "single_activations")

    def call(
        self, batch: dict[str, Tensor], previous: dict[str, Tensor], key: Tensor | None = None
    ) -> dict[str, Tensor]:
        dtype = self.trunk_dtype

        def feature(name: str) -> Tensor:
            return ops.cast(batch[name], dtype)

        msa, pair = self.input_embedder(feature("target_feat"), feature("msa_feat"), batch)
        first_row, pair_update = self.recycling_embedder(previous, batch["aatype"], dtype=dtype)
        # [i, c] onto row 0 of [s, i, c]
        msa = ops.concatenate([msa[:1] + first_row[None], msa[1:]], axis=0)
        pair += pair_update
        seq_mask = batch["seq_mask"]
        pair_mask = seq_mask[:, None] * seq_mask[None, :]
        num_rows = msa.shape[0]
        msa_mask = batch["msa_mask"]
        template = self.config.template
        if template.enabled:
            pair += self.template_embedding(pair, batch, pair_mask, fold_key(key, 0))
        extra = self.extra_msa_embedder(
            batch["extra_msa"], feature("extra_has_deletion"), feature("extra_deletion_value")
        )
        _, pair = self.extra_msa_stack(
            (extra, pair), (batch["extra_msa_mask"], pair_mask), fold_key(key, 1)
        )
        if template.enabled and template.embed_torsion_angles:
            rows, rows_mask = self.template_angles(batch, dtype=dtype)
            msa = ops.concatenate([msa, rows], axis=0)
            msa_mask = ops.concatenate([msa_mask, rows_mask], axis=0)
        msa, pair = self.evoformer_stack((msa, pair), (msa_mask, pair_mask), fold_key(key, 2))
        outputs = {
            "single": self.single_activations(msa[0]),
            "pair": pair,
            "msa": msa[:num_rows],
            "msa_first_row": msa[0],
        }
        return {name: ops.cast(x, "float32") for name, x in outputs.items()}


class AlphaFoldIteration(Module):
    """One pass: trunk, structure module and heads (Algorithm 2, lines 5 to 21).

    {m_si}, {z_ij}, {s_i} = EmbeddingsAndEvoformer(features, previous)         (5 to 17)
    x_i^a = StructureModule({s_i}, {z_ij})                                     (21)
    """

    def __init__(self, config: ModelConfig):
        super().__init__("alphafold_iteration")
        c = self.config = config
        self.evoformer = EmbeddingsAndEvoformer(c)
        self.structure_module = StructureModule(c)
        self.heads = make_heads(c)

    def call(
        self,
        batch: dict[str, Tensor],
        previous: dict[str, Tensor],
        key: Tensor | None = None,
        with_heads: bool = True,
    ) -> dict[str, Any]:
        representations = self.evoformer(batch, previous, fold_key(key, 0))
        return self.finish(representations, batch, fold_key(key, 1), with_heads)

    def finish(
        self,
        representations: dict[str, Tensor],
        batch: dict[str, Tensor],
        key: Tensor | None = None,
        with_heads: bool = True,
    ) -> dict[str, Any]:
        """Structure module and heads on what the trunk made."""
        structure = self.structure_module(
            representations["single"], representations["pair"], batch, key
        )
        representations = representations | {"structure_module": structure.pop("act")}
        outputs = {"representations": representations, "structure_module": structure}
        if with_heads:
            outputs |= run_heads(self.heads, representations, self.config.heads)
        return outputs


class AlphaFold(keras.Model):
    """The AlphaFold 2 network on one example (Algorithm 2).

        previous = 0                                                               (1)
        for all c in 1 to N_cycle:                                                 (2)
            previous <- AlphaFoldIteration(features_c, previous)                   (3 to 22)

    With the settings of ``configs/model_1_multimer.yaml`` it is AlphaFold-Multimer (Evans et al.
    2021). Features carry DeepMind's names with one leading axis, the recycling
    passes, and no batch axis. Weights are float32 and built at once, drawn
    from ``seed``; with ``config.bfloat16`` the trunk computes in bfloat16.
    Dropout is on where ``seed`` is passed to a call.
    """

    def __init__(self, config: ModelConfig, seed: int = 0, name: str = "alphafold"):
        policy = "mixed_bfloat16" if config.bfloat16 else "float32"
        super().__init__(name=name, dtype=policy, autocast=False)
        self.config = config
        self.alphafold_iteration = AlphaFoldIteration(config)
        with weight_seed(seed):
            self.build()

    def build(self, input_shape: Any = None) -> None:
        self.alphafold_iteration.build()

    def first_previous(self, num_res: int) -> dict[str, Tensor]:
        """What the first pass takes for the results of a pass before it (Algorithm 2, line 1).

        Zeros.
        """
        c = self.config
        return {
            "prev_pos": ops.zeros((num_res, NUM_ATOM, 3), "float32"),
            "prev_msa_first_row": ops.zeros((num_res, c.msa_channel), "float32"),
            "prev_pair": ops.zeros((num_res, num_res, c.pair_channel), "float32"),
        }

    def one_pass(
        self, batch: dict[str, Tensor], previous: dict[str, Tensor], seed: Tensor | None = None
    ) -> dict[str, Any]:
        """One pass on features without the recycling axis; ``seed`` int32 [2] or None."""
        return self.alphafold_iteration(batch, previous, seed)

    def ensembled_pass(
        self, batch: dict[str, Tensor], previous: dict[str, Tensor]
    ) -> dict[str, Any]:
        """The mean over the leading axis' samples of the MSA (Algorithm 2, lines 3 to 20).

        ``batch`` [e, ...] differs along e in nothing but the sampled MSA (supplement 1.11.2);
        the ``msa`` representation is that of the first sample, as its head can only judge one.
        """
        count = batch["aatype"].shape[0]
        trunk = self.alphafold_iteration.evoformer
        first = select_pass(batch, 0)
        if count == 1:
            return self.alphafold_iteration(first, previous)
        shapes = self.representation_shapes(first)
        sums = {name: ops.zeros(shape, "float32") for name, shape in shapes.items()}

        def body(i: Tensor, sums: dict[str, Tensor]) -> tuple[Tensor, dict[str, Tensor]]:
            found = trunk(select_pass(batch, i), previous)
            weight = {name: 1.0 / count for name in found}
            weight["msa"] = ops.cast(i == 0, "float32")
            return i + 1, {name: sums[name] + weight[name] * found[name] for name in found}

        start = ops.zeros((), "int32")
        _, means = ops.while_loop(lambda i, _: i < count, body, (start, sums))
        return self.alphafold_iteration.finish(means, first)

    def representation_shapes(self, batch: dict[str, Tensor]) -> dict[str, tuple[int, ...]]:
        """Shapes of what the trunk makes of one pass's features."""
        c = self.config
        num_row, num_res = batch["msa_feat"].shape[:2]
        return {
            "single": (num_res, c.single_channel),
            "pair": (num_res, num_res, c.pair_channel),
            "msa": (num_row, num_res, c.msa_channel),
            "msa_first_row": (num_res, c.msa_channel),
        }

    def recycle(
        self,
        batch: dict[str, Tensor],
        num_recycle: int | Tensor,
        seed: Tensor | None = None,
    ) -> dict[str, Tensor]:
        """What the last pass builds on: the passes before it (Algorithm 31, lines 2 to 4).

        Passes 0 to ``num_recycle`` - 1, without gradient.
        ``batch`` with leading recycling axis; ``num_recycle`` may be a scalar
        tensor, the compiled program serves all its values.
        """
        previous = self.first_previous(batch["aatype"].shape[-1])

        def body(i: Tensor, previous: dict[str, Tensor]) -> tuple[Tensor, dict[str, Tensor]]:
            outputs = self.alphafold_iteration(
                select_pass(batch, i), previous, fold_key(seed, i), with_heads=False
            )
            return i + 1, next_previous(outputs)

        if isinstance(num_recycle, int) and num_recycle == 0:
            return previous
        count = ops.cast(num_recycle, "int32")
        start = ops.zeros((), "int32")
        _, previous = ops.while_loop(lambda i, _: i < count, body, (start, previous))
        return {name: ops.stop_gradient(x) for name, x in previous.items()}

    def call(
        self,
        batch: dict[str, Tensor],
        num_recycle: int | Tensor | None = None,
        seed: Tensor | None = None,
    ) -> dict[str, Any]:
        """All passes, as many as ``batch`` holds (Algorithm 30); outputs of the last one.

            for all c in 1 to N_cycle:                                     (2)
                outputs <- model(inputs_c, outputs)                        (3)

        ``num_recycle``: that many passes before the last instead.
        """
        if num_recycle is None:
            num_recycle = batch["aatype"].shape[0] - 1
        previous = self.recycle(batch, num_recycle, fold_key(seed, 0))
        return self.one_pass(select_pass(batch, num_recycle), previous, fold_key(seed, 1))


def select_pass(batch: dict[str, Tensor], index: int | Tensor) -> dict[str, Tensor]:
    """The features of one recycling pass: [c, ...] -> [...]."""
    return {name: ops.take(x, index, axis=0) for name, x in batch.items()}


def next_previous(outputs: dict[str, Any]) -> dict[str, Tensor]:
    """What the next pass takes over from a pass's outputs (Algorithm 2, line 22)."""
    return {
        "prev_pos": outputs["structure_module"]["final_atom_positions"],
        "prev_msa_first_row": outputs["representations"]["msa_first_row"],
        "prev_pair": outputs["representations"]["pair"],
    }


def host_passes(
    run_pass: Callable[[Any, Any], tuple[Any, Any, Any]], previous: Any, batches: Iterable[Any]
) -> Iterator[tuple[Any, Any]]:
    """Pass after pass, driven from outside the compiled program: outputs and change of each.

    The counterpart of ``AlphaFold.recycle``, which loops within the program, as training needs:
    there is no gradient to keep, and one program serves every number of passes. Here each pass
    is a program's run of its own, so that the caller sees every pass and may end early.

    Args:
      run_pass: ``(batch, previous) -> (outputs, what the next pass takes over, change)``.
      previous: what the first pass takes; ``AlphaFold.first_previous``.
      batches: each pass's features.
    """
    for batch in batches:
        outputs, previous, change = run_pass(batch, previous)
        yield outputs, change
        del outputs  # not held beside the next pass's
