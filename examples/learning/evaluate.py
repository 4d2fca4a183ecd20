"""What a trained network does on chains that it has not seen, with controls and baselines.

    python -m examples.learning.evaluate learning_output/run --records learning_output/records \\
        --output evaluation.json

For each validation chain all metrics after 0, 1 and 3 recycling passes and with altered alignments
(``controls``), all from the same weights; by depth of the alignment; pLDDT against lDDT; and the
same chains without any network (``baselines``).
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from examples.learning import baselines
from examples.learning.controls import CONTROLS, Raw
from records.durable import write_whole
from records.errors import InputError
from records.shards import SUFFIX
from tffold import geometry, metrics
from tffold.config_file import load_config
from tffold.data import pipeline
from tffold.data.reader import Damage, RecordSet
from tffold.geometry import rigid
from tffold.predict.models import Model, load_models

RECYCLES = (0, 1, 3)  # passes before the last, that are compared
DEPTHS = (1, 16, 64, 128, 256, 512)  # rows from which a class of alignments begins
BANDS = tuple(range(0, 100, 10))  # pLDDT from which a class of residues begins
_CA = 1  # atom37
Numbers = dict[str, float]


@dataclass(frozen=True)
class Passed:
    """One chain after ``recycles`` passes and one more.

    ``numbers`` are all metrics; ``plddt`` and ``lddt`` [L] 0..100, NaN where the truth is unknown;
    ``predicted`` and ``true`` Cα [L, 3] Å, superposed.
    """

    recycles: int
    numbers: Numbers
    plddt: np.ndarray
    lddt: np.ndarray
    predicted: np.ndarray
    true: np.ndarray


def recycled(model: Model, raw: Raw, wanted: Sequence[int]) -> Iterator[Passed]:
    """A chain after each of ``wanted`` recycling passes.

    As validation measures: whole chain, no masked letters.
    """
    config = model.config
    data = replace(config.data_for_model, mask_msa_in_inference=False)
    features = pipeline.inference_example(raw, data, num_recycle=max(wanted), labels=True)
    batch = {name: value[0] for name, value in features.items()}
    length = len(raw["aatype"])
    for number, (outputs, _) in enumerate(model.program.passes(model.weights, features)):
        if number not in wanted:
            continue
        plddt = np.asarray(metrics.predicted_lddt(outputs["predicted_lddt"]["logits"]))
        predicted, true, mask = (np.asarray(x) for x in metrics.ca_coordinates(outputs, batch))
        lddt = 100.0 * np.asarray(geometry.lddt_per_residue(predicted, true, mask))
        motion = rigid.expand(geometry.superpose(predicted, true, mask))
        yield Passed(
            recycles=number,
            numbers=metrics.chain_metrics(outputs, batch, config.model.heads),
            plddt=plddt[:length],
            lddt=np.where(mask > 0, lddt, np.nan)[:length],
            predicted=np.asarray(rigid.apply(motion, predicted))[:length],
            true=true[:length],
        )


def evaluate_chain(model: Model, raw: Raw, controls: Sequence[str]) -> dict[str, Any]:
    """One chain: ``numbers`` at the configuration's passes, and what they are otherwise.

    ``plddt`` and ``lddt`` are lists over residues in 0..100; ``recycles`` and ``controls`` have
    numbers by name; ``drawing`` has Cα for a picture.
    """
    usual = model.config.validation.num_recycle
    result: dict[str, Any] = {"residues": len(raw["aatype"]), "rows": len(raw["msa"])}
    result["recycles"], result["controls"] = {}, {}
    for one in recycled(model, raw, sorted({*RECYCLES, usual})):
        result["recycles"][str(one.recycles)] = one.numbers
        if one.recycles == usual:
            result |= {
                "numbers": one.numbers,
                "plddt": one.plddt.tolist(),
                "lddt": one.lddt.tolist(),
                "drawing": {
                    "predicted": one.predicted.tolist(),
                    "true": one.true.tolist(),
                    "known": np.isfinite(one.lddt).astype(int).tolist(),
                },
            }
    for name in controls:
        (one,) = recycled(model, CONTROLS[name](raw), [usual])
        result["controls"][name] = one.numbers
    return result


def mean(rows: Sequence[Mapping[str, float]]) -> dict[str, dict[str, float]]:
    """Of each number its mean over chains, that mean's standard error, and how many have it."""
    found = {}
    for name in sorted({name for row in rows for name in row}):
        values = np.array([row[name] for row in rows if np.isfinite(row.get(name, np.nan))])
        if len(values):
            error = values.std(ddof=1) / np.sqrt(len(values)) if len(values) > 1 else 0.0
            found[name] = {
                "mean": float(values.mean()), "error": float(error), "chains": len(values)
            }  # fmt: skip
    return found


def calibration(chains: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """pLDDT against lDDT-Cα, over residues in bands of ten and over chains; Pearson's r.

    ``mean_error`` of residues: the mean absolute difference, 0..100.
    """
    said = np.concatenate([np.asarray(chain["plddt"]) for chain in chains])
    true = np.concatenate([np.asarray(chain["lddt"]) for chain in chains])
    said, true = said[np.isfinite(true)], true[np.isfinite(true)]
    bands = []
    for low in BANDS:
        here = (said >= low) & (said < low + 10)
        if here.any():
            bands.append(
                {"from": low, "residues": int(here.sum()), "plddt": float(said[here].mean()),
                 "lddt": float(true[here].mean())}
            )  # fmt: skip
    means = np.array([[np.mean(chain["plddt"]), np.nanmean(chain["lddt"])] for chain in chains])
    return {
        "bands": bands,
        "mean_error": float(np.abs(said - true).mean()),
        "residue_correlation": correlation(said, true),
        "chain_correlation": correlation(means[:, 0], means[:, 1]),
    }


def correlation(first: np.ndarray, second: np.ndarray) -> float | None:
    """Pearson's r; None where one of the two does not vary."""
    if len(first) < 2 or first.std() == 0 or second.std() == 0:
        return None
    return float(np.corrcoef(first, second)[0, 1])


def by_depth(chains: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Means by the number of rows of the alignment."""
    classes = []
    for low, high in zip(DEPTHS, [*DEPTHS[1:], np.inf], strict=True):
        rows = [chain["numbers"] for chain in chains if low <= chain["rows"] < high]
        if rows:
            classes.append({"rows_from": low, "chains": len(rows), "mean": mean(rows)})
    return classes


def gallery(chains: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """The best, median and worst chain by lDDT-Cα, with coordinates to be drawn."""
    ranked = sorted(chains, key=lambda chain: -chain["numbers"]["lddt_ca"])
    places = {"best": 0, "median": (len(ranked) - 1) // 2, "worst": len(ranked) - 1}
    return [
        {"which": which}
        | {name: ranked[place][name] for name in ("chain", "residues", "rows")}
        | {name: ranked[place]["numbers"][name] for name in ("lddt_ca", "tm_score", "rmsd_ca")}
        | ranked[place]["drawing"]
        for which, place in places.items()
    ]


def summarise(chains: Sequence[Mapping[str, Any]], controls: Sequence[str]) -> dict[str, Any]:
    """Everything that is a mean over chains."""
    return {
        "mean": mean([chain["numbers"] for chain in chains]),
        "recycles": {
            number: mean([chain["recycles"][number] for chain in chains])
            for number in chains[0]["recycles"]
        },
        "controls": {
            name: mean([chain["controls"][name] for chain in chains]) for name in controls
        },
        "by_depth": by_depth(chains),
        "calibration": calibration(chains),
        "gallery": gallery(chains),
    }


def evaluate_baselines(train: Sequence[Raw] | Iterator[Raw], chains: Mapping[str, Raw]) -> Any:
    """Means, and by chain, of both baselines."""
    constant = baselines.Separations.of(train)
    scores: dict[str, dict[str, Numbers]] = {"constant": {}, "covariation": {}}
    for name, raw in chains.items():
        scores["constant"][name] = constant.scores(raw)
        scores["covariation"][name] = baselines.covariation_scores(raw)
    return {
        kind: {"mean": mean(list(of_chain.values())), "chains": of_chain}
        for kind, of_chain in scores.items()
    }


def _record_set(folder: Path) -> RecordSet:
    if not list(folder.glob(f"*{SUFFIX}")):
        raise InputError("no shards here", file=folder, mend="name tffold-convert's --output")
    return RecordSet([folder], Damage("raise"))


def main(arguments: Sequence[str] | None = None) -> int:
    """Entry point.  0: done; 2: bad input; 130: interrupted."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    add = parser.add_argument
    add("weights", help="a run folder, a checkpoint, an .npz, or 'none': baselines alone")
    add("--config", default="learning", help="its configuration (default %(default)s)")
    add("--records", type=Path, required=True, help="a folder with train and validation")
    add("--output", type=Path, required=True, help="the JSON to write")
    add("--controls", nargs="*", choices=tuple(CONTROLS), default=list(CONTROLS))
    add("--no-baselines", action="store_true")
    add("--quiet", action="store_true", help="no progress bar")
    add("overrides", nargs="*", metavar="key=value", help="settings of the configuration")
    options = parser.parse_intermixed_args(arguments)
    try:
        records = _record_set(options.records / "validation")
        found: dict[str, Any] = {"weights": options.weights}
        raws = {name: records.read(i) for i, name in enumerate(records.chain_id)}
        if options.weights != "none":
            config = load_config(options.config, options.overrides)
            (model,) = load_models({Path(options.config).stem: config}, [options.weights])
            raws = {
                name: raw
                for name, raw in raws.items()
                if len(raw["aatype"]) <= config.validation.max_length
            }
            chains = []
            for name, raw in tqdm(raws.items(), unit="chain", disable=options.quiet):
                chains.append({"chain": name} | evaluate_chain(model, raw, options.controls))
            found |= {"crc32c": f"{model.checksum:08x}", "passes": config.validation.num_recycle}
            found |= summarise(chains, options.controls)
            found["chains"] = [_short(chain) for chain in chains]
        if not options.no_baselines:
            train = _record_set(options.records / "train")
            every = (train.read(i) for i in range(len(train)))
            found["baselines"] = evaluate_baselines(every, raws)
        options.output.parent.mkdir(parents=True, exist_ok=True)
        write_whole(options.output, _json(rounded(found)))
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("interrupted: nothing is written", file=sys.stderr)
        return 130
    for line in summary_lines(found):
        print(line)
    return 0


def _short(chain: Mapping[str, Any]) -> dict[str, Any]:
    """What is kept of a chain: of recycling and controls the numbers that are shown."""

    def shown(of: Mapping[str, Numbers]) -> dict[str, Numbers]:
        return {
            kind: {name: numbers[name] for name in SHOWN if name in numbers}
            for kind, numbers in of.items()
        }

    kept = {name: value for name, value in chain.items() if name != "drawing"}
    return kept | {name: shown(chain[name]) for name in ("recycles", "controls")}


def _json(found: Mapping[str, Any]) -> str:
    """A line for each entry, and for each chain."""
    parts = []
    for name, value in found.items():
        text = json.dumps(value)
        if isinstance(value, list):
            text = "[\n" + ",\n".join(map(json.dumps, value)) + "\n]"
        parts.append(f"{json.dumps(name)}: {text}")
    return "{\n" + ",\n".join(parts) + "\n}\n"


def rounded(value: Any) -> Any:
    """With four decimals, and null for what is not finite: small files that JSON can hold."""
    if isinstance(value, Mapping):
        return {name: rounded(one) for name, one in value.items()}
    if isinstance(value, (list, tuple)):
        return [rounded(one) for one in value]
    if isinstance(value, float):
        return round(value, 4) if np.isfinite(value) else None
    return value


SHOWN = (
    "lddt_ca", "gdt_ts", "tm_score", "contact_precision_l5", "medium_contact_precision_l5",
)  # fmt: skip


def summary_lines(found: Mapping[str, Any]) -> Iterator[str]:
    """A table for people."""
    rows = {"network": found.get("mean")}
    rows |= {f"recycles {n}": means for n, means in found.get("recycles", {}).items()}
    rows |= found.get("controls", {})
    rows |= {name: one["mean"] for name, one in found.get("baselines", {}).items()}
    yield f"{'':<20}" + "".join(f"{name:>29}" for name in SHOWN)
    for name, means in rows.items():
        if means:
            shown = (
                f"{means[key]['mean']:>20.3f} ± {means[key]['error']:.3f}" if key in means else "-"
                for key in SHOWN
            )
            yield f"{name:<20}" + "".join(f"{text:>29}" for text in shown)


if __name__ == "__main__":
    sys.exit(main())
