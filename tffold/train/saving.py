"""A trainer's state to and from checkpoints; weights to start from."""

from __future__ import annotations

import logging

import keras
import numpy as np

from records import paths
from records.errors import InputError
from tffold import config_file
from tffold.config import Config
from tffold.train.task import Task
from tffold.train.trainer import AlphaFoldTrainer
from tffold.train.validation import Progress
from tffold.weights import checkpoint

_LOG = logging.getLogger(__name__)
VALIDATION = "validation"  # in a checkpoint: how far it has come
# What this run calls so, another may have as one of these: what is frozen in one may be trained in
# the other. A weight to be frozen is taken as its average, as it was validated.
_SOURCES = {
    checkpoint.PARAMETERS: (checkpoint.PARAMETERS, checkpoint.FROZEN),
    checkpoint.AVERAGE: (checkpoint.AVERAGE, checkpoint.FROZEN),
    checkpoint.FROZEN: (checkpoint.AVERAGE, checkpoint.FROZEN),
}


def copy_state(trainer: AlphaFoldTrainer) -> dict[str, np.ndarray]:
    """The trainer's whole state as it is now, in this host's memory."""
    return {name: keras.ops.convert_to_numpy(variable) for name, variable in trainer.named_state()}


def describe_state(step: int, config: Config, progress: Progress) -> dict[str, object]:
    """What a checkpoint says of the state after ``step`` steps."""
    return {
        "samples": step * config.train.batch_size,
        "seed": config.train.seed,
        "config": config_file.to_dict(config),
        VALIDATION: progress.to_json(),
    }


def restore(trainer: AlphaFoldTrainer, saved: checkpoint.Checkpoint) -> None:
    """Puts a checkpoint's every array back.

    Raises:
      CheckpointError: it does not hold exactly this model's state.
    """
    state = dict(trainer.named_state())
    odd = sorted(state.keys() ^ saved.arrays.keys())
    frozen = [name for name in odd if name.startswith(f"{checkpoint.FROZEN}/")]
    if frozen:
        raise checkpoint.CheckpointError(
            f"{saved.path}: '{frozen[0].partition('/')[2]}' is frozen either here or there, not in "
            "both; set train.freeze as it was, or begin another run with train.init_from"
        )
    if odd:
        raise checkpoint.CheckpointError(f"{saved.path}: does not fit the model: '{odd[0]}'")
    for name, variable in state.items():
        _assign(variable, saved.arrays[name], f"{saved.path}: '{name}'")


def start_from(trainer: AlphaFoldTrainer, source: str, task: Task) -> tuple[int, list[str]]:
    """Weights, and nothing else, from DeepMind's ``.npz``, a checkpoint or a run folder.

    Of a checkpoint both the weights and their average are taken; new modules keep their
    initial values, and are named in the log.

    Returns the step they were saved at (0 if that is unknown), and the new modules' parameters.
    """
    path = paths.tidy(source)
    state = trainer.state_variables
    if path.endswith(".npz"):
        task.load_npz(trainer.network, path)
        for parameter, average in zip(state.parameters, state.average, strict=True):
            average.assign(parameter)
        _LOG.info("starting from the parameters in %s", path)
        _warn_of_other_form(trainer, path, None)
        return 0, []
    saved = checkpoint.load_any(path)
    if saved is None:
        raise InputError(f"{path}: neither a checkpoint nor a run with one (train.init_from)")
    kept = []
    for name, variable in trainer.named_state():
        kind, _, parameter = name.partition("/")
        sources = [f"{source}/{parameter}" for source in _SOURCES.get(kind, ())]
        found = next((source for source in sources if source in saved.arrays), None)
        if found is not None:
            _assign(variable, saved.arrays[found], f"{saved.path}: '{found}'")
        elif kind in (checkpoint.PARAMETERS, checkpoint.FROZEN):
            kept.append(parameter)
    _LOG.info("starting from the weights in %s", saved.path)
    _warn_of_other_form(trainer, saved.path, saved.description.get("config"))
    if kept:
        _LOG.info("not there, so newly drawn: %s", ", ".join(kept))
    return saved.step, kept


def _warn_of_other_form(trainer: AlphaFoldTrainer, path: str, config: dict | None) -> None:
    """Tells that weights were trained in another form of the model, which their shapes don't show.

    ``config`` is that of the run that made them; None: DeepMind's code did, as far as one can see.
    """
    key = "outer_product_divides_first"
    ours = getattr(trainer.training_step.config.model, key)
    theirs = (config or {}).get("model", {}).get(key, False)
    if ours == theirs:
        return
    maker = "the run that made them" if config else "DeepMind's code"
    unless = "" if config else " (or leave it, if the file was exported from a run that had it so)"
    _LOG.warning(
        "%s: %s trained these weights with model.%s=%s, this configuration has it %s: the network "
        "computes something else with them; set it to %s%s",
        path,
        maker,
        key,
        *(str(value).lower() for value in (theirs, ours, theirs)),
        unless,
    )


def _assign(variable: keras.Variable, value: object, item: str) -> None:
    if tuple(variable.shape) != value.shape:
        raise checkpoint.CheckpointError(
            f"{item} has shape {value.shape}, the model wants {tuple(variable.shape)}"
        )
    variable.assign(value)
