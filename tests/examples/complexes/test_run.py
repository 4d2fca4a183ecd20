"""From the bundled files to the sets of the example, and what it says of two evaluations."""

from __future__ import annotations

import json

import numpy as np
import pytest
from synthetic import data_of

from examples.complexes import run
from records import cli, example
from records.schema import RECORD_FEATURES
from tffold import config_file
from tffold.data import pipeline

CA = 1


@pytest.fixture(scope="module")
def called(tmp_path_factory):
    """The example with a stand-in for ``tffold-fit``: its folder, and the calls of it."""
    output, fits = tmp_path_factory.mktemp("example"), []

    def call(module, *arguments):
        words = list(map(str, arguments))
        if module == "records.cli":
            assert cli.main([*words, "--quiet"]) == 0
            return
        assert module == "tffold.cli.fit"
        fits.append(words)
        if "--validate" in words:
            folder = output / words[-1]
            found = [
                {"chain": name + turn, "dockq": 0.3 if folder.name == "before" else 0.9, "ics": 0.5}
                for name in run.ENTRIES
                for turn in ("", run.TURNED)
            ]
            path = folder / "validation" / "step-00000007" / "validation.json"
            path.parent.mkdir(parents=True)
            path.write_text(json.dumps({"chains": found}))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(run, "call", call)
        assert run.main(["--output", str(output), "train.steps=7"]) == 0
    return output, fits


@pytest.fixture(scope="module")
def sets(called):
    """By name the whole complexes, the small ones and the turned ones."""
    output, _ = called
    return {
        name: {
            found.features["chain_id"].removesuffix(run.TURNED): found
            for path in (output / name).rglob("*.tfrecord")
            for found in map(example.decode_assembly, data_of(path))
        }
        for name in ("records", "small", "turned")
    }


def contacts(assembly):
    """Pairs of residues of the first and of the second chain that have atoms within 5 Å."""
    first, second = run.residues_of_chains(assembly)
    places, mask = (assembly.features[f"all_atom_{name}"] for name in ("positions", "mask"))
    places = np.where(mask[..., None] > 0, places, np.nan)
    away = places[first][:, None, :, None] - places[second][None, :, None]
    near = np.linalg.norm(away, axis=-1) < 5.0
    return int(near.any((2, 3)).sum())


def test_what_is_near_the_other_chain_is_kept_whole(sets):
    assert [list(found) for found in sets.values()] == [list(run.ENTRIES)] * 3
    for name, small in sets["small"].items():
        whole = sets["records"][name]
        assert contacts(small) == contacts(whole) > 30
        assert sum(small.chain_sizes) < sum(whole.chain_sizes)
        for few, many in zip(small.entities, whole.entities, strict=True):
            assert len(few["msa"]) == min(run.ROWS, len(many["msa"]))
        rest = small.features["residue_index"]
        for chain, ids in zip(run.residues_of_chains(small), small.entity_id, strict=True):
            kept = rest[chain]
            assert (np.diff(kept) > 0).all()
            entity, source = small.entities[ids - 1], whole.entities[ids - 1]
            np.testing.assert_array_equal(entity["aatype"], source["aatype"][kept])
            np.testing.assert_array_equal(entity["msa"], source["msa"][: run.ROWS, kept])


def test_turned_complexes_are_the_same_in_the_other_order(sets):
    for name, small in sets["small"].items():
        again = run.turned(sets["turned"][name])
        assert again.entity_id == small.entity_id
        for feature in RECORD_FEATURES:
            one, other = again.features.get(feature), small.features.get(feature)
            if feature == "chain_id":
                one = one.replace(run.TURNED, "")
            np.testing.assert_array_equal(one, other, err_msg=feature)
    first, other = (sets[name]["4zhl"] for name in ("small", "turned"))
    assert other.chain_sizes == first.chain_sizes[::-1]
    assert other.features["chain_names"] == ["P", "U"]
    for name in ("all_atom_positions", "residue_index"):
        chains = np.split(first.features[name], [first.chain_sizes[0]])
        np.testing.assert_array_equal(other.features[name], np.concatenate(chains[::-1]))


def test_nothing_is_cropped_and_no_row_left_to_chance(called, sets):
    """So that the order of chains cannot matter."""
    output, fits = called
    settings = [word for word in fits[1][1:] if "=" in word]
    config = config_file.load_config(run.CONFIG, settings)
    batches = pipeline.training_dataset(
        config.data_for_model, num_recycle=0, batch_size=1, seed=0
    ).take(4)
    sizes = {int(batch["seq_length"].numpy()[0, 0]) for batch in batches}
    assert sizes == {sum(found.chain_sizes) for found in sets["small"].values()}
    rows = [sum(len(one["msa"]) for one in x.entities) for x in sets["small"].values()]
    assert max(rows) <= config.data.max_msa_clusters + 1  # of two queries one row is made
    assert not config.data.mask_msa_in_inference


def test_the_calls_and_what_is_told(called):
    output, fits = called
    runs = [(f"train.run_dir={output / name}") for name in ("before", "run")]
    assert [words[-1] for words in fits[:2]] == ["train.steps=1", runs[1]]
    assert [words[-2:] for words in fits[2:]] == [
        ["--validate", str(output / name)] for name in ("before", "run")
    ]
    assert all("train.steps=7" in words for words in fits)

    def scores(**dockq):
        return {
            name + turn: {"dockq": dockq.get(f"{which}{name}", 0.5), "ics": 0.5}
            for name in run.ENTRIES
            for which, turn in (("a", ""), ("b", run.TURNED))
        }

    lines, well = run.told(scores(), scores(a1a8o=0.6, b1a8o=0.6))
    assert well and [line.split()[0] for line in lines[1:5]] == list(scores())
    assert lines[1].split() == ["1a8o", "0.500", "0.600", "0.500", "0.500"]
    assert not run.told(scores(), scores(a4zhl=0.48, b4zhl=0.48))[1]
    assert not run.told(scores(), scores(b4zhl=0.51))[1]
    collapsed = {name: {**found, "ics": 0.2} for name, found in scores().items()}
    assert not run.told(scores(), collapsed)[1]
