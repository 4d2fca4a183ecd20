"""The configuration loader: strict, layered, and clear about what is wrong."""

from __future__ import annotations

import dataclasses
import math
import re
from pathlib import Path

import pytest

from records.errors import InputError
from tffold import config_file
from tffold.config import Config
from tffold.config_file import load_config
from tffold.rules import rules

CONFIGS = Path(__file__).parents[1] / "configs"


def write(folder: Path, text: str, name: str = "run.yaml") -> Path:
    path = folder / name
    path.write_text(text)
    return path


def test_empty_sections_give_the_published_defaults(tmp_path):
    assert load_config(write(tmp_path, "train: {}")) == Config()


def test_file_then_override_win_over_defaults(tmp_path):
    path = write(tmp_path, "train: {steps: 7, learning_rate: 2e-3}\nmodel: {pair_channel: 16}")
    config = load_config(
        path, ["train.steps=50", "model.evoformer.num_block=2", "data.train=[a.tfrecord,b]"]
    )
    assert config.train.steps == 50
    assert config.train.learning_rate == 0.002
    assert config.model.pair_channel == 16
    assert config.model.evoformer.num_block == 2
    assert config.data.train == ["a.tfrecord", "b"]
    assert config.train.batch_size == Config().train.batch_size


def test_base_is_read_first_and_relative_to_its_reader(tmp_path):
    (tmp_path / "deep").mkdir()
    write(tmp_path, "train: {steps: 3, seed: 5}", "first.yaml")
    path = write(tmp_path / "deep", "base: ../first.yaml\ntrain: {steps: 4}")
    config = load_config(path)
    assert (config.train.steps, config.train.seed) == (4, 5)


def test_circular_base_is_refused(tmp_path):
    write(tmp_path, "base: b.yaml", "a.yaml")
    path = write(tmp_path, "base: a.yaml", "b.yaml")
    with pytest.raises(InputError, match="circle"):
        load_config(path)


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("train: {stepz: 1}", ["train.stepz", "train.steps"]),
        ("trian: {steps: 1}", ["'trian'", "'train'"]),
        ("model: {evoformer: {num_blocks: 1}}", ["model.evoformer.num_block'"]),
        ("train: {crop_size: 1}", ["train.crop_size", "data.crop_size"]),
        ("train: {steps: abc}", ["train.steps", "int", "'abc'"]),
        ("train: {steps: 1.5}", ["train.steps", "int", "1.5"]),
        ("train: {steps: true}", ["train.steps", "int", "True"]),
        ("train: {learning_rate: null}", ["train.learning_rate", "float", "None"]),
        ("data: {sample_msa: 3}", ["unknown key 'data.sample_msa'"]),
        ("data: {mask_msa_in_inference: 3}", ["data.mask_msa_in_inference", "bool"]),
        ("data: {train: 7}", ["data.train", "list[str]", "7"]),
        ("data: {train: [1]}", ["data.train", "list[str]"]),
        ("model: 3", ["'model' is a section"]),
        ("train: {steps: 1, steps: 2}", ["duplicate key steps"]),
        ("a: b: c", ["not valid YAML", "line 1"]),
        ("[1]", ["sections"]),
        ("train: {strategy: magic}", ["train.strategy", "mirrored", "magic"]),
        ("train: {steps: -1}", ["train.steps", "at least 0", "-1"]),
        ("train: {batch_size: 0}", ["train.batch_size", "at least 1"]),
        ("data: {clamp_prob: 1.1}", ["data.clamp_prob", "between 0 and 1"]),
        ("data: {masked_msa_profile_prob: 0.9}", ["data.masked_msa_uniform_prob", "exceed 1"]),
        ("data: {size_buckets: []}", ["data.size_buckets", "one size"]),
        ("data: {size_buckets: [64, 0]}", ["data.size_buckets", "at least 1"]),
        ("data: {service: 'host:5050'}", ["data.service", "grpc://host:5050"]),
        ("data: {service: 'grpc://host:0'}", ["data.service", "grpc://host:5050"]),
        ("data: {max_templates: 0}", ["model.template.enabled", "data.max_templates"]),
        ("train: {learning_rate: .nan}", ["train.learning_rate", "finite"]),
        (
            "model: {evoformer: {triangle_attention: {num_head: 3, key_dim: 32}}}",
            ["model.evoformer.triangle_attention.key_dim", "multiple"],
        ),
        ("train: {steps: '${train.nothing}'}", ["nothing"]),
    ],
)
def test_each_mistake_is_one_clear_line(tmp_path, text, parts):
    path = write(tmp_path, text)
    with pytest.raises(InputError) as caught:
        load_config(path)
    message = str(caught.value)
    assert "\n" not in message
    for part in [str(path), *parts]:
        assert part in message


@pytest.mark.parametrize(
    ("override", "part"),
    [
        ("train.stepz=1", "train.steps"),
        ("train.steps", "section.key=value"),
        ("=3", "section.key=value"),
        ("train.steps=many", "must be int"),
    ],
)
def test_wrong_override_names_itself(tmp_path, override, part):
    with pytest.raises(InputError) as caught:
        load_config(write(tmp_path, "{}"), [override])
    assert override in str(caught.value) and part in str(caught.value)


def test_missing_file(tmp_path):
    with pytest.raises(InputError, match="no such configuration file"):
        load_config(tmp_path / "none.yaml")


@pytest.mark.parametrize("name", ["inital_training", "configs/initial_trainin.yaml"])
def test_an_unknown_name_is_told_the_packaged_ones_nearest_first(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError) as caught:
        load_config(name)
    said = str(caught.value)
    assert said.startswith(f"{name}: ") and said.count("\n") == 0
    listed = said.rpartition(": ")[2].split(", ")
    assert listed[0] == "initial_training" and sorted(listed) == config_file.packaged()


def test_a_packaged_configuration_is_found_by_name_from_anywhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "model_3").mkdir()
    config = load_config("model_3", ["model.num_recycle=1"])
    assert not config.model.template.enabled and config.model.num_recycle == 1
    mine = load_config(write(tmp_path, "base: model_3\nmodel: {num_recycle: 1}"))
    assert mine == config
    assert config_file.packaged() == sorted(path.stem for path in CONFIGS.glob("*.yaml"))


def test_yaml_round_trip(tmp_path):
    config = load_config(write(tmp_path, "train: {steps: 9, learning_rate: 1e-05, seed: -3}"))
    again = load_config(write(tmp_path, config_file.to_yaml(config), "again.yaml"))
    assert again == config


def test_flatten_covers_every_leaf():
    flat = config_file.flatten(config_file.to_dict(Config()))
    assert flat["model.evoformer.triangle_attention.num_head"] == 4
    assert not any(dataclasses.is_dataclass(value) for value in flat.values())
    assert len(flat) > 100


@pytest.mark.parametrize("path", sorted(CONFIGS.glob("*.yaml")), ids=lambda path: path.name)
def test_bundled_configurations_load(path):
    load_config(path)


def test_stages_follow_the_papers_table():
    initial = load_config(CONFIGS / "initial_training.yaml")
    tuned = load_config(CONFIGS / "finetuning.yaml")
    ptm = load_config(CONFIGS / "finetuning_ptm.yaml")
    for stage, crop, rows, extra, rate, warmup in (
        (initial, 256, 128, 1024, 1e-3, 128_000),
        (tuned, 384, 512, 5120, 5e-4, 0),
        (ptm, 384, 512, 5120, 5e-4, 0),
    ):
        assert stage.data.crop_size == crop
        assert stage.data.max_msa_clusters == rows
        assert stage.data.max_extra_msa == extra
        assert stage.data.max_templates == 4
        assert stage.train.learning_rate == rate
        assert stage.train.warmup_samples == warmup
        assert stage.train.batch_size == 128
    assert (initial.loss.violation_weight, initial.loss.experimentally_resolved_weight) == (0, 0)
    assert (tuned.loss.violation_weight, tuned.loss.experimentally_resolved_weight) == (1.0, 0.01)
    assert not tuned.model.heads.predicted_aligned_error
    # Weights of our own divide first, in all their stages; released ones never.
    assert all(stage.model.outer_product_divides_first for stage in (initial, tuned, ptm))
    for path in CONFIGS.glob("model_*.yaml"):
        assert not load_config(path).model.outer_product_divides_first
    assert ptm.model.heads.predicted_aligned_error
    assert ptm.loss.predicted_aligned_error_weight == 0.1


NUMBERS = {
    key: value
    for key, value in config_file.flatten(config_file.to_dict(Config())).items()
    if isinstance((value or [""])[0] if isinstance(value, list) else value, (int, float))
    and not isinstance(value, bool)
}


def beyond(rule):
    """Numbers just outside a setting's bounds, and what is said of them."""
    yield rule.at_least - 1, "must be at least" if rule.at_most == math.inf else "must lie between"
    if rule.at_most < math.inf:
        yield rule.at_most + 1, "must lie between"
    if rule.below < math.inf:
        yield rule.below, "must be below"


@pytest.mark.parametrize("key", NUMBERS)
def test_every_number_has_bounds_that_are_checked(key):
    is_list, is_float = isinstance(NUMBERS[key], list), isinstance(NUMBERS[key], float)
    wrong = list(beyond(rules(Config)[key]))
    if is_float:
        wrong += [(math.nan, "must be finite"), (math.inf, "must be finite")]
    for value, said in wrong:
        value = float(value) if is_float else value
        tree = [value] if is_list else value
        for part in reversed(key.split(".")):
            tree = {part: tree}
        with pytest.raises(InputError, match=f"'{re.escape(key)}' {said}"):
            config_file.from_dict(tree, "here")


def test_every_setting_has_a_rule():
    assert list(rules(Config)) == list(config_file.flatten(config_file.to_dict(Config())))


def test_what_is_said_of_a_section_holds_for_its_settings():
    known = rules(Config)
    assert known["predict.relax.stiffness"].free_on_resume
    assert not known["loss.chi_weight"].free_on_resume
    assert known["loss.chi_weight"].compared and known["train.run_dir"].compared is False


@pytest.mark.parametrize("given", ["shards", "[shards]"])
def test_one_path_needs_no_list(tmp_path, given):
    written = load_config(write(tmp_path, f"data: {{train: {given}}}"))
    said = load_config(write(tmp_path, "{}"), [f"data.train={given}"])
    assert written.data.train == said.data.train == ["shards"]
    drawn = load_config(write(tmp_path, "{}"), ["validation.draw_chains=1ubq_A"])
    assert drawn.validation.draw_chains == ["1ubq_A"]


def test_templates_are_read_where_the_model_embeds_them():
    config = Config()
    assert config.data_for_model is config.data
    config.model.template.enabled = False
    assert config.data_for_model == dataclasses.replace(config.data, max_templates=0)


def test_a_network_that_knows_chains_wants_them(tmp_path):
    """And no other does."""
    assert load_config("model_1_multimer").data.max_chains == 8
    assert load_config("model_1_multimer_v3").data.max_chains == 20
    for base, changes, message in (
        ("model_1_multimer", "max_chains: 0", "data.max_chains.*at least 1.*encode_chains"),
        ("model_1", "max_chains: 8", "data.max_chains.*be 0.*encode_chains"),
        ("model_1", "complexes: shards", "data.complexes.*model_1_multimer"),
    ):
        path = write(tmp_path, f"{{base: {base}, data: {{{changes}}}}}")
        with pytest.raises(InputError, match=message):
            load_config(path)


@pytest.mark.parametrize("steps", ["100", "10:5", "a:b", "-1:4", "3:"])
def test_profiled_steps_must_make_sense(tmp_path, steps):
    with pytest.raises(InputError, match=r"train.profile.*100:110"):
        load_config(write(tmp_path, f"train: {{profile: '{steps}'}}"))


def test_profiled_steps_end_before_the_second():
    assert list(config_file.profiled_steps("7:9")) == [7, 8]
    assert list(config_file.profiled_steps("")) == []


def test_what_is_saved_by_the_clock_cannot_be_compared_first(tmp_path):
    settings = ["train.check_replicas_every=5", "train.checkpoint_every_seconds=9"]
    path = write(tmp_path, "{}")
    for alone in settings:
        load_config(path, [alone])
    with pytest.raises(InputError, match="checkpoint_every_seconds.*check_replicas_every"):
        load_config(path, settings)


def test_validation_needs_an_interval(tmp_path):
    with pytest.raises(InputError, match="validation.every"):
        load_config(write(tmp_path, "validation: {every: 0}"))


@pytest.mark.parametrize(("written", "meant"), [("true", "all"), ("false", "none")])
def test_recomputation_as_it_was_written_once_is_understood(written, meant, tmp_path):
    path = tmp_path / "old.yaml"
    path.write_text(f"model:\n  remat: {written}\n")
    assert load_config(path).model.remat == meant
    assert load_config("model_1", [f"model.remat={written}"]).model.remat == meant
