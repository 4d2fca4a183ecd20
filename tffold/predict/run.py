"""Predicting many targets with several models: skips what is done, outlives what fails."""

from __future__ import annotations

import hashlib
import json
import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf
from tqdm import tqdm

from records import paths
from records.chains import Assembly
from records.errors import InputError
from records.paths import Place
from records.stores import MissingError
from records.uploads import whole_folder
from tffold import config_file
from tffold.config import DataConfig
from tffold.data.inputs import hhblits_to_restype
from tffold.pictures import plots
from tffold.predict import output
from tffold.predict.fasta import CHAIN_BREAK
from tffold.predict.models import Model, Prediction, chain_layout
from tffold.predict.targets import Target
from tffold.rules import rules
from tffold.structures.files import Structure

SUMMARY_FILE = "summary.json"

_LOG = logging.getLogger(__name__)
# What distillation adds to a target's folder: (folder, target, raw features, ranked predictions).
Extra = Callable[[Path, Target, Assembly, Sequence[Prediction]], None]


@dataclass
class Outcome:
    """What became of the targets: names, and for those that failed the reason."""

    predicted: list[str] = field(default_factory=list)
    skipped: list[str] = field(default_factory=list)
    failed: dict[str, str] = field(default_factory=dict)

    def line(self) -> str:
        return (
            f"{len(self.predicted)} predicted, {len(self.skipped)} there already, "
            f"{len(self.failed)} failed"
        )


@dataclass(frozen=True)
class Job:
    """How every target is predicted: models, relaxation and what else is to be written."""

    models: Sequence[Model]
    relax: str = "none"
    extra: Extra | None = None

    @property
    def settings(self) -> Any:
        """The first model's ``predict`` section is that of the run."""
        return self.models[0].config.predict

    def fingerprint(self, target: Target) -> str:
        """A hash of all that decides the result but the alignments' content."""
        parts: list[Any] = [target.identity, self.relax, self.extra is not None]
        for model in self.models:
            config = model.config
            parts += [model.name, model.checksum, asdict(config.model), asdict(config.predict)]
            read = rules(DataConfig)
            data = config_file.flatten(asdict(config.data)).items()
            parts.append({key: value for key, value in data if read[key].read_by_predict})
        return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


def predict_all(
    targets: Sequence[Target],
    job: Job,
    folder: Place,
    *,
    overwrite: bool = False,
    progress: bool = True,
) -> Outcome:
    """Every target's structures below ``folder``/<target>; a target that fails stops no other.

    Raises:
      InputError: ``folder`` cannot be written, or what no target could be relaxed without is
        missing.
    """
    if job.relax != "none":
        from tffold.structures import relax

        relax.require_openmm()
    try:
        paths.make_folder(folder)
    except OSError as error:
        raise InputError(f"cannot be made: {error.strerror}", file=folder) from None
    outcome = Outcome()
    bar = tqdm(total=len(targets), unit="target", disable=not progress)
    with bar:
        for target in targets:
            bar.set_postfix_str(f"{target.name} ({target.length})")
            target_folder = paths.join(folder, target.name)
            if not overwrite and finished(target_folder, job.fingerprint(target)):
                outcome.skipped.append(target.name)
            else:
                problem = _attempt(target, job, target_folder)
                if problem:
                    outcome.failed[target.name] = problem
                    _LOG.info("failed: %s", problem)
                else:
                    outcome.predicted.append(target.name)
            bar.update()
    summary = json.dumps(asdict(outcome), indent=1) + "\n"
    paths.write_whole(paths.join(folder, SUMMARY_FILE), summary)
    return outcome


def finished(folder: Place, fingerprint: str) -> bool:
    """Whether this folder holds what would be predicted.  Raises InputError: nobody can tell."""
    try:
        text = paths.read_text(paths.join(folder, output.RECORD))
        return json.loads(text)["fingerprint"] == fingerprint
    except InputError as error:
        if paths.is_url(folder) and not isinstance(error, MissingError):
            raise
        return False
    except (ValueError, KeyError, TypeError):
        return False


def _attempt(target: Target, job: Job, folder: Place) -> str:
    """Predict one target; why that failed, or ''."""
    try:
        predict_target(target, job, folder)
    except InputError as error:
        return str(error) if error.file else f"{target.source}: {error}"
    except tf.errors.ResourceExhaustedError:
        return (
            f"{target.source}: not enough memory for {target.length} residues "
            "(use smaller chunks, fewer alignment rows, or a larger machine)"
        )
    except tf.errors.OpError as error:
        return (
            f"{target.source}: TensorFlow failed: {error.message[:300]} "
            "(if it does so again, delete the folder of --compile-cache)"
        )
    except Exception as error:  # a bad target never stops the others
        return f"{target.source}: unexpected {type(error).__name__}: {str(error)[:500]}"
    return ""


def predict_target(target: Target, job: Job, final: Place) -> list[Prediction]:
    """One target with every model and seed: ranked, relaxed, written.  Raises InputError."""
    timings: dict[str, Any] = {}
    start = time.monotonic()
    raw = target.load()
    timings["alignments"] = time.monotonic() - start
    settings = job.settings
    predictions = []
    for model in job.models:
        for seed in range(settings.seed, settings.seed + settings.num_seeds):
            name = model.name if settings.num_seeds == 1 else f"{model.name}_seed_{seed}"
            one = model.predict(raw, seed, name)
            # As large as the network's largest results, and only distillation reads it.
            predictions.append(one if job.extra else replace(one, distogram=None))
            timings[f"features_{name}"] = one.seconds["features"]
            kind = "predict_and_compile" if one.compiled else "predict"
            timings[f"{kind}_{name}"] = one.seconds["network"]
    ranked = sorted(predictions, key=lambda p: -p.score(settings.rank_by))
    relaxed = {}
    if job.relax != "none":
        from tffold.structures.relax import relax

        for one in ranked if job.relax == "all" else ranked[:1]:
            begun = time.monotonic()
            relaxed[one.name] = relax(one.chains, settings.relax)
            timings[f"relax_{one.name}"] = time.monotonic() - begun
    msa = _alignment(raw) if settings.plots else None
    with whole_folder(final, output.RECORD) as folder:
        output.write_predictions(folder, target.name, ranked, relaxed, msa)
        if job.extra is not None:
            job.extra(folder, target, raw, ranked)
        timings["total"] = time.monotonic() - start
        rounded = {name: round(value, 3) for name, value in timings.items()}
        output.write_json(folder / "timings.json", rounded)
        output.write_json(folder / output.RECORD, _record(target, job, raw, ranked[0].chains))
    return ranked


def _alignment(raw: Assembly) -> np.ndarray:
    """The alignments of all chains [N, L] as they come out, in the batch's letters, to be drawn.

    The query of all chains is the first row; below it those of each sequence stand by themselves,
    the rows of its copies beside each other. Gaps are 21.
    """
    order = np.concatenate([rows for _, rows in chain_layout(raw)])
    sizes, entity = raw.chain_sizes, np.asarray(raw.entity_id)
    blocks = [hhblits_to_restype(one["msa"]).numpy() for one in raw.entities]
    result = [np.concatenate([blocks[number - 1][:1] for number in entity], axis=1)]
    for number, block in enumerate(blocks, start=1):
        rows = [
            block[1:] if own == number else np.full((len(block) - 1, size), plots.GAP)
            for own, size in zip(entity, sizes, strict=True)
        ]
        result.append(np.concatenate(rows, axis=1))
    return np.concatenate(result)[:, order]


def _record(target: Target, job: Job, raw: Assembly, chains: Sequence[Structure]) -> dict[str, Any]:
    """What was predicted, from what, with what."""
    return {
        "target": target.name,
        "source": target.source,
        "sequence": CHAIN_BREAK.join(chain.sequence for chain in chains),
        "chains": output.chains_json(chains),
        "alignment_rows": sum(len(entity["msa"]) for entity in raw.entities),
        "templates": sum(len(entity.get("template_aatype", ())) for entity in raw.entities),
        "models": [
            {"name": m.name, "parameters": m.source, "crc32c": f"{m.checksum:08x}"}
            for m in job.models
        ],
        "settings": asdict(job.settings),
        "relax": job.relax,
        "fingerprint": job.fingerprint(target),
    }
