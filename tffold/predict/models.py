"""Trained models ready to predict: their weights, their compiled program, and one prediction."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import google_crc32c
import numpy as np
import tensorflow as tf

from records import listing, paths
from records.chains import Assembly
from records.errors import InputError
from tffold import metrics
from tffold.config import Config, ModelConfig
from tffold.data import pipeline
from tffold.inference import ForwardProgram
from tffold.model.alphafold import AlphaFold
from tffold.model.module import parameter_key
from tffold.structures.files import CHAIN_LETTERS, Structure, chain_names
from tffold.weights import npz


@dataclass(frozen=True)
class Prediction:
    """One structure of L residues in one chain or more, as a model with a seed predicts it.

    ``plddt`` [L] in 0..100; ``pae`` [L, L] Å and ``ptm``, None without that head; ``iptm`` and
    ``pair_iptm``, by the names of two chains as if they were the whole, None with one chain too;
    ``distogram`` [L, L, bins] logits, None once nobody needs them; ``changes`` Å, of each pass
    run; ``seconds`` by what they were spent on; ``compiled`` whether that took in the program's
    compilation.
    """

    name: str
    chains: tuple[Structure, ...]
    plddt: np.ndarray
    pae: np.ndarray | None
    max_pae: float
    ptm: float | None
    iptm: float | None
    pair_iptm: Mapping[tuple[str, str], float] | None
    distogram: np.ndarray | None
    changes: tuple[float, ...]
    seconds: Mapping[str, float]
    compiled: bool

    @property
    def mean_plddt(self) -> float:
        return float(self.plddt.mean())

    @property
    def ranking_score(self) -> float | None:
        """0.8 ipTM + 0.2 pTM, of one chain pTM; None without the aligned-error head."""
        if self.ptm is None or self.iptm is None:
            return self.ptm
        return metrics.ranking_score(self.ptm, self.iptm)

    @property
    def borders(self) -> list[int]:
        """The first residues of all chains but the first."""
        return np.cumsum([len(chain.aatype) for chain in self.chains])[:-1].tolist()

    def score(self, rank_by: str) -> float:
        """What predictions are ranked by.

        Raises:
          InputError: ``ptm`` or ``iptm+ptm`` without the head for them.
        """
        if rank_by == "plddt":
            return self.mean_plddt
        if self.ptm is None:
            raise InputError(
                "has no predicted-aligned-error head", item=self.name, mend="rank by plddt"
            )
        return self.ptm if rank_by == "ptm" else self.ranking_score


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

    def predict(self, raw: Assembly, seed: int, name: str) -> Prediction:
        """The structure of a chain or complex from its raw features; randomness is of ``seed``.

        Raises:
          InputError: a complex, where the network does not know chains; or its result is not
            finite.
        """
        count = len(raw.entity_id)
        if count > 1 and not self.config.model.encode_chains:
            raise InputError(
                f"{count} chains, and {self.name} is a network for single chains",
                mend="use a configuration like model_1_multimer_v3",
            )
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
        raw: Assembly,
        outputs: Mapping[str, Any],
        changes: Sequence[float],
        seconds: Mapping[str, float],
        compiled: bool,
    ) -> Prediction:
        """The outputs without the padding, and what the network says of itself."""
        layout = chain_layout(raw)
        real = np.concatenate([rows for _, rows in layout])
        square = np.ix_(real, real)
        heads = self.config.model.heads
        plddt = np.asarray(metrics.predicted_lddt(outputs["predicted_lddt"]["logits"][real]))
        positions = outputs["structure_module"]["final_atom_positions"]
        if not (np.isfinite(positions[real]).all() and np.isfinite(plddt).all()):
            raise InputError(
                "the network's prediction is not finite",
                file=self.source,
                mend="these weights are damaged or diverged: use others",
            )
        letters = [letter for letter, _ in layout]
        chain = np.repeat(np.arange(len(layout)), [len(rows) for _, rows in layout])
        pae = ptm = iptm = pairs = None
        if heads.predicted_aligned_error:
            logits = outputs["predicted_aligned_error"]["logits"][square]
            pae = np.asarray(metrics.predicted_aligned_error(logits, heads))
            every = np.ones(len(pae), np.float32)
            ptm = float(metrics.predicted_tm_score(logits, every, heads))
            if len(layout) > 1:
                iptm = float(metrics.predicted_tm_score(logits, every, heads, chain))
                by_number = metrics.iptm_by_pair(logits, chain, heads)
                pairs = {(letters[i], letters[j]): v for (i, j), v in by_number.items()}
        aatype = np.concatenate([raw.entities[entity - 1]["aatype"] for entity in raw.entity_id])
        mask = outputs["structure_module"]["final_atom_mask"]
        chains = [
            Structure(
                aatype=aatype[rows],
                atom_positions=positions[rows],
                atom_mask=mask[rows],
                residue_index=np.asarray(raw.features["residue_index"])[rows] + 1,
                b_factors=np.zeros(mask[rows].shape, np.float32),
                chain_id=letter,
            ).with_b_factors(plddt[chain == number])
            for number, (letter, rows) in enumerate(layout)
        ]
        return Prediction(
            name=name,
            chains=tuple(chains),
            plddt=plddt,
            pae=pae,
            max_pae=metrics.max_aligned_error(heads),
            ptm=ptm,
            iptm=iptm,
            pair_iptm=pairs,
            distogram=outputs["distogram"]["logits"][square],
            changes=tuple(changes),
            seconds=seconds,
            compiled=compiled,
        )


def chain_layout(raw: Assembly) -> list[tuple[str, np.ndarray]]:
    """How the chains of an assembly come out: names, and their residues' places in it.

    Each has the name that it has there if all can stand in files so, else A, B, C, ...; they are
    written in the order of their names, that is for sequences in the order in which they were
    given, though the network has copies of a sequence one after another.
    """
    sizes = raw.chain_sizes
    ends = np.cumsum(sizes)
    usual = chain_names(max(len(sizes), len(CHAIN_LETTERS)))
    given = list(raw.features.get("chain_names", ()))
    fits = len(set(given)) == len(sizes) and set(given) <= set(usual)
    names = given if fits else usual[: len(sizes)]
    rows = [np.arange(end - size, end) for size, end in zip(sizes, ends, strict=True)]
    return sorted(zip(names, rows, strict=True), key=lambda one: usual.index(one[0]))


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
    entries = listing.list_folder(source) if paths.is_folder(source) else []
    others = [e.name for e in entries if e.name.startswith("params_") and e.name.endswith(".npz")]
    if others:
        raise InputError(
            f"no {paths.name(inside)} here", file=source, mend=f"there are {', '.join(others[:5])}"
        )
    return source
