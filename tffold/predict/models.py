"""Trained models ready to predict: their weights, their compiled program, and one prediction."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import google_crc32c
import numpy as np
import tensorflow as tf

from records import paths
from records.errors import InputError
from tffold import metrics
from tffold.config import Config, ModelConfig
from tffold.data import pipeline
from tffold.inference import ForwardProgram
from tffold.model.alphafold import AlphaFold
from tffold.model.module import parameter_key
from tffold.structures.files import Structure
from tffold.weights import npz


@dataclass(frozen=True)
class Prediction:
    """One structure of L residues as a model with a seed predicts it.

    ``plddt`` [L] in 0..100; ``pae`` [L, L] Å and ``ptm``, None without that head;
    ``distogram`` [L, L, bins] logits, None once nobody needs them; ``changes`` Å, of each pass
    run; ``seconds`` by what they were spent on; ``compiled`` whether that took in the program's
    compilation.
    """

    name: str
    structure: Structure
    plddt: np.ndarray
    pae: np.ndarray | None
    max_pae: float
    ptm: float | None
    distogram: np.ndarray | None
    changes: tuple[float, ...]
    seconds: Mapping[str, float]
    compiled: bool

    @property
    def mean_plddt(self) -> float:
        return float(self.plddt.mean())

    def score(self, rank_by: str) -> float:
        """What predictions are ranked by.

        Raises:
          InputError: ``ptm`` without the head for it.
        """
        if rank_by == "plddt":
            return self.mean_plddt
        if self.ptm is None:
            raise InputError(
                "has no predicted-aligned-error head", item=self.name, mend="rank by plddt"
            )
        return self.ptm


@dataclass(frozen=True)
class Model:
    """A configuration with its weights.

    ``checksum`` is of the weights, ``source`` the file or folder they are from.
    """

    name: str
    config: Config
    source: str
    checksum: int
    weights: Sequence[tf.Tensor]
    program: ForwardProgram

    def predict(self, raw: Mapping[str, Any], seed: int, name: str) -> Prediction:
        """The structure of one chain from its raw features; randomness is that of ``seed``.

        Raises:
          InputError: the network's result is not finite.
        """
        start = time.monotonic()
        settings = self.config.predict
        samples = (self.config.model.num_recycle + 1) * settings.num_ensemble
        features = pipeline.inference_example(
            raw, self.config.data_for_model, num_recycle=samples - 1, seed=seed
        )
        prepared = time.monotonic()
        compiled = self.program.num_compiled
        outputs, changes = self.program.predict(
            self.weights,
            features,
            num_ensemble=settings.num_ensemble,
            tolerance=settings.recycle_tolerance,
        )
        seconds = {"features": prepared - start, "network": time.monotonic() - prepared}
        new = self.program.num_compiled > compiled
        return self._prediction(name, raw, outputs, changes, seconds, new)

    def _prediction(
        self,
        name: str,
        raw: Mapping[str, Any],
        outputs: Mapping[str, Any],
        changes: Sequence[float],
        seconds: Mapping[str, float],
        compiled: bool,
    ) -> Prediction:
        """The outputs without the padding, and what the network says of itself."""
        real = slice(len(raw["aatype"]))
        heads = self.config.model.heads
        plddt = np.asarray(metrics.predicted_lddt(outputs["predicted_lddt"]["logits"][real]))
        positions = outputs["structure_module"]["final_atom_positions"][real]
        if not (np.isfinite(positions).all() and np.isfinite(plddt).all()):
            raise InputError(
                "the network's prediction is not finite",
                file=self.source,
                mend="these weights are damaged or diverged: use others",
            )
        pae = ptm = None
        if heads.predicted_aligned_error:
            logits = outputs["predicted_aligned_error"]["logits"][real, real]
            pae = np.asarray(metrics.predicted_aligned_error(logits, heads))
            every = np.ones(len(pae), np.float32)
            ptm = float(metrics.predicted_tm_score(logits, every, heads))
        structure = Structure(
            aatype=np.asarray(raw["aatype"]),
            atom_positions=positions,
            atom_mask=outputs["structure_module"]["final_atom_mask"][real],
            residue_index=np.asarray(raw["residue_index"]) + 1,
            b_factors=np.zeros(positions.shape[:2], np.float32),
        ).with_b_factors(plddt)
        return Prediction(
            name=name,
            structure=structure,
            plddt=plddt,
            pae=pae,
            max_pae=metrics.max_aligned_error(heads),
            ptm=ptm,
            distogram=outputs["distogram"]["logits"][real, real],
            changes=tuple(changes),
            seconds=seconds,
            compiled=compiled,
        )


def load_models(
    configs: Mapping[str, Config], sources: Sequence[str], raw: bool = False
) -> list[Model]:
    """Models of named configurations with their parameters.

    Models of one architecture share a compiled program, as weights are its arguments.

    Args:
      sources: one for each configuration, or one for all: an ``.npz`` like DeepMind's, a
        checkpoint, a run folder, or a folder of ``params_<configuration's name>.npz``.
      raw: of a checkpoint the weights themselves, not their moving average.

    Raises:
      InputError: parameters that cannot be read or do not fit their configuration.
    """
    if len(sources) not in (1, len(configs)):
        raise InputError(
            f"{len(sources)} --params for {len(configs)} configurations",
            mend="name one for each, or one folder with all of them",
        )
    chosen = list(sources) * len(configs) if len(sources) == 1 else list(sources)
    programs: list[tuple[ModelConfig, ForwardProgram]] = []
    models = []
    for (name, config), given in zip(configs.items(), chosen, strict=True):
        source = _parameter_file(given, name)
        values = npz.read_any(source, raw)
        program = next((p for c, p in programs if c == config.model), None)
        if program is None:
            program = ForwardProgram(AlphaFold(config.model))
            programs.append((config.model, program))
        npz.check(values, program.network, source)
        ordered = [values[parameter_key(v.path)] for v in program.network.trainable_variables]
        checksum = 0
        for array in ordered:
            checksum = google_crc32c.extend(checksum, np.ascontiguousarray(array).tobytes())
        weights = [tf.constant(array) for array in ordered]
        models.append(Model(name, config, source, checksum, weights, program))
    return models


def _parameter_file(source: str, name: str) -> str:
    """The file of this name in a folder that holds such files; else the source itself."""
    inside = paths.join(source, f"params_{name}.npz")
    if source.endswith(".npz"):
        return source
    if paths.is_file(inside):
        return inside
    entries = paths.list_folder(source) if paths.is_folder(source) else []
    others = [e.name for e in entries if e.name.startswith("params_") and e.name.endswith(".npz")]
    if others:
        raise InputError(
            f"no {paths.name(inside)} here", file=source, mend=f"there are {', '.join(others[:5])}"
        )
    return source
