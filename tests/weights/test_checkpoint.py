"""Checkpoints survive what disks and people do to them."""

from __future__ import annotations

import errno
import json
import os
import uuid
from pathlib import Path

import google_crc32c
import numpy as np
import pytest
from listening import listening
from safetensors.numpy import load_file, save_file

from records import paths
from tffold.weights import checkpoint
from tffold.weights.checkpoint import CheckpointError


def arrays(step: int) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(step)
    return {
        "weights/a": rng.normal(size=(3, 4)).astype("float32"),
        "weights/empty": np.zeros((0, 2), "float32"),
        "step": np.int32(step),
    }


def save(folder, step, keep=3):
    return Path(checkpoint.save(folder, step, arrays(step), {"samples": step * 4}, keep))


def test_round_trip_is_exact(tmp_path):
    loaded = checkpoint.load(save(tmp_path, 7))
    assert loaded.step == 7 and loaded.description["samples"] == 28
    for name, value in arrays(7).items():
        assert (loaded.arrays[name].dtype, loaded.arrays[name].shape) == (value.dtype, value.shape)
        np.testing.assert_array_equal(loaded.arrays[name], value)
    assert loaded.description["versions"]["numpy"] == np.__version__


def test_only_the_last_are_kept(tmp_path):
    for step in (1, 20, 3, 100_000_000):
        save(tmp_path, step, keep=2)
    assert checkpoint.steps_in(tmp_path) == [20, 100_000_000]


def test_a_later_one_pushes_out_nothing(tmp_path):
    for step in (4, 6, 8):
        save(tmp_path, step)
    save(tmp_path, 5, keep=1)  # 6 and 8 were damaged: the run went back to 4
    assert checkpoint.steps_in(tmp_path) == [5, 6, 8]
    checkpoint.remove_others(tmp_path / checkpoint.folder_name(5))
    assert checkpoint.steps_in(tmp_path) == [5]


def test_a_folder_of_checkpoints_is_found_like_a_run(tmp_path):
    for folder in (tmp_path / "checkpoints", tmp_path / "best"):
        save(folder, 5)
    assert checkpoint.load_any(tmp_path).path == str(tmp_path / "checkpoints/step-00000005")
    assert checkpoint.load_any(tmp_path / "best").path == str(tmp_path / "best/step-00000005")
    assert checkpoint.load_any(tmp_path / "nothing") is None


def test_saving_a_step_again_replaces_it(tmp_path):
    save(tmp_path, 5)
    checkpoint.save(tmp_path, 5, {"x": np.ones(2)}, {}, 3)
    assert list(checkpoint.load(tmp_path / "step-00000005").arrays) == ["x"]


def flip_byte(path, at):
    data = bytearray(path.read_bytes())
    data[at] ^= 1
    path.write_bytes(data)


def flip_array(folder):
    flip_byte(folder / "arrays.safetensors", -2)


def flip_header(folder):
    flip_byte(folder / "arrays.safetensors", 9)


def flip_description(folder):
    text = (folder / "checkpoint.json").read_text()
    (folder / "checkpoint.json").write_text(text.replace('"samples": 8', '"samples": 9'))


def cut_description(folder):
    text = (folder / "checkpoint.json").read_text()
    (folder / "checkpoint.json").write_text(text[: len(text) // 2])


def cut_arrays(folder):
    data = (folder / "arrays.safetensors").read_bytes()
    (folder / "arrays.safetensors").write_bytes(data[:-1])


def remove_arrays(folder):
    (folder / "arrays.safetensors").unlink()


def remove_description(folder):
    (folder / "checkpoint.json").unlink()


@pytest.mark.parametrize(
    "damage",
    [
        flip_array,
        flip_header,
        flip_description,
        cut_description,
        cut_arrays,
        remove_arrays,
        remove_description,
    ],
)
def test_damage_falls_back_to_the_one_before_and_says_so(tmp_path, damage):
    save(tmp_path, 1)
    damage(save(tmp_path, 2))
    with listening() as said:
        loaded = checkpoint.load_latest(tmp_path)
    assert loaded.step == 1
    assert len(said) == 1 and "step-00000002" in said[0] and "falling back" in said[0]


def test_another_format_is_refused_with_what_to_do(tmp_path):
    """Not passed over for an older one: that would be of the same format, or further back."""
    save(tmp_path, 1)
    file = save(tmp_path, 2) / "checkpoint.json"
    for other in (1, checkpoint.FORMAT + 1):
        file.write_text(json.dumps(json.loads(file.read_text()) | {"format": other}))
        told = rf"step-00000002: .*format {other},.*formats 2 to 3.*init_"
        for read in (checkpoint.load_latest, checkpoint.load_any):
            with pytest.raises(CheckpointError, match=told):
                read(tmp_path)


def test_the_format_before_is_read(tmp_path):
    """Format 2, written here by others' means: all arrays in one file, and nothing says so."""
    folder = tmp_path / "step-00000007"
    folder.mkdir()
    held = {name: np.asarray(value) for name, value in arrays(7).items()}
    save_file(held, folder / "arrays.safetensors")
    sums = {name: google_crc32c.value(value.tobytes()) for name, value in arrays(7).items()}
    body = {"format": 2, "step": 7, "samples": 28, "versions": {}, "arrays": sums}
    body["crc32c"] = google_crc32c.value(json.dumps(body, sort_keys=True).encode())
    (folder / "checkpoint.json").write_text(json.dumps(body))
    url = f"memory://{uuid.uuid4().hex}/step-00000007"
    for file in folder.iterdir():
        paths.upload(file, f"{url}/{file.name}")
    for place in (folder, url):
        loaded = checkpoint.load(place)
        assert (loaded.step, loaded.description["samples"]) == (7, 28)
        for name, value in arrays(7).items():
            np.testing.assert_array_equal(loaded.arrays[name], value)


def test_arrays_can_be_read_without_tffold(tmp_path):
    found = load_file(save(tmp_path, 7) / "arrays.safetensors")
    assert found.keys() == arrays(7).keys()
    np.testing.assert_array_equal(found["weights/a"], arrays(7)["weights/a"])


def test_all_damaged_is_an_error(tmp_path):
    flip_array(save(tmp_path, 1))
    with pytest.raises(CheckpointError, match="none of its 1"):
        checkpoint.load_latest(tmp_path)


def test_no_checkpoint_yet(tmp_path):
    assert checkpoint.load_latest(tmp_path / "nothing") is None


def test_a_full_disk_leaves_the_last_good_one(tmp_path, monkeypatch):
    save(tmp_path, 1)

    def full(descriptor):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        with pytest.raises(CheckpointError, match=r"No space left.*intact"):
            save(tmp_path, 2)
    assert [entry.name for entry in tmp_path.iterdir()] == ["step-00000001"]
    assert checkpoint.load_latest(tmp_path).step == 1


def test_bytes_are_told_when_they_are_written_and_not_before():
    """By what was told the time is reckoned that the rest takes."""
    done = []

    class File:
        def write(self, data):
            done.append("written" if len(data) < 9 else "full")
            if len(data) >= 9:
                raise OSError(errno.ENOSPC, "full")

    heard = checkpoint._Heard(File(), lambda count: done.append(count))
    heard.write(b"four")
    with pytest.raises(OSError):
        heard.write(b"more than it holds")
    assert done == ["written", 4, "full"]


def test_what_a_killed_save_left_is_no_checkpoint_and_goes(tmp_path):
    left = tmp_path / ".step-00000009.4242.partial"
    left.mkdir()
    (left / "arrays.safetensors").write_bytes(b"half")
    assert checkpoint.load_latest(tmp_path) is None
    save(tmp_path, 10)
    assert not left.exists()
