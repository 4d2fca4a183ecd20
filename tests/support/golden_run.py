"""A case of DeepMind's numbers through the training step's own functions, compiled by XLA."""

from __future__ import annotations

import dataclasses
import functools
from pathlib import Path

import numpy as np
import tensorflow as tf
from golden import ComplexCase, cases, flatten

from records import chemistry
from tffold import metrics
from tffold.geometry import distances
from tffold.losses.fape import backbone_fape
from tffold.losses.renaming import rename_ground_truth
from tffold.losses.table import compute_losses
from tffold.losses.violations import find_violations
from tffold.model.alphafold import AlphaFold
from tffold.train.optimizer import unflatten
from tffold.train.step import TrainingStep
from tffold.weights.npz import assign, parameter_shapes


class Run:
    """A case's compiled example gradients: call it on parameters."""

    def __init__(self, case, bfloat16: bool = False):
        self.case, self.config = case, case.config(bfloat16)
        self.is_complex = isinstance(case, ComplexCase)
        self.model = AlphaFold(self.config.model)
        assign(case.params(), self.model, case.name)
        self.keys = list(parameter_shapes(self.model))
        batch = {k: tf.constant(v) for k, v in case.batch().items()}
        self.passes = batch["num_iter_recycling"].shape[0]
        assert int(batch["num_iter_recycling"][0]) == self.config.model.num_recycle

        @tf.function(autograph=False, jit_compile=True)
        def gradients(parameters, num_recycle, with_violations):
            def losses(outputs, batch):
                total, parts = compute_losses(
                    outputs, batch, self.config.loss, self.config.model.heads
                )
                left_out = (with_violations - 1.0) * parts["structure_module/violation"]
                total += left_out * self.config.loss.violation_weight
                return total, parts | {"total_loss": total}

            step = TrainingStep(self.model, self.config, losses, self._everything)
            zero = tf.zeros([], tf.int32)
            passes = tf.fill([self.passes], num_recycle)
            example = batch | {"num_iter_recycling": passes}
            return step.example_gradients(parameters, example, zero, zero)

        @tf.function(autograph=False, jit_compile=True)
        def forward():
            last = {name: value[self.passes - 1] for name, value in batch.items()}
            seed = tf.zeros([2], tf.int32)
            previous = self.model.recycle(batch, self.passes - 1, seed)
            outputs = self.model.one_pass(last, previous, seed)
            total, parts = compute_losses(outputs, last, self.config.loss, self.config.model.heads)
            return self._everything(outputs, last) | parts | {"loss": total}

        self._gradients, self.forward = gradients, forward
        self.parameters = [tf.convert_to_tensor(v) for v in self.model.trainable_variables]

    def gradients(self, parameters, num_recycle=None, with_violations=True):
        """``num_recycle``: passes before the last, by default all."""
        last = self.passes - 1 if num_recycle is None else num_recycle
        return self._gradients(parameters, tf.constant(last), tf.constant(float(with_violations)))

    def _everything(self, outputs, batch):
        """Every array that a case may hold, as "metrics"."""
        found = flatten({k: v for k, v in outputs.items() if k != "representations"})
        found |= flatten({"representations": outputs["representations"]})
        structure = outputs["structure_module"]
        positions = structure["final_atom14_positions"]
        extra = rename_ground_truth(batch, positions)
        extra |= {
            f"violations/{k}": v
            for k, v in find_violations(batch, positions, self.config.loss).items()
        }
        found |= {f"structure_module/{k}": v for k, v in extra.items()}
        found["distogram/true_dist"] = distances.pairwise_distances(batch["pseudo_beta"], 0.0)
        return found | (self._of_complexes(outputs, batch) if self.is_complex else {})

    def _of_complexes(self, outputs, batch):
        """What complexes' cases hold beside it, and what they have under other names."""
        structure, heads = outputs["structure_module"], self.config.model.heads
        side = structure["sidechains"]["frames"]
        # DeepMind's rotations of groups that a residue lacks are zero; nothing reads them.
        exists = np.maximum(chemistry.RIGID_GROUP_EXISTS, np.arange(8) < 4).astype(np.float32)
        rot = side.rot * tf.gather(exists, batch["aatype"])[..., None, None]
        found = {
            "structure_module/final_rigids": structure["final_affines"],
            "structure_module/sidechains/frames": tf.concat([rot, side.trans[..., None]], -1),
        }
        papers = dataclasses.replace(self.config.loss, interface_fape_clamp_distance=30.0)
        fape = backbone_fape(outputs, batch, self.config.loss, heads)
        clamped = backbone_fape(outputs, batch, papers, heads)
        fape = {
            "bb_loss": fape["loss"],
            "fape": fape["fape"],
            "intra_chain_bb_loss": fape["intra_chain_backbone_fape"],
            "intra_chain_fape": fape["intra_chain_fape"],
            "interface_bb_loss": fape["interface_backbone_fape"],
            "interface_fape": fape["interface_fape"],
            "interface_clamp30_bb_loss": clamped["interface_backbone_fape"],
            "interface_clamp30_fape": clamped["interface_fape"],
        }
        found |= {f"structure_module/{name}": x for name, x in fape.items()}
        trunk = self.model.alphafold_iteration.evoformer
        rows, rows_mask = trunk.template_angles(batch, dtype="float32")
        found |= {"stage/template_rows": rows, "stage/template_row_mask": rows_mask}
        logits, mask = outputs["predicted_aligned_error"]["logits"], batch["seq_mask"]
        ptm = metrics.predicted_tm_score(logits, mask, heads)
        iptm = metrics.predicted_tm_score(logits, mask, heads, batch["asym_id"])
        confidence = {
            "plddt": metrics.predicted_lddt(outputs["predicted_lddt"]["logits"]),
            "predicted_aligned_error": metrics.predicted_aligned_error(logits, heads),
            "max_predicted_aligned_error": tf.constant(metrics.max_aligned_error(heads)),
            "ptm": ptm,
            "iptm": iptm,
            "ranking_confidence": metrics.ranking_score(ptm, iptm),
        }
        return found | {f"confidence/{name}": x for name, x in confidence.items()}

    def _named(self, clipped, scalars):
        """Unclipped gradients by key, and their global norm."""
        norm = float(scalars["optim/gradient_norm"])
        factor = max(1.0, norm / self.config.train.clip_norm)
        arrays = unflatten(clipped * factor, self.parameters)
        return {k: g.numpy() for k, g in zip(self.keys, arrays, strict=True)}, norm

    @functools.cached_property
    def results(self):
        """Values by name, unclipped gradients by key, and the gradients' global norm."""
        clipped, scalars, finite = self.gradients(self.parameters)
        assert finite
        values = {}
        for name, value in scalars.items():
            values[name.removeprefix("metric/").removeprefix("loss/")] = value.numpy()
        if self.is_complex:
            values["structure_module/violation_loss"] = values["structure_module/violation"]
            values["no_violation/total_loss"] = self.without_violations[2]
            values["recycling/final_atom_positions"] = np.stack(
                [self.positions_after(last) for last in range(self.passes)]
            )
        return values, *self._named(clipped, scalars)

    @functools.cached_property
    def without_violations(self):
        """Gradients by key, global norm and loss without the violation term."""
        clipped, scalars, _ = self.gradients(self.parameters, with_violations=False)
        return *self._named(clipped, scalars), scalars["loss"].numpy()

    def positions_after(self, last):
        _, scalars, _ = self.gradients(self.parameters, num_recycle=last)
        return scalars["metric/structure_module/final_atom_positions"].numpy()


@functools.lru_cache(maxsize=1)
def run_of(case_key, bfloat16):
    folder, name = case_key
    (case,) = [c for c in cases(Path(folder)) if c.name == name]
    run = Run(case, bfloat16)
    _ = run.results
    return run


def float32_run(case):
    return run_of((str(case.folder), case.name), False)
