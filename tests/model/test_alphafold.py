"""The whole network: one pass, and passes that build on one another."""

from __future__ import annotations

import numpy as np
import paper_geometry
import paper_network
import tensorflow as tf
from layers import LayerTests, Not, increasing, integers, mask, numbers
from tiny import tiny_config

from records.chemistry import RESTYPE_ATOM37_MASK
from tffold.geometry.atoms import make_atom14_masks
from tffold.model.alphafold import (
    AlphaFold,
    AlphaFoldIteration,
    EmbeddingsAndEvoformer,
    select_pass,
)

PREVIOUS = ("prev_pos", "prev_msa_first_row", "prev_pair")


class NetworkTests(LayerTests):
    """A batch as the data pipeline makes it, in shapes, with everything masked here and there."""

    sizes = {"s": 4, "e": 5, "i": 6, "j": 6, "t": 3, "c": 16, "z": 12, "k": 16}
    inputs = {
        "aatype": integers("i", 20),
        "residue_index": increasing("i", step=20),
        "target_feat": numbers("i 22", differentiable=False),
        "msa_feat": numbers("s i 49", differentiable=False),
        "msa_mask": mask("s i"),
        "seq_mask": mask("i"),
        "extra_msa": integers("e i", 23),
        "extra_has_deletion": numbers("e i", differentiable=False),
        "extra_deletion_value": numbers("e i", differentiable=False),
        "extra_msa_mask": mask("e i"),
        "template_aatype": integers("t i", 22),
        "template_all_atom_positions": numbers("t i 37 3", scale=8.0, differentiable=False),
        "template_all_atom_masks": mask("t i 37"),
        "template_pseudo_beta": numbers("t i 3", scale=8.0, differentiable=False),
        "template_pseudo_beta_mask": mask("t i"),
        "template_mask": mask("t"),
        "prev_pos": numbers("i 37 3", scale=6.0, differentiable=False),
        "prev_msa_first_row": numbers("i c", differentiable=False),
        "prev_pair": numbers("i j z", differentiable=False),
    }
    padded = "s e i j t"
    slice_bytes = Not("its parts are")
    bfloat16 = Not("is a setting, see test_bfloat16_trunk in test_properties.py")
    unreached = {}
    tolerance = 1e-4

    def draw(self, pad=0):
        drawn = super().draw(pad)
        i, t = self.sizes["i"], self.sizes["t"]
        atom_mask = drawn["template_all_atom_masks"]
        has = RESTYPE_ATOM37_MASK[np.minimum(drawn["template_aatype"], 20)]
        atom_mask *= has
        atom_mask[:, 1:4, :5] = has[:, 1:4, :5]  # some whole backbones
        atom_mask[:, i:] = 0.0
        atom_mask[t:] = 0.0
        drawn["template_mask"][:2] = 1.0
        # A masked residue has no rows and no atoms.
        drawn["seq_mask"][: i - 2] = 1.0
        for name in ("msa_mask", "extra_msa_mask", "template_pseudo_beta_mask"):
            drawn[name] *= drawn["seq_mask"]
        atom_mask *= drawn["seq_mask"][:, None]
        drawn["template_all_atom_positions"] *= atom_mask[..., None]
        return drawn

    def seen(self, outputs, seq_mask):
        """Nobody looks at what becomes of a masked residue."""
        cut = {}
        for name, axes in self.outputs.items():
            cut[name] = outputs[name]
            rank = len(axes.split())
            for place, axis in enumerate(axes.split()):
                if axis in ("i", "j"):
                    shape = [-1 if other == place else 1 for other in range(rank)]
                    cut[name] = cut[name] * np.reshape(seq_mask, shape)
        return cut


class TestEmbeddingsAndEvoformer(NetworkTests):
    layer_class = EmbeddingsAndEvoformer
    outputs = {"single": "i k", "pair": "i j z", "msa": "s i c", "msa_first_row": "i c"}
    gradients = Not("those of its parts are, in their files")
    unreached = {
        f"{stack}/msa_row_attention_with_pair_bias/feat_2d_norm/offset": "adds one number to logits"
        for stack in ("extra_msa_stack", "evoformer_iteration")
    }

    def make(self):
        return EmbeddingsAndEvoformer(tiny_config())

    def call(self, layer, **inputs):
        previous = {name: inputs.pop(name) for name in PREVIOUS}
        return self.seen(layer(inputs, previous), inputs["seq_mask"])

    def reference(self, w, **inputs):
        previous = [inputs.pop(name) for name in PREVIOUS]
        found = paper_network.embeddings_and_evoformer(w, inputs, previous)
        return self.seen(found, inputs["seq_mask"])


def flat(found):
    """The outputs of a pass by name."""
    outputs = {name: head["logits"] for name, head in found.items() if "logits" in head}
    trunk = TestEmbeddingsAndEvoformer.outputs
    outputs |= {name: found["representations"][name] for name in trunk}
    return outputs | {"atoms": found["structure_module"]["final_atom14_positions"]}


class TestAlphaFoldIteration(NetworkTests):
    layer_class = AlphaFoldIteration
    outputs = TestEmbeddingsAndEvoformer.outputs | {
        "atoms": "i 14 3",
        "distogram": "i j 64",
        "masked_msa": "s i 23",
        "predicted_lddt": "i 50",
        "experimentally_resolved": "i 37",
        "predicted_aligned_error": "i j 64",
    }
    gradients = Not("those of its parts are, in their files")
    unreached = {
        **{f"evoformer/{name}": why for name, why in TestEmbeddingsAndEvoformer.unreached.items()},
        "structure_module/fold_iteration/invariant_point_attention/attention_2d/bias": "likewise",
    }

    def make(self):
        return AlphaFoldIteration(tiny_config())

    def call(self, layer, **inputs):
        previous = {name: inputs.pop(name) for name in PREVIOUS}
        found = layer(inputs | make_atom14_masks(inputs["aatype"]), previous)
        return self.seen(flat(found), inputs["seq_mask"])

    def reference(self, w, **inputs):
        previous = [inputs.pop(name) for name in PREVIOUS]
        settings = tiny_config().structure_module
        found = paper_network.alphafold_iteration(w, inputs, previous, settings)
        return self.seen(found, inputs["seq_mask"])


class TestAlphaFold(TestAlphaFoldIteration):
    """Two passes, each with its own sample of the MSA (Algorithm 30)."""

    layer_class = AlphaFold
    sizes = NetworkTests.sizes | {"p": 2}
    inputs = {name: x for name, x in NetworkTests.inputs.items() if name not in PREVIOUS} | {
        "msa_feat": numbers("p s i 49", differentiable=False)
    }
    unreached = {
        f"alphafold_iteration/{name}": why for name, why in TestAlphaFoldIteration.unreached.items()
    }

    def make(self):
        return AlphaFold(tiny_config())

    def call(self, layer, **inputs):
        batch = inputs | make_atom14_masks(inputs["aatype"])
        passes = {k: x if k == "msa_feat" else tf.stack([x, x]) for k, x in batch.items()}
        return self.seen(flat(layer(passes)), inputs["seq_mask"])

    def reference(self, w, **inputs):
        num_res = self.sizes["i"]
        shapes = (num_res, 37, 3), (num_res, 16), (num_res, num_res, 12)
        previous = [np.zeros(shape) for shape in shapes]
        settings = tiny_config().structure_module
        for sample in inputs["msa_feat"]:
            batch = inputs | {"msa_feat": sample}
            found = paper_network.alphafold_iteration(
                w["alphafold_iteration"], batch, previous, settings
            )
            atoms = paper_geometry.atom37(inputs["aatype"], found["atoms"])
            previous = [atoms, found["msa_first_row"], found["pair"]]
        return self.seen(found, inputs["seq_mask"])


def test_select_pass():
    batch = {"aatype": tf.constant([[1, 2], [3, 4]])}
    assert select_pass(batch, 1)["aatype"].numpy().tolist() == [3, 4]
