"""The same conversion on Apache Beam, for Dataflow, Flink or Spark (extra ``[beam]``).

The conversion is cut into the parts of a job array (``--shard i/N``); each part is one element,
converted by the same function as everywhere, so the bytes are those of the job array.
Workers must see inputs and output under the same paths (a shared or mounted file system):
shards are renamed into place there, and a part that Beam tries again goes on where it
stopped.
"""

from __future__ import annotations

import os
import pickle
from collections.abc import Sequence
from dataclasses import replace

from records import paths
from records.engine import Conversion, run
from records.errors import InputError
from records.manifest import Summary

CONVERSION_NAME = ".conversion.pkl"


def convert_part(part: int, parts: int, output: str, overwrite: bool) -> Summary:
    """Convert one part, on whatever machine, as the file in the output folder says."""
    # Beam's graph could not hold the tasks of the whole PDB; the file is this program's own.
    conversion: Conversion = pickle.loads(paths.read_bytes(paths.join(output, CONVERSION_NAME)))
    return run(
        replace(conversion, part=part, parts=parts),
        output,
        workers=1,
        overwrite=overwrite,
        progress=False,
    )


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
    options = PipelineOptions([f"--runner={runner}", *pipeline_args])
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
