"""The structure module: from single and pair representations to atoms."""

from __future__ import annotations

from typing import Any

from keras import ops

from tffold.config import ModelConfig
from tffold.geometry.atoms import atom14_to_atom37
from tffold.geometry.frames import frames_to_atom14_positions, torsion_angles_to_frames
from tffold.geometry.rigid import (
    QuatAffine,
    Rigid,
    compose_update,
    identity,
    pre_compose,
    quat_affine,
    quat_affine_identity,
    stop_rotation_gradient,
)
from tffold.model.ipa import InvariantPointAttention
from tffold.model.module import Module, OnlyTheseWeights, Options, he_normal, lecun_normal
from tffold.model.primitives import LayerNorm, Linear, dropout, dropout_masks, fold_key
from tffold.model.recompute import recomputing_loop

Tensor = Any
NUM_TORSION = 7


def l2_normalize(x: Tensor, epsilon: float = 1e-12) -> Tensor:
    """Unit vectors along the last axis; a zero vector stays zero, with finite gradient."""
    norm_sq = ops.sum(ops.square(x), axis=-1, keepdims=True)
    return x * ops.rsqrt(ops.maximum(norm_sq, epsilon))


class TorsionAngles(Module):
    """Torsion angles from the single representations (Algorithm 20, lines 11 to 14).

        a_i = Linear(s_i) + Linear(s_i^initial)                  (11)
        a_i <- a_i + Linear(relu(Linear(relu(a_i))))             (12, 13)
        α_i^f = Linear(relu(a_i))                                (14)

    Two [i, c_s] -> unnormalised sine and cosine [i, 7, 2].

    DISCREPANCY: the inputs pass a ReLU first, as in DeepMind's code.
    """

    def __init__(self, config: ModelConfig):
        super().__init__("rigid_sidechain")
        c, d = config.single_channel, config.structure_module.torsion_channel
        self.input_projection = Linear(c, d, "input_projection")
        self.input_projection_1 = Linear(c, d, "input_projection_1")
        output = Options.of(config).output_initializer
        self.blocks = []
        for i in range(config.structure_module.num_torsion_resblock):
            suffix = f"_{i}" if i else ""
            self.blocks.append(
                [
                    Linear(d, d, "resblock1" + suffix, he_normal),
                    Linear(d, d, "resblock2" + suffix, output),
                ]
            )
        self.unnormalized_angles = Linear(d, NUM_TORSION * 2, "unnormalized_angles")

    def call(self, single: Tensor, initial_single: Tensor) -> Tensor:
        act = self.input_projection(ops.relu(single))
        act += self.input_projection_1(ops.relu(initial_single))
        for first, second in self.blocks:
            act += second(ops.relu(first(ops.relu(act))))
        angles = self.unnormalized_angles(ops.relu(act))
        # [i, 14] -> [i, 7, 2]
        return ops.reshape(angles, (angles.shape[0], NUM_TORSION, 2))


class BackboneUpdate(Module):
    """T_i <- T_i ∘ BackboneUpdate(s_i) of frames that are rotation matrices (Algorithm 23).

    ``single`` [i, c_s], ``frames`` of shape [i] in model units -> the new frames.
    """

    def __init__(self, config: ModelConfig):
        super().__init__("quat_rigid")
        output = Options.of(config).output_initializer
        self.rigid = Linear(config.single_channel, 6, "rigid", output)

    def call(self, single: Tensor, frames: Rigid) -> Rigid:
        return compose_update(frames, self.rigid(single))


class FoldIteration(Module):
    """One iteration of the structure module (Algorithm 20, lines 6 to 14; Algorithm 23, line 1).

        s_i += InvariantPointAttention({s_j}, {z_ij}, {T_j})                        (6)
        s_i <- LayerNorm(Dropout_0.1(s_i))                                          (7)
        s_i <- s_i + Linear(relu(Linear(relu(Linear(s_i)))))                        (8)
        s_i <- LayerNorm(Dropout_0.1(s_i))                                          (9)
        T_i <- T_i ∘ BackboneUpdate(s_i)                                            (10)
        α_i^f = TorsionAngles(s_i, s_i^initial)                                     (11 to 14)

    ``affine_update`` is the Linear of Algorithm 23. With ``rotation_matrices`` frames are not kept
    as quaternions (AlphaFold-Multimer).
    """

    def __init__(self, config: ModelConfig):
        super().__init__("fold_iteration")
        c_s, c = config.single_channel, config.structure_module
        self.config = c
        options = Options.of(config)
        self.invariant_point_attention = InvariantPointAttention(
            c, c_s, config.pair_channel, options
        )
        self.attention_layer_norm = LayerNorm(c_s, "attention_layer_norm")
        self.transitions = []
        for i in range(c.num_layer_in_transition):
            last = i == c.num_layer_in_transition - 1
            initializer = options.output_initializer if last else he_normal
            suffix = f"_{i}" if i else ""
            self.transitions.append(Linear(c_s, c_s, "transition" + suffix, initializer))
        self.transition_layer_norm = LayerNorm(c_s, "transition_layer_norm")
        if c.rotation_matrices:
            self.backbone_update = BackboneUpdate(config)
        else:
            self.affine_update = Linear(c_s, 6, "affine_update", options.output_initializer)
        self.rigid_sidechain = TorsionAngles(config)

    def call(
        self,
        single: Tensor,
        initial_single: Tensor,
        pair: Tensor,
        affine: QuatAffine | Rigid,
        mask: Tensor,
        key: Tensor | None = None,
    ) -> tuple[Tensor, QuatAffine | Rigid, Tensor]:
        """-> the new single, the new affine (model units), unnormalised angles [i, 7, 2]."""
        rate = self.config.dropout_rate
        attention_mask, transition_mask = dropout_masks(key, 2 * [single.shape], 2 * [rate])
        single += self.invariant_point_attention(single, pair, mask, frames=affine.as_rigid())
        single = self.attention_layer_norm(dropout(single, attention_mask, rate))
        act = single
        for i, transition in enumerate(self.transitions):
            act = transition(act)
            if i < len(self.transitions) - 1:
                act = ops.relu(act)
        single = self.transition_layer_norm(dropout(single + act, transition_mask, rate))
        if self.config.rotation_matrices:
            affine = self.backbone_update(single, affine)
        else:
            affine = pre_compose(affine, self.affine_update(single))
        return single, affine, self.rigid_sidechain(single, initial_single)


class StructureModule(Module):
    """Eight iterations of shared weights from frames at the origin (Algorithm 20).

        s_i^initial <- LayerNorm(s_i^initial)                                (1)
        z_ij <- LayerNorm(z_ij)                                              (2)
        s_i = Linear(s_i^initial)                                            (3)
        T_i = (I, 0)                                                         (4)
        for all l in 1 to N_layer:                                           (5)
            s_i, T_i, α_i^f = FoldIteration(s_i, s_i^initial, z_ij, T_i)     (6 to 14)
            T_i <- (stopgrad(R_i), t_i) before the next                      (19 to 21)
        T_i^f, x_i^a = computeAllAtomCoordinates(T_i, α_i^f)                 (24)

    Lines 15 to 18, 23 and 25 to 28 are losses (``tffold.losses``), line 29 is a head. Line 24
    is done for all layers at once, after the loop.

    ``single`` [i, c_s], ``pair`` [i, j, c_z], float32 -> the outputs of
    DeepMind's module: ``traj`` [l, i, 7] (quaternion and Å; with
    ``rotation_matrices`` [l, i, 3, 4], rotation and Å), ``sidechains``
    with leading [l], ``final_atom14_positions`` [i, 14, 3] in Å, …,
    ``act`` [i, c_s], and ``backbone``, what ``traj`` says, as frames [l, i].
    """

    def __init__(self, config: ModelConfig):
        super().__init__("structure_module")
        c_s = config.single_channel
        self.config, self.remat = config.structure_module, config.remat != "none"
        self.single_layer_norm = LayerNorm(c_s, "single_layer_norm")
        self.initial_projection = Linear(c_s, c_s, "initial_projection", lecun_normal)
        self.pair_layer_norm = LayerNorm(config.pair_channel, "pair_layer_norm")
        self.fold_iteration = FoldIteration(config)

    def call(
        self,
        single: Tensor,
        pair: Tensor,
        batch: dict[str, Tensor],
        key: Tensor | None = None,
    ) -> dict[str, Any]:
        aatype = batch["aatype"]
        num_res, num_layer = aatype.shape[0], self.config.num_layer
        initial = self.single_layer_norm(single)
        act = self.initial_projection(initial)
        pair = self.pair_layer_norm(pair)
        variables = self.fold_iteration.trainable_variables
        matrices = self.config.rotation_matrices

        def as_frames(orientation: Tensor, trans: Tensor) -> QuatAffine | Rigid:
            if matrices:
                return Rigid(orientation, trans)
            return quat_affine(orientation, trans, normalize=False)

        def run_layer(i: Tensor, state: tuple, _: tuple, shared: tuple) -> tuple[tuple, tuple]:
            act, orientation, trans = state
            initial, pair, *weights = shared
            # No gradient through orientations from layer to layer (Algorithm 20, line 20).
            affine = stop_rotation_gradient(as_frames(orientation, trans))
            with OnlyTheseWeights(variables, weights):
                act, affine, angles = self.fold_iteration(
                    act, initial, pair, affine, batch["seq_mask"], fold_key(key, i)
                )
            orientation, trans = affine[0], affine[-1]
            return (act, orientation, trans), (orientation, trans, angles)

        start = identity((num_res,)) if matrices else quat_affine_identity((num_res,))
        state = (act, start[0], start[-1])
        shared = (initial, pair, *(v.value for v in variables))
        if self.remat:
            shapes = (tuple(start[0].shape), (num_res, 3), (num_res, NUM_TORSION, 2))
            specs = [(shape, "float32") for shape in shapes]
            (act, _, _), (orientation, trans, unnormalized) = recomputing_loop(
                run_layer, num_layer, state, shared=shared, output_specs=specs
            )
        else:
            layers = []
            for i in range(num_layer):
                state, outputs = run_layer(i, state, (), shared)
                layers.append(outputs)
            act, _, _ = state
            orientation, trans, unnormalized = (ops.stack(xs) for xs in zip(*layers, strict=True))

        # Everything from here on has a leading layer axis.
        trans = trans * self.config.position_scale
        # [l, i, 3, 3] and [l, i, 3] -> [l, i, 3, 4], or [l, i, 4] and [l, i, 3] -> [l, i, 7]
        traj = ops.concatenate([orientation, trans[..., None] if matrices else trans], axis=-1)
        angles = l2_normalize(unnormalized)
        backbone = as_frames(orientation, trans).as_rigid()
        frames = torsion_angles_to_frames(aatype, backbone, angles)
        atom_pos = frames_to_atom14_positions(aatype, frames)
        positions = atom_pos[-1]
        return {
            "traj": traj,
            "backbone": backbone,
            "sidechains": {
                "angles_sin_cos": angles,
                "unnormalized_angles_sin_cos": unnormalized,
                "frames": frames,
                "atom_pos": atom_pos,
            },
            "final_affines": traj[-1],
            "final_atom14_positions": positions,
            "final_atom14_mask": batch["atom14_atom_exists"],
            "final_atom_positions": atom14_to_atom37(positions, batch),
            "final_atom_mask": batch["atom37_atom_exists"],
            "act": act,
        }
