"""What one call of ``tffold-predict`` does: targets and models found, predicted, judged."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence

from records.paths import Place
from tffold.config import Config
from tffold.predict.distill import Distillation
from tffold.predict.evidence import Evidences
from tffold.predict.models import load_models
from tffold.predict.run import Job, Outcome, predict_all
from tffold.predict.targets import find_targets

_LOG = logging.getLogger(__name__)


def predict(
    configs: Mapping[str, Config],
    sources: Sequence[str],
    inputs: Sequence[str],
    evidences: Evidences,
    output: Place,
    *,
    raw: bool = False,
    complexes: bool = False,
    relax: str = "none",
    distill: bool = False,
    reference: str = "",
    overwrite: bool = False,
    progress: bool = True,
) -> Outcome:
    """Predicts ``inputs`` with the models of ``configs`` and their parameters ``sources``.

    The first configuration's ``predict`` section is that of the run.  See ``load_models``,
    ``find_targets``, ``predict_all`` and ``Distillation`` for the arguments.

    Raises:
      InputError: what would fail for every target.
    """
    first = next(iter(configs.values()))
    limit, data = first.predict.max_length, first.data_for_model
    targets = find_targets(inputs, evidences, limit, complexes, data)
    distillation = Distillation.open(first, output, reference) if distill else None
    models = load_models(configs, sources, raw)
    job = Job(models, relax, distillation.write if distillation else None)
    outcome = predict_all(targets, job, output, overwrite=overwrite, progress=progress)
    _LOG.info(outcome.line())
    if distillation is not None:
        _LOG.info(distillation.finish(outcome.predicted + outcome.skipped))
    return outcome
