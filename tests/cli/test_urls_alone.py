"""From structures to a prediction on real servers of stores: no path of this machine is given."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import servers
from processes import wait_until

from records import cli, paths
from tffold.weights import checkpoint

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]
DEMO = ROOT / "examples" / "demo"
CHAINS = ("1ubq_A", "1a8o_A", "4cup_A")
GS, S3 = f"gs://{servers.BUCKET}", f"s3://{servers.BUCKET}"
RUN = f"{GS}/run"
# A network that compiles in seconds, of which one head is trained.
TINY = """
    model.num_recycle=0 model.evoformer.num_block=1 model.structure_module.num_layer=1
    model.extra_msa_stack.num_block=1 model.template.enabled=false model.remat=false
    model.msa_channel=8 model.pair_channel=8 model.single_channel=8 model.extra_msa_channel=8
    loss.structure_module_weight=0 loss.masked_msa_weight=0 loss.predicted_lddt_weight=0
    train.freeze=[evoformer,structure_module,masked_msa_head,predicted_lddt_head]
    data.crop_size=16 data.max_msa_clusters=4 data.max_extra_msa=4 data.size_buckets=[80]
    data.train_filter.sample_by_length=false train.batch_size=1 train.log_every=1
    train.checkpoint_every=1 validation.num_recycle=0 validation.draw_count=0 predict.num_seeds=1
""".split()


@pytest.fixture(scope="module")
def environment(tmp_path_factory):
    """Both stores are filled and reached; an empty home, where nothing was kept before."""
    home = tmp_path_factory.mktemp("home")
    with servers.gcs_server() as gs, servers.s3_server() as s3:
        with servers.reached_by("gs", gs), servers.reached_by("s3", s3):
            for chain in CHAINS:
                name = f"{chain[:4]}.cif.gz"
                paths.upload(DEMO / "mmcif" / name, f"{GS}/mmcif/{name}")
                file = DEMO / "alignments" / chain / "uniref90_hits.sto.gz"
                paths.upload(file, f"{GS}/alignments/{chain}/a3m/{file.name}")
            paths.write_whole(f"{GS}/validation.txt", "1a8o_A\n")
            paths.write_whole(f"{S3}/query.fasta", ">short\nMKVLAAGIWQRSTNDEFYHCP\n")
            yield {
                **os.environ,
                "HOME": str(home),
                "XDG_CACHE_HOME": str(home),
                "PYTHONPATH": str(ROOT),
                "TF_CPP_MIN_LOG_LEVEL": "3",
            }


def start(environment, module, *words):
    assert not any(word.startswith(("/", ".", "~")) for word in words)
    return subprocess.Popen(
        [sys.executable, "-m", module, *words], env=environment, cwd=environment["HOME"],
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    )  # fmt: skip


def run(environment, module, *words):
    process = start(environment, module, *words)
    told, _ = process.communicate(timeout=600)
    assert process.returncode == 0, told[-3000:]
    return told


def test_convert_train_die_resume_validate_and_predict(environment, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", environment["HOME"])
    arguments = ["--mmcif", f"{GS}/mmcif", "--alignments", f"{GS}/alignments",
                 "--output", f"{S3}/data", "--validation-chains", f"{GS}/validation.txt",
                 "--workers", "1", "--quiet"]  # fmt: skip
    assert cli.main(arguments) == 0
    words = [
        "initial_training", f"data.train={S3}/data/train", f"data.validation={S3}/data/validation",
        f"train.run_dir={RUN}", *TINY,
    ]  # fmt: skip
    process = start(environment, "tffold.cli.fit", *words, "train.steps=1000")
    wait_until(lambda: len(checkpoint.steps_in(f"{RUN}/checkpoints")) > 1, process, 600)
    process.send_signal(signal.SIGKILL)
    process.communicate()

    last = checkpoint.load_latest(f"{RUN}/checkpoints").step
    assert not paths.exists(f"{RUN}/summary.json")
    more = f"train.steps={last + 2}", f"validation.every={last + 2}"
    told = run(environment, "tffold.cli.fit", *words, *more)
    assert f"resuming {RUN} at step {last}" in told
    assert json.loads(paths.read_text(f"{RUN}/summary.json"))["step"] == last + 2
    validated = f"{RUN}/validation/step-{last + 2:08d}"
    assert json.loads(paths.read_text(f"{validated}/validation.json"))["step"] == last + 2
    assert "1a8o_A" in paths.read_text(f"{validated}/chains.csv")

    run(
        environment, "tffold.cli.predict", f"{RUN}/config.yaml", "--params", RUN,
        "--input", f"{S3}/query.fasta", "--output", f"{GS}/predicted", "--single-sequence",
    )  # fmt: skip
    assert paths.read_text(f"{GS}/predicted/short/ranked_0.pdb").count(" CA ") == 21
