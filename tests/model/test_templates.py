"""The template embedding and its parts."""

from __future__ import annotations

import numpy as np
import paper
import paper_complexes
import tensorflow as tf
from layers import (
    LayerTests,
    Not,
    close,
    integers,
    mask,
    numbers,
    residue_mask,
    weights_of,
)
from reference import nest
from tiny import tiny_complexes_config, tiny_config

from records.chemistry import RESTYPE_ATOM37_MASK, RESTYPE_ORDER
from tffold.model import templates
from tffold.model.module import Options
from tffold.model.templates import (
    AverageTemplateEmbedding,
    SingleTemplateEmbedding,
    TemplateAngleEmbedder,
    TemplateEmbedding,
    TemplatePairBlock,
)

RATES = (0.2, 0.2, 0.3, 0.3)  # of lines 2 to 5


class TestTemplatePairBlock(LayerTests):
    layer_class = TemplatePairBlock
    sizes = {"t": 2, "i": 5, "j": 5, "c": 8}
    inputs = {"pair": numbers("t i j c"), "mask": mask("i j")}
    outputs = "t i j c"
    padded = "i j"
    slice_bytes = Not("templates are taken one at a time where memory is short")
    bfloat16 = 0.02
    attend_first = True

    def make(self, rates=None):
        config = tiny_config().template
        config.attend_first = self.attend_first
        if rates:
            config.triangle_attention.dropout_rate = rates[0]
            config.triangle_multiplication_dropout_rate = rates[-1]
        return TemplatePairBlock(config)

    def call(self, layer, pair, mask, key=None):
        return layer((pair,), (mask,), key)[0]

    def reference(self, w, pair, mask, **dropout):
        return paper.template_pair_block(w, pair, mask, **dropout, attend_first=self.attend_first)

    def test_dropout_is_shared_along_the_papers_axes(self, monkeypatch):
        """By row: one mask for all rows; by column: one for all columns (supplement 1.11.6)."""
        rng = np.random.default_rng(0)
        t, i, j, c = (self.sizes[axis] for axis in "tijc")
        row, column = (t, 1, j, c), (t, i, 1, c)
        drops = [(rng.random(s) < 0.7).astype(np.float32) for s in (row, column, row, row)]

        def masks(key, shapes, rates):
            assert [tuple(shape) for shape in shapes] == [drop.shape for drop in drops]
            assert tuple(rates) == RATES
            return [tf.constant(drop) for drop in drops]

        monkeypatch.setattr(templates, "dropout_masks", masks)
        layer, inputs = self.layer(rates=RATES), self.draw()
        tensors = {k: tf.constant(x) for k, x in inputs.items()}
        found = self.call(layer, **tensors, key=tf.constant([1, 2]))
        weights = nest({k: v.numpy().astype(np.float64) for k, v in weights_of(layer).items()})
        expected = self.reference(weights, **inputs, drops=drops, rates=RATES)
        close(found, expected, self.tolerance, "result")


class TestTemplatePairBlockOfComplexes(TestTemplatePairBlock):
    attend_first = False


class TemplateTests(LayerTests):
    """What reads the templates' features: three templates with missing atoms."""

    sizes = {"t": 3, "i": 5, "j": 5, "z": 12, "m": 16, "c": 8}
    inputs = {
        "template_aatype": integers("t i", 22),
        "template_all_atom_positions": numbers("t i 37 3", scale=8.0, differentiable=False),
        "template_all_atom_masks": mask("t i 37"),
        "template_pseudo_beta": numbers("t i 3", scale=8.0, differentiable=False),
        "template_pseudo_beta_mask": mask("t i"),
    }
    bfloat16 = Not("its dtype is an argument, its features stay in float32")

    def draw(self, pad=0):
        drawn = super().draw(pad)
        drawn["template_aatype"][:, 2] = RESTYPE_ORDER["F"]  # whole, with a symmetric torsion
        has = RESTYPE_ATOM37_MASK[np.minimum(drawn["template_aatype"], 20)]
        drawn["template_all_atom_masks"] *= has
        drawn["template_all_atom_masks"][:, 1:4, :5] = has[:, 1:4, :5]  # some whole backbones
        drawn["template_all_atom_masks"][:, 2] = has[:, 2]
        if "template_mask" in drawn:
            drawn["template_mask"][:2] = 1.0
        drawn["template_all_atom_masks"][:, self.sizes["i"] :] = 0.0
        drawn["template_all_atom_masks"][self.sizes["t"] :] = 0.0
        drawn["template_all_atom_positions"] *= drawn["template_all_atom_masks"][..., None]
        return drawn

    def pair_feat(self, inputs, **options):
        return paper.template_pair_feat(*(inputs[name] for name in TemplateTests.inputs), **options)


class TestSingleTemplateEmbedding(TemplateTests):
    layer_class = SingleTemplateEmbedding
    unit_vector = False
    inputs = TemplateTests.inputs | {
        "pair": numbers("i j z", differentiable=False),  # not read
        "pair_mask": residue_mask("i j"),
        "template_mask": mask("t"),
    }
    outputs = "t i j c"
    padded = "t i j"
    slice_bytes = 1000

    def make(self, slice_mib=0):
        config = tiny_config().template
        config.use_unit_vector = self.unit_vector
        options = Options(zero_init=False, slice_mib=slice_mib)
        return SingleTemplateEmbedding(config, 12, options)

    def call(self, layer, pair, pair_mask, **batch):
        return layer(pair, batch, pair_mask)

    def reference(self, w, pair, pair_mask, template_mask, **batch):
        features = self.pair_feat(batch, unit_vector=self.unit_vector)
        return paper.single_template_embedding(w, features, pair_mask)


class TestUnitVectors(TestSingleTemplateEmbedding):
    unit_vector = True


class OfComplexes(TemplateTests):
    """Pair features of residues in two chains."""

    inputs = TemplateTests.inputs | {
        "pair": numbers("i j z"),
        "pair_mask": residue_mask("i j"),
        "asym_id": integers("i", 3, low=1),
    }

    def draw(self, pad=0):
        drawn = super().draw(pad)
        drawn["asym_id"] = np.sort(drawn["asym_id"])
        drawn["asym_id"][:2], drawn["asym_id"][2:4] = 1, 2
        return drawn

    def call(self, layer, pair, pair_mask, **batch):
        return layer(pair, batch, pair_mask)

    def reference(self, w, pair, pair_mask, asym_id, **batch):
        templates = (batch[name] for name in TemplateTests.inputs)
        return self.function(w, pair, pair_mask, asym_id, *templates)


class TestSingleTemplateEmbeddingOfComplexes(OfComplexes):
    layer_class = SingleTemplateEmbedding
    outputs = "t i j c"
    padded = "t i j"
    slice_bytes = 1000
    function = staticmethod(paper_complexes.single_template_embedding)

    def make(self, slice_mib=0):
        config = tiny_complexes_config().template
        options = Options(zero_init=False, slice_mib=slice_mib)
        return SingleTemplateEmbedding(config, 12, options)


class TestAverageTemplateEmbedding(OfComplexes):
    layer_class = AverageTemplateEmbedding
    outputs = "i j z"
    padded = "i j"
    slice_bytes = 300
    function = staticmethod(paper_complexes.average_template_embedding)

    def make(self, slice_mib=0):
        return AverageTemplateEmbedding(tiny_complexes_config(slice_mib=slice_mib))


class TestTemplateEmbedding(TemplateTests):
    layer_class = TemplateEmbedding
    inputs = TestSingleTemplateEmbedding.inputs | {"pair": numbers("i j z")}
    outputs = "i j z"
    padded = "t i j"
    slice_bytes = 300

    def make(self, slice_mib=0):
        return TemplateEmbedding(tiny_config(slice_mib=slice_mib))

    def call(self, layer, pair, pair_mask, **batch):
        return layer(pair, batch, pair_mask)

    def reference(self, w, pair, pair_mask, template_mask, **batch):
        features = self.pair_feat(batch)
        t = paper.single_template_embedding(w["single_template_embedding"], features, pair_mask)
        return paper.template_pointwise_attention(w["attention"], pair, t, template_mask)

    def test_no_template_no_update(self):
        inputs = self.draw()
        inputs["template_mask"][:] = 0.0
        assert not np.any(self.run(self.layer(), inputs)[""])


class TestTemplateAngleEmbedder(TemplateTests):
    layer_class = TemplateAngleEmbedder
    outputs = {"rows": "t i m", "mask": "t i"}
    padded = "t i"
    slice_bytes = Not("is run once")

    def make(self):
        return TemplateAngleEmbedder(tiny_config(), "template_angles")

    def call(self, layer, **batch):
        rows, mask = layer(batch, dtype="float32")
        return {"rows": rows, "mask": mask}

    def reference(self, w, template_aatype, **batch):
        atoms = batch["template_all_atom_positions"], batch["template_all_atom_masks"]
        rows, mask = paper.template_angle_rows(w, template_aatype, *atoms)
        return {"rows": rows, "mask": mask}


class TestTemplateAngleEmbedderOfComplexes(TestTemplateAngleEmbedder):
    def make(self):
        return TemplateAngleEmbedder(tiny_complexes_config(), "template_angles")

    def reference(self, w, template_aatype, **batch):
        atoms = batch["template_all_atom_positions"], batch["template_all_atom_masks"]
        rows, mask = paper_complexes.template_chi_rows(w, template_aatype, *atoms)
        return {"rows": rows, "mask": mask}
