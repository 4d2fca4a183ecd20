"""Parameter files in DeepMind's format: every key, every bit, and clear errors."""

from __future__ import annotations

import json
import zipfile

import numpy as np
import pytest
from golden import COMPLEXES_FOLDER, GOLDEN_FOLDER, cases
from tiny import model_params, tiny_complexes_config, tiny_config

from records.errors import InputError
from tffold.model.alphafold import AlphaFold
from tffold.weights.npz import load_params, parameter_shapes, write_npz

ROOT = "alphafold/alphafold_iteration/"


@pytest.fixture(scope="module")
def model():
    return AlphaFold(tiny_config(), seed=1)


@pytest.fixture
def file(model, tmp_path):
    path = tmp_path / "params_model_1_ptm.npz"
    write_npz(path, model_params(model))
    return path


def changed(file, change):
    params = dict(np.load(file))
    change(params)
    np.savez(file, **params)
    return file


def test_keys_are_deepminds(model):
    """Depth and widths aside, a network's keys are those of the reference."""
    text = (GOLDEN_FOLDER / "case_a.expected.json").read_text()
    assert parameter_shapes(model).keys() == json.loads(text)["param_shapes"].keys()


def test_round_trip_is_bit_exact(model, file):
    before = model_params(model)
    other = AlphaFold(tiny_config(), seed=2)
    key = ROOT + "evoformer/preprocess_1d//weights"
    assert not np.array_equal(model_params(other)[key], before[key])
    load_params(file, other)
    after = model_params(other)
    assert after.keys() == before.keys()
    for name, value in before.items():
        assert after[name].dtype == value.dtype == np.float32
        assert after[name].tobytes() == value.tobytes(), name


def test_half_precision(model, tmp_path):
    """Half as large; read as float32, each number the nearest that float16 has."""
    params, file = model_params(model), tmp_path / "half.npz"
    write_npz(tmp_path / "whole.npz", params)
    write_npz(file, params, "float16")
    assert {array.dtype for array in np.load(file).values()} == {np.dtype("float16")}
    other = AlphaFold(tiny_config(), seed=2)
    load_params(file, other)
    for name, value in model_params(other).items():
        assert value.dtype == np.float32
        np.testing.assert_array_equal(value, params[name].astype("float16"))
    with pytest.raises(InputError, match="extra//large: does not fit into float16"):
        write_npz(file, {"extra//large": np.array([1e5], np.float32)}, "float16")


def test_written_files_are_plain_npz(model, file):
    names = {name.removesuffix(".npy") for name in zipfile.ZipFile(file).namelist()}
    assert names == parameter_shapes(model).keys()


def test_missing_unexpected_and_misshaped_keys_are_listed(model, file):
    gone = ROOT + "evoformer/preprocess_1d//bias"
    odd = ROOT + "evoformer/prev_pos_linear//weights"

    def change(params):
        del params[gone]
        params["extra//weights"] = np.zeros(3, np.float32)
        params[odd] = params[odd][:, 1:]

    before = model_params(model)
    with pytest.raises(InputError) as error:
        load_params(changed(file, change), model)
    message = str(error.value)
    assert str(file) in message
    assert f"1 missing: {gone}" in message
    assert "1 unexpected: extra//weights" in message
    assert f"{odd} is [15, 11], not [15, 12]" in message
    # Nothing was set.
    for name, value in model_params(model).items():
        np.testing.assert_array_equal(value, before[name])


def test_wrong_dtype(model, file):
    key = ROOT + "evoformer/preprocess_1d//bias"

    def change(params):
        params[key] = params[key].astype(np.float64)

    with pytest.raises(InputError, match=r"preprocess_1d//bias is float64, not float32"):
        load_params(changed(file, change), model)


def test_wrong_preset_names_the_fitting_ones(model, file):
    def change(params):
        for name in list(params):
            if "template" in name or "predicted_aligned_error" in name:
                del params[name]

    with pytest.raises(InputError, match="fitting presets: model_3, model_4, model_5"):
        load_params(changed(file, change), model)


@pytest.mark.parametrize(
    ("fuse_projections", "presets"),
    [
        (False, r"model_1_multimer, .*, model_5_multimer_v2$"),
        (True, r"model_1_multimer_v3, .*, model_5_multimer_v3$"),
    ],
)
def test_multimer_file(model, tmp_path, fuse_projections, presets):
    """Its keys are DeepMind's; bits come back as they were; a monomer's network refuses it."""
    config = tiny_complexes_config(fuse_projections=fuse_projections)
    complexes = AlphaFold(config, seed=3)
    path = tmp_path / "params_model_1_multimer.npz"
    before = model_params(complexes)
    if fuse_projections:
        (case,) = cases(COMPLEXES_FOLDER)
        assert before.keys() == case.description["param_shapes"].keys()
    write_npz(path, before)
    other = AlphaFold(config, seed=4)
    load_params(path, other)
    for name, value in model_params(other).items():
        assert value.tobytes() == before[name].tobytes(), name
    with pytest.raises(InputError, match="AlphaFold-Multimer .*fitting presets: " + presets):
        load_params(path, model)


def test_openfold_checkpoint(model, tmp_path):
    path = tmp_path / "openfold.pt"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("archive/data.pkl", b"\x80\x02.")
        archive.writestr("archive/version", b"3")
    with pytest.raises(InputError, match=r"PyTorch checkpoint"):
        load_params(path, model)


def test_truncated_file(model, file):
    data = file.read_bytes()
    file.write_bytes(data[: len(data) // 2])
    with pytest.raises(InputError, match=r"truncated"):
        load_params(file, model)


def test_flipped_byte(model, file):
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 0xFF
    file.write_bytes(data)
    with pytest.raises(InputError, match=r"damaged parameter file"):
        load_params(file, model)


def test_missing_and_foreign_files(model, tmp_path):
    with pytest.raises(InputError, match=r"no such parameter file"):
        load_params(tmp_path / "none.npz", model)
    path = tmp_path / "other.npz"
    np.savez(path, x=np.zeros(3))
    with pytest.raises(InputError, match="holds no AlphaFold parameters"):
        load_params(path, model)
