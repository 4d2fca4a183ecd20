"""Planning for a TPU: the lowered step is the training step, and libtpu compiles it."""

from __future__ import annotations

import json
import subprocess
import sys
from importlib import metadata

import pytest
import tensorflow as tf
from tiny import tiny_config

from records.errors import InputError
from tffold.cli import fit, predict
from tffold.config import Config, DataConfig, TrainConfig
from tffold.plan import report
from tffold.plan.hlo import Program
from tffold.plan.lower import lower_pass, lower_step
from tffold.train.task import alphafold_task

pytestmark = pytest.mark.slow


def installed(package: str) -> bool:
    return any(d.name.replace("-", "_") == package for d in metadata.distributions())


needs_libtpu = pytest.mark.skipif(not installed("jax"), reason="needs the extra [plan]")


def tiny(**model: object) -> Config:
    return Config(
        model=tiny_config(dropout=0.1, num_recycle=1, **model),
        data=DataConfig(crop_size=16, max_msa_clusters=8, max_extra_msa=8, max_templates=2),
        train=TrainConfig(batch_size=8),
    )


@pytest.fixture(scope="module")
def lowered():
    return lower_step(tiny(), alphafold_task(), local_batch=2)


@pytest.fixture(scope="module")
def once():
    return lower_step(tiny(), alphafold_task(), local_batch=1)


def test_the_step_lowers_with_static_shapes(lowered, once):
    assert lowered.num_parameters > 10_000
    assert "<=" not in lowered.text  # XLA's mark of a bounded dynamic dimension
    flops = [Program(step.text).cost().flops for step in (lowered, once)]
    assert flops[0] == pytest.approx(2 * flops[1], rel=1e-6)


@needs_libtpu
def test_libtpu_compiles_the_step():
    config = tiny(bfloat16=True)
    # One pass without templates: libtpu takes minutes over the whole step, however narrow.
    config.model.num_recycle = 0
    config.model.template.enabled = False
    plan = report.make_plan(config, alphafold_task(), "v5e:2x2")
    assert plan.fits
    assert (plan.cores, plan.local_batch) == (4, 2)
    assert "v5" in plan.compiled["kind"]
    assert plan.compiled["temporaries"] > 0
    # All of the state, and only it, is written in place.
    assert plan.compiled["in_place"] >= 16 * plan.num_parameters
    assert plan.flops > 0
    assert plan.moved > 0
    text = "\n".join(report.lines(plan, *report.chip_of("v5e")))
    assert "it fits" in text
    assert f"{plan.num_parameters:,}" in text


@needs_libtpu
def test_libtpu_compiles_a_pass_of_prediction():
    config = tiny()
    config.model.template.enabled = False
    plan = report.make_pass_plan(config, 16, "v5e:2x2")
    assert plan.fits
    assert plan.compiled["in_place"] == 0
    assert plan.total > 4 * plan.num_parameters
    assert plan.flops > 0
    assert plan.moved > 0


def test_a_pass_is_lowered_as_prediction_runs_it():
    """Samples of an ensemble are averaged in a loop; what they have in common is done once."""
    passes = {}
    for samples in (1, 2):
        config = tiny()
        config.predict.num_ensemble = samples
        passes[samples] = Program(lower_pass(config, 16).text).cost().flops
    assert 1.5 < passes[2] / passes[1] < 2.0


@pytest.mark.parametrize(
    ("lengths", "tried", "said", "fits"),
    [
        ((), [96, 64], "the longest that fits is 64", True),
        ((60, 64), [64], "64 residues", True),
        ((60, 90), [64, 96], "96 residues", False),
    ],
)
def test_prediction_is_planned_by_length(monkeypatch, caplog, lengths, tried, said, fits):
    """Chains are planned as they are padded; without a length the longest that fits is sought."""
    asked = []

    def plan(config, num_res, topology):
        asked.append(num_res)
        compiled = {"arguments": 2**28 * num_res, "in_place": 0, "outputs": 0}
        compiled |= {"temporaries": 0, "program": 0}
        large = {"needed": 2**34 + 1, "usable": 2**34}
        return report.Plan(compiled if num_res <= 64 else large, 0, 1, 1e12, 1e12)

    monkeypatch.setattr(report, "make_pass_plan", plan)
    config = tiny()
    config.data.size_buckets = [96, 128, 64, 256]  # in any order
    config.predict.max_length = 120
    with caplog.at_level("INFO", "tffold.plan.report"):
        assert report.plan_prediction(config, "v5e", lengths) == fits
    assert asked == tried
    assert said in caplog.text


@needs_libtpu
def test_a_program_too_large_says_how_large(tmp_path):
    @tf.function(autograph=False, jit_compile=True)
    def large(x):
        return tf.matmul(x, x)

    spec = tf.TensorSpec([60_000, 60_000])  # 14.4 GB, twice
    program = large.experimental_get_compiler_ir(spec)(stage="hlo_serialized")
    (tmp_path / "program").write_bytes(program)
    names = [str(tmp_path / "program"), "v5e:2x2", "0", str(tmp_path / "r"), str(tmp_path / "t")]
    subprocess.run([sys.executable, "-m", "tffold.plan.tpu", *names], check=True)
    result = json.loads((tmp_path / "r").read_text())
    assert result["needed"] > 28e9
    assert 14e9 < result["usable"] < 17.2e9
    plan = report.Plan(result, 0, 1, 1e12, 0.0)
    assert not plan.fits
    assert "does NOT fit" in "\n".join(report.lines(plan, *report.chip_of("v5e")))


def test_knobs_are_what_is_not_turned_yet():
    config = tiny()
    names = [name for name, _ in report.knobs(config)]
    assert names[:2] == ["model.remat=nested", "model.bfloat16=True"]
    assert names[-1] == "all of these"
    (together,) = [changed for name, changed in report.knobs(config) if name == "all of these"]
    assert together.model.bfloat16
    assert together.data.crop_size == 8
    assert not config.model.bfloat16  # a plan changes nothing
    assert "model.bfloat16=True" not in [name for name, _ in report.knobs(tiny(bfloat16=True))]
    for now, first in (("none", "all"), ("cheap", "all"), ("nested", None)):
        remat = [name for name, _ in report.knobs(tiny(remat=now)) if "remat" in name]
        assert remat == ([f"model.remat={first}"] if first else []), now


def test_a_sum_over_many_cores_sends_the_array_twice():
    chip = report.chip_of("v5e")[0]
    assert chip.sum_seconds(1e9, 1) == 0.0
    assert chip.sum_seconds(1e9, 2) == pytest.approx(1e9 / 200e9)  # one half there, one back
    assert chip.sum_seconds(1e9, 10**6) == pytest.approx(2e9 / 200e9, rel=1e-5)


@pytest.mark.parametrize("topology", ["v3:2x2", "v5e:two"])
def test_bad_topologies(topology, tmp_path):
    with pytest.raises(InputError, match=topology):
        chip, name = report.chip_of(topology)
        report._cores(name)


@pytest.mark.parametrize(("fits", "code"), [(True, 0), (False, fit.EXIT_DOES_NOT_FIT)])
def test_the_command_line_plans(monkeypatch, fits, code):
    asked = []

    def run(config, task, topology):
        asked.append((config.train.batch_size, topology))
        return fits

    monkeypatch.setattr(report, "run", run)
    arguments = ["configs/initial_training.yaml", "train.batch_size=4", "--plan", "v5e:2x2"]
    assert fit.main(arguments) == code
    assert asked == [(4, "v5e:2x2")]


@pytest.mark.parametrize(("fits", "code"), [(True, 0), (False, fit.EXIT_DOES_NOT_FIT)])
def test_the_command_line_plans_prediction(monkeypatch, fits, code):
    asked = []

    def plan(config, topology, residues):
        asked.append((config.data.max_extra_msa, topology, residues))
        return fits

    monkeypatch.setattr(report, "plan_prediction", plan)
    assert predict.main(["model_1", "--plan", "v5e", "--residues", "400", "500"]) == code
    assert asked == [(5120, "v5e", [400, 500])]


def test_only_a_plan_needs_no_input(capsys):
    assert predict.main(["model_1", "--output", "there"]) == predict.EXIT_INPUT
    assert "--input" in capsys.readouterr().err


def test_bfloat16_is_for_the_trunk_alone():
    """Products of the trunk are bfloat16; softmax, structure module, losses and update are not."""
    text = lower_step(tiny(bfloat16=True), alphafold_task(), local_batch=1).text
    products = {"bf16": 0, "f32": 0}
    for line in text.splitlines():
        kind = line.partition(" = ")[2].partition("[")[0]
        if " dot(" in line and "/group-evoformer_loop" in line:
            # The outer product mean counts rows in float32.
            products[kind] += "/outer_product_mean" not in line or kind == "bf16"
        if " dot(" in line and "/structure_module/" in line:
            assert kind == "f32", line
        if " exponential(" in line or " divide(" in line:
            assert kind != "bf16", line
    assert products["bf16"] > 10
    assert products["f32"] == 0
    outputs = text[text.index("entry_computation_layout") :].partition("->")[2].partition("\n")[0]
    assert "bf16" not in outputs


def test_blocks_more_are_no_line_more_to_compile(once):
    """The stacks are loops: their length is in the weights' shapes, not in the program."""
    config = tiny()
    config.model.evoformer.num_block += 3
    deeper = lower_step(config, alphafold_task(), local_batch=1)
    assert deeper.num_parameters > once.num_parameters
    assert deeper.instructions == once.instructions


@pytest.mark.skipif(not installed("tensorflow_tpu"), reason="needs the extra [tpu]")
def test_every_operation_has_a_tpu_kernel():
    config = tiny(bfloat16=True)
    lowered = lower_step(config, alphafold_task(), local_batch=2, platform="TPU")
    assert lowered.instructions > 1000
