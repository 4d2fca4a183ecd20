"""Invariant point attention."""

from __future__ import annotations

import dataclasses

import numpy as np
import paper_complexes
import paper_network
from layers import LayerTests, Not, close, mask, numbers
from tiny import tiny_config

from tffold.geometry.rigid import Rigid
from tffold.model.ipa import InvariantPointAttention, PointProjection

SETTINGS = tiny_config().structure_module


class TestInvariantPointAttention(LayerTests):
    layer_class = InvariantPointAttention
    settings = SETTINGS
    sizes = {"i": 6, "j": 6, "c": 7, "z": 5}
    inputs = {
        "single": numbers("i c"),
        "pair": numbers("i j z"),
        "mask": mask("i"),
        "rot": numbers("i 3 3"),
        "trans": numbers("i 3"),
    }
    outputs = "i c"
    padded = "i j"
    slice_bytes = Not("its largest intermediate is as large as the pair representation")
    bfloat16 = Not("runs in float32, as the structure module does")
    unreached = {"attention_2d/bias": "adds one number to all logits of a head"}

    def make(self):
        return InvariantPointAttention(self.settings, 7, 5)

    def draw(self, pad=0):
        drawn = super().draw(pad)
        drawn["rot"] = np.linalg.qr(drawn["rot"])[0].astype(np.float32)
        return drawn

    def call(self, layer, single, pair, mask, rot, trans):
        # Logits of masked residues are 1e5 below zero and lose their digits: nobody reads them.
        return layer(single, pair, mask, frames=Rigid(rot, trans)) * mask[:, None]

    def reference(self, w, single, pair, mask, rot, trans):
        result = paper_network.invariant_point_attention(
            w, single, pair, mask, rot, trans, self.settings
        )
        return result * mask[:, None]

    def test_motion_of_all_frames_changes_nothing(self):
        layer, inputs = self.layer(), self.draw()
        motion = np.linalg.qr(np.random.default_rng(1).standard_normal((3, 3)))[0]
        if np.linalg.det(motion) < 0:
            motion = -motion
        moved = dict(inputs)
        moved["rot"] = np.einsum("xy,iyz->ixz", motion, inputs["rot"]).astype(np.float32)
        moved["trans"] = (inputs["trans"] @ motion.T + [1.0, -2.0, 3.0]).astype(np.float32)
        here = np.asarray(self.run(layer, inputs)[""])
        close(self.run(layer, moved)[""], here, 1e-4, "moved")
        # The check can fail: one frame alone does matter.
        apart = dict(inputs, trans=inputs["trans"] + np.eye(6, 3, dtype=np.float32))
        assert np.abs(self.run(layer, apart)[""] - here).max() > 1e-2


class TestSeparateProjections(TestInvariantPointAttention):
    settings = dataclasses.replace(SETTINGS, separate_projections=True)


class TestPointProjection(LayerTests):
    layer_class = PointProjection
    sizes = {"i": 6, "c": 7, "h": 2, "p": 3}
    inputs = {"single": numbers("i c"), "rot": numbers("i 3 3"), "trans": numbers("i 3")}
    outputs = "i h p 3"
    padded = Not("each residue stands alone")
    slice_bytes = Not("holds no large intermediate")
    bfloat16 = Not("runs in float32")

    def make(self):
        return PointProjection(7, 2, 3, "q_point_projection")

    def call(self, layer, single, rot, trans):
        return layer(single, Rigid(rot, trans))

    def reference(self, w, single, rot, trans):
        return paper_complexes.global_points(w, single, rot, trans)
