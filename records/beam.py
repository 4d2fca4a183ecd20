"""The same conversion on Apache Beam, for Dask, Dataflow, Flink or Spark (extra ``[beam]``).

The conversion is cut into the parts of a job array (``--shard i/N``); each part is one element,
converted by the same function as everywhere, so the bytes are those of the job array.
Workers must see inputs and output under the same paths (a shared or mounted file system):
shards are renamed into place there, and a part that Beam tries again goes on where it
stopped.
"""

from __future__ import annotations

import multiprocessing
import os
import pickle
from collections.abc import Sequence
from dataclasses import replace

from records import paths
from records.engine import Conversion, run
from records.errors import InputError
from records.manifest import Summary

CONVERSION_NAME = ".conversion.pkl"
# Beam knows the runners of its own list by their short names; Dask's is not on it.
_RUNNERS = {"DaskRunner": "apache_beam.runners.dask.dask_runner.DaskRunner"}
_DASK_SIZES = ("--dask_partition_size", "--dask_npartitions")


def convert_part(part: int, parts: int, output: str, overwrite: bool) -> Summary:
    """Convert one part, on whatever machine, as the file in the output folder says.

    Raises InputError where this process may not start others: each file is converted in one.
    """
    if multiprocessing.current_process().daemon:
        raise InputError(
            "this worker of the cluster may not start processes",
            mend="start Dask's workers with 'dask worker --no-nanny'",
        )
    # Beam's graph could not hold the tasks of the whole PDB; the file is this program's own.
    conversion: Conversion = pickle.loads(paths.read_bytes(paths.join(output, CONVERSION_NAME)))
    return run(
        replace(conversion, part=part, parts=parts),
        output,
        workers=1,
        overwrite=overwrite,
        progress=False,
    )


def _arguments(runner: str, given: Sequence[str]) -> list[str]:
    """Beam's command line."""
    runner = _RUNNERS.get(runner, runner)
    arguments = [f"--runner={runner}", *given]
    if runner == _RUNNERS["DaskRunner"]:
        if not any(word.split("=")[0] in _DASK_SIZES for word in given):
            arguments.append("--dask_partition_size=1")  # else one worker gets 128 parts
    return arguments


def run_beam(
    conversion: Conversion,
    output: paths.Place,
    runner: str,
    parts: int,
    pipeline_args: Sequence[str] = (),
    overwrite: bool = False,
) -> Summary:
    """Run all parts on a Beam runner and return the counts over all of them.

    Raises InputError when Beam is not installed or the output is another conversion's.
    """
    try:
        import apache_beam as beam
        from apache_beam.options.pipeline_options import PipelineOptions
    except ImportError as error:
        raise InputError(
            "Apache Beam is not installed", mend="pip install 'tffold[beam]'"
        ) from error
    place = paths.tidy(output) if paths.is_url(output) else os.path.abspath(output)
    paths.make_folder(place)
    paths.write_whole(paths.join(place, CONVERSION_NAME), pickle.dumps(conversion))
    options = PipelineOptions(_arguments(runner, pipeline_args))
    with beam.Pipeline(options=options) as pipeline:
        _ = (
            pipeline
            | "Parts" >> beam.Create(list(range(parts)))
            | "Spread" >> beam.Reshuffle()
            | "Convert" >> beam.Map(convert_part, parts, place, overwrite)
        )
    # Finished parts answer from their summaries without converting anything.
    total = Summary()
    for part in range(parts):
        summary = convert_part(part, parts, place, False)
        total.written += summary.written
        total.rejected += summary.rejected
        total.reasons.update(summary.reasons)
        total.shards.update(summary.shards)
    paths.remove(paths.join(place, CONVERSION_NAME))
    return total
