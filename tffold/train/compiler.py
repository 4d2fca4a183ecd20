"""``python -m tffold.train.compiler < REQUEST``: compiles a step into XLA's cache, trains nothing.

The request is JSON: ``config`` as in a checkpoint, and ``start_step``. See ``apart``.
"""

from __future__ import annotations

import json
import sys

import tensorflow as tf

from records.errors import InputError
from tffold import config_file
from tffold.train.run import prepare
from tffold.train.strategy import build_cluster
from tffold.train.task import alphafold_task


def main() -> None:
    """Takes one step on zeros, whose result nobody wants."""
    request = json.load(sys.stdin)
    config = config_file.from_dict(request["config"], "the configuration")
    start_step = request["start_step"]
    feed, trainer = prepare(config, alphafold_task(), build_cluster(config.train), start_step)
    specs = feed.spec(start_step)
    trainer.run_step({name: tf.zeros(spec.shape, spec.dtype) for name, spec in specs.items()})


if __name__ == "__main__":
    try:
        main()
    except InputError as error:
        sys.exit(f"error: {error}")
