"""The structure module and its parts."""

from __future__ import annotations

import dataclasses

import numpy as np
import paper_network
import tensorflow as tf
from layers import LayerTests, Not, close, integers, mask, numbers, weights_of
from reference import nest
from tiny import tiny_config

from tffold.geometry.atoms import make_atom14_masks
from tffold.geometry.rigid import Rigid, quat_affine
from tffold.model import structure_module
from tffold.model.structure_module import (
    BackboneUpdate,
    FoldIteration,
    StructureModule,
    TorsionAngles,
)

CONFIG = tiny_config()
SETTINGS = CONFIG.structure_module


class StructureTests(LayerTests):
    sizes = {"i": 6, "j": 6, "s": 16, "z": 12, "l": SETTINGS.num_layer}
    padded = "i j"
    slice_bytes = Not("is not sliced: it holds the pair representation and little else")
    bfloat16 = Not("runs in float32")


class TestTorsionAngles(StructureTests):
    layer_class = TorsionAngles
    inputs = {"single": numbers("i s"), "initial_single": numbers("i s")}
    outputs = "i 7 2"
    padded = Not("each residue stands alone")

    def make(self):
        return TorsionAngles(CONFIG)

    def reference(self, w, single, initial_single):
        return paper_network.torsion_net(w, single, initial_single)


class TestBackboneUpdate(StructureTests):
    layer_class = BackboneUpdate
    inputs = {"single": numbers("i s"), "rot": numbers("i 3 3"), "trans": numbers("i 3")}
    outputs = {"rot": "i 3 3", "trans": "i 3"}
    padded = Not("each residue stands alone")

    def make(self):
        return BackboneUpdate(CONFIG)

    def call(self, layer, single, rot, trans):
        return layer(single, Rigid(rot, trans))._asdict()

    def reference(self, w, single, rot, trans):
        found = paper_network.backbone_update(w["rigid"], single, rot, trans)
        return dict(zip(self.outputs, found, strict=True))


class TestFoldIteration(StructureTests):
    layer_class = FoldIteration
    settings = SETTINGS
    inputs = {
        "single": numbers("i s"),
        "initial_single": numbers("i s"),
        "pair": numbers("i j z"),
        "quat": numbers("i 4", differentiable=False),
        "trans": numbers("i 3"),
        "mask": mask("i"),
    }
    outputs = {"single": "i s", "quat": "i 4", "trans": "i 3", "angles": "i 7 2"}
    unreached = {"invariant_point_attention/attention_2d/bias": "adds one number to all logits"}

    def make(self, rate=0.0):
        config = tiny_config(dropout=rate)
        config.structure_module.rotation_matrices = self.settings.rotation_matrices
        return FoldIteration(config)

    def draw(self, pad=0):
        drawn = super().draw(pad)
        drawn["quat"] /= np.linalg.norm(drawn["quat"], axis=-1, keepdims=True)
        return drawn

    def frames(self, quat, trans):
        return quat_affine(quat, trans, normalize=False)

    def call(self, layer, single, initial_single, pair, quat, trans, mask, key=None):
        affine = self.frames(quat, trans)
        single, affine, angles = layer(single, initial_single, pair, affine, mask, key)
        # What becomes of masked residues is nobody's concern (see test_ipa.py).
        found = {"single": single, "quat": affine[0], "trans": affine.trans, "angles": angles}
        return {k: x * tf.reshape(mask, (-1, *(len(x.shape) - 1) * [1])) for k, x in found.items()}

    def reference(self, w, single, initial_single, pair, quat, trans, mask, **dropout):
        found = paper_network.fold_iteration(
            w, single, initial_single, pair, quat, trans, mask, self.settings, **dropout
        )
        seen = mask > 0
        return {
            k: np.where(seen.reshape(-1, *(x.ndim - 1) * [1]), x, 0.0)
            for k, x in zip(self.outputs, found, strict=True)
        }

    def test_dropout_stands_before_each_layer_norm(self, monkeypatch):
        rng = np.random.default_rng(0)
        shape, rate = (self.sizes["i"], self.sizes["s"]), 0.3
        drops = [(rng.random(shape) < 0.7).astype(np.float32) for _ in range(2)]

        def masks(key, shapes, rates):
            assert [tuple(s) for s in shapes] == [shape, shape]
            assert rates == [rate, rate]
            return [tf.constant(drop) for drop in drops]

        monkeypatch.setattr(structure_module, "dropout_masks", masks)
        layer, inputs = self.layer(rate=rate), self.draw()
        found = self.call(
            layer, **{k: tf.constant(x) for k, x in inputs.items()}, key=tf.constant([1, 2])
        )
        weights = nest({k: v.numpy().astype(np.float64) for k, v in weights_of(layer).items()})
        expected = self.reference(weights, **inputs, drops=drops, rate=rate)
        for name, value in expected.items():
            close(found[name], value, self.tolerance, name)


class TestFoldIterationOnMatrices(TestFoldIteration):
    """``quat`` holds rotation matrices here."""

    settings = dataclasses.replace(SETTINGS, rotation_matrices=True)
    inputs = TestFoldIteration.inputs | {"quat": numbers("i 3 3", differentiable=False)}
    outputs = TestFoldIteration.outputs | {"quat": "i 3 3"}

    def draw(self, pad=0):
        drawn = StructureTests.draw(self, pad)
        drawn["quat"] = np.linalg.qr(drawn["quat"])[0].astype(np.float32)
        return drawn

    def frames(self, quat, trans):
        return Rigid(quat, trans)


class TestStructureModule(StructureTests):
    layer_class = StructureModule
    settings = SETTINGS
    remat = "all"
    inputs = {
        "single": numbers("i s"),
        "pair": numbers("i j z"),
        "aatype": integers("i", 21),
        "mask": mask("i"),
    }
    outputs = {
        "traj": "l i 7",
        "raw": "l i 7 2",
        "angles": "l i 7 2",
        "rot": "l i 8 3 3",
        "trans": "l i 8 3",
        "atoms": "l i 14 3",
        "act": "i s",
    }
    unreached = {
        "fold_iteration/invariant_point_attention/attention_2d/bias": "adds one number to logits"
    }
    rotations = None
    # The last axis of the orientations in ``traj``, and what they start from.
    num_orientation = 4
    start = np.array([1.0, 0.0, 0.0, 0.0])

    def make(self):
        config = tiny_config(remat=self.remat)
        config.structure_module = self.settings
        return StructureModule(config)

    def call(self, layer, single, pair, aatype, mask):
        batch = {"aatype": aatype, "seq_mask": mask, **make_atom14_masks(aatype)}
        found = layer(single, pair, batch)
        side = found["sidechains"]
        last = found["final_atom14_positions"]
        np.testing.assert_array_equal(last, side["atom_pos"][-1])
        np.testing.assert_array_equal(found["final_affines"], found["traj"][-1])
        ca = found["final_atom_positions"][:, 1]
        np.testing.assert_array_equal(ca, last[:, 1])
        np.testing.assert_array_equal(found["backbone"].trans, side["frames"].trans[:, :, 0])
        outputs = {
            "traj": found["traj"],
            "raw": side["unnormalized_angles_sin_cos"],
            "angles": side["angles_sin_cos"],
            "rot": side["frames"].rot,
            "trans": side["frames"].trans,
            "atoms": side["atom_pos"],
            "act": found["act"],
        }
        return {k: x * self.seen(mask, k, len(x.shape)) for k, x in outputs.items()}

    def seen(self, mask, name, rank):
        """The residue mask at the place of its axis."""
        before = 0 if name == "act" else 1
        return np.reshape(mask, (*before * [1], -1, *(rank - 1 - before) * [1]))

    def reference(self, w, single, pair, aatype, mask):
        found = paper_network.structure_module(
            w, single, pair, aatype, mask, self.settings, self.rotations
        )
        return {k: x * self.seen(mask, k, x.ndim) for k, x in found.items()}

    def test_gradients_are_the_papers(self):
        """None flows through rotations from layer to layer (Algorithm 20, line 20)."""
        weights = {k: v.numpy().astype(np.float64) for k, v in weights_of(self.layer()).items()}
        found = self.paper(weights, self.draw())["traj"][..., : self.num_orientation]
        self.rotations = np.concatenate([np.broadcast_to(self.start, found[:1].shape), found[:-1]])
        super().test_gradients_are_the_papers()


class TestUnrolledStructureModule(TestStructureModule):
    remat = "none"


class TestStructureModuleOnMatrices(TestStructureModule):
    settings = dataclasses.replace(
        SETTINGS, rotation_matrices=True, separate_projections=True, position_scale=20.0
    )
    outputs = TestStructureModule.outputs | {"traj": "l i 3 4"}
    num_orientation = 3
    start = np.eye(3)
