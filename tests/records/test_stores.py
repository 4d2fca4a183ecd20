"""Conversion from and to real servers of stores, and through faults: the bytes of a local run."""

import itertools
import os
import re
import subprocess
import sys
import threading
import urllib.request
import zipfile

import pytest
import servers
from conversions import DEMO, WRITTEN, content, convert, manifest

from records import engine, listing, paths, shards, spool, stores
from records.arguments import build_parser
from records.cli import main, make_conversion
from records.errors import InputError
from records.sources import AlignmentRef, read_alignments
from records.tasks import make_tasks

SERVERS = {"s3": servers.s3_server, "gs": servers.gcs_server}


def fill(root):
    """The demonstration's chains as OpenProteinSet's bucket has them."""
    for path in sorted((DEMO / "mmcif").iterdir()):
        paths.upload(path, f"{root}/mmcif/{path.name}")
    for path in sorted((DEMO / "alignments").rglob("*")):
        if path.is_file():
            chain, folder = path.relative_to(DEMO / "alignments").parts[0], "a3m"
            if ".hhr" in path.name:
                folder = "hhr"
            paths.upload(path, f"{root}/pdb/{chain}/{folder}/{path.name}")


def far_content(place):
    """Every file below a folder on a store, by relative name."""
    return {
        file.place[len(place) + 1 :]: paths.read_bytes(file.place) for file in listing.find(place)
    }


@pytest.fixture(scope="module", params=["s3", "gs"])
def store(request):
    """A store with the chains, a proxy before it, and the URL of its bucket."""
    kind = request.param
    with SERVERS[kind]() as address, servers.proxy_to(address) as proxy:
        with servers.reached_by(kind, proxy.url):
            bucket = f"{kind}://{servers.BUCKET}"
            fill(bucket)
            yield proxy, bucket


@pytest.fixture
def clean(store):
    proxy, bucket = store
    yield store
    proxy.fault, proxy.delay, proxy.latency = (lambda request: None), 0.0, 0.0
    paths.remove(f"{bucket}/out")


def command(bucket, output, cache, *extra):
    return [
        "--mmcif", f"{bucket}/mmcif", "--alignments", f"{bucket}/pdb", "--output", str(output),
        "--quiet", "--workers", "1", "--cache-dir", str(cache), *extra,
    ]  # fmt: skip


def run(*arguments):
    """The command in a process of its own: its workers see the environment of now."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    command = [sys.executable, "-m", "records.cli", *arguments]
    return subprocess.run(command, env=environment, timeout=120).returncode


def plain(files):
    """Contents by name, the manifest's reasons and the fingerprint apart: they name places."""
    return {name: data for name, data in files.items() if ".tfrecord" in name}


def test_from_store_to_store_the_bytes_are_a_local_runs(clean, tmp_path, converted):
    proxy, bucket = clean
    proxy.requests.clear()
    proxy.most_in_flight, proxy.latency = 0, 0.02
    assert run(*command(bucket, f"{bucket}/out", tmp_path)) == 0
    assert plain(far_content(f"{bucket}/out")) == plain(content(converted))
    assert sorted(far_content(f"{bucket}/out")) == sorted(content(converted))
    assert proxy.most_in_flight > 4
    assert not list(tmp_path.glob("convert/*/read")), "what was read stays behind"
    assert run(*command(bucket, f"{bucket}/out", tmp_path)) == 0  # finished already


class Spoiler:
    """Something goes wrong with one request in five, in turn; tried again, it goes well.

    A fault that the request cannot have waits for the next that can.
    """

    def __init__(self):
        self.turns = itertools.cycle(("reset", 500, "truncated", 503, "slow", "stale"))
        self.due = []
        self.lock = threading.Lock()

    def __call__(self, request):
        able = {"truncated": request.is_content, "stale": request.is_listing}
        with self.lock:
            if request.number % 5 == 3:
                self.due.append(next(self.turns))
            fault = next((fault for fault in self.due if able.get(fault, True)), None)
            if fault is not None:
                self.due.remove(fault)
        return fault


def test_through_faults_nothing_is_lost(clean, tmp_path, converted):
    proxy, bucket = clean
    proxy.faults.clear()
    proxy.requests.clear()
    proxy.fault, proxy.delay = Spoiler(), 0.3
    assert run(*command(bucket, f"{bucket}/out", tmp_path)) == 0
    assert {"reset", "500", "truncated", "503", "slow", "stale"} <= set(proxy.faults)
    proxy.fault = lambda request: None
    assert plain(far_content(f"{bucket}/out")) == plain(content(converted))


EXPIRED = 400, [], b"<Error><Code>ExpiredToken</Code><Message>expired</Message></Error>"


def test_credentials_that_end_midway_end_the_run_and_cost_no_chain(clean, tmp_path, converted):
    """What cannot be read now is neither rejected nor left out: the same command goes on."""
    proxy, bucket = clean
    arguments = command(bucket, tmp_path / "out", tmp_path / "c")
    refusal = EXPIRED if bucket.startswith("s3") else 401
    proxy.fault = lambda request: refusal if "4cup.cif" in request.path else None
    assert run(*arguments) == 2
    assert not (tmp_path / "out" / "manifest.jsonl").exists()
    proxy.fault = lambda request: None
    assert run(*arguments) == 0
    assert plain(content(tmp_path / "out")) == plain(content(converted))


def test_a_killed_run_goes_on_on_another_host(clean, tmp_path, converted):
    """From the journal's pieces on the store: another host has nothing else."""
    proxy, bucket = clean
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    script = (
        "import os, signal, sys\n"
        "from records import journal_copy\n"
        "def send(self, real=journal_copy.JournalCopy.send):\n"
        "    real(self)\n"
        "    if self._count == 3: os.kill(os.getpid(), signal.SIGKILL)\n"
        "journal_copy.JournalCopy.send = send\n"
        "main(sys.argv[1:])\n"
    )
    whole = command(bucket, f"{bucket}/out", tmp_path / "one")
    ended = subprocess.run(
        [sys.executable, "-c", _SMALL_SHARDS + script, *whole], env=environment, timeout=120
    )
    assert ended.returncode == -9
    done = [file.place for file in listing.find(f"{bucket}/out/train")]
    assert len(done) == 4 and not paths.exists(f"{bucket}/out/summary.json")
    before = {place: paths.info(place).version for place in done}
    whole = command(bucket, f"{bucket}/out", tmp_path / "two")
    ended = subprocess.run(
        [sys.executable, "-c", _SMALL_SHARDS + "import sys\nsys.exit(main(sys.argv[1:]))", *whole],
        env=environment, timeout=120,
    )  # fmt: skip
    assert ended.returncode == 0
    assert {place: paths.info(place).version for place in done} == before, "written again"
    found = far_content(f"{bucket}/out")
    records = b"".join(found[n] for n in sorted(found) if n.endswith(".tfrecord"))
    (local,) = shards.find_shards([converted / "train"])
    assert records == local.read_bytes()
    assert not [name for name in found if "journal" in name]
    assert found["manifest.jsonl"].count(b'"written"') == 9


# Shards of 40 kB, so that the demonstration's chains fill several.
_SMALL_SHARDS = """
import records.cli as cli
from dataclasses import replace
real_make = cli.make_conversion
cli.make_conversion = lambda args: replace(real_make(args), shard_bytes=40_000)
from records.cli import main
"""


@pytest.fixture(scope="module")
def memory(tmp_path_factory):
    """The chains in memory, and the structures in an archive as well."""
    bucket = "memory://stores-end"
    fill(bucket)
    archive = tmp_path_factory.mktemp("zip") / "pdb_mmcif.zip"
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as file:
        for path in sorted((DEMO / "mmcif").iterdir()):
            file.write(path, f"pdb_mmcif/mmcif_files/{path.name}")
    paths.upload(archive, f"{bucket}/pdb_mmcif.zip")
    yield bucket, archive
    paths.remove(bucket)


@pytest.mark.parametrize("what", ["1a7g.cif", "4cup.cif", "1a8o_A/a3m/uniref90"])
def test_a_store_that_stays_away_ends_the_run(memory, tmp_path, converted, monkeypatch, what):
    bucket, _ = memory
    arguments = command(bucket, tmp_path / "out", tmp_path / "c")
    conversion = make_conversion(build_parser().parse_args(arguments))
    store = stores.filesystem(bucket)
    cat_file = store.cat_file

    def fail(key, *rest, **more):
        if what in key:
            raise ConnectionResetError("reset")
        return cat_file(key, *rest, **more)

    with monkeypatch.context() as patch:
        patch.setattr(stores, "WAITS", ())
        patch.setattr(store, "cat_file", fail)
        with pytest.raises(stores.UnreachableError, match=f"{bucket}/.*{what}.*does not answer"):
            engine.run(conversion, tmp_path / "out", workers=0, progress=False)
    summary = engine.run(conversion, tmp_path / "out", workers=0, progress=False)
    assert summary.written == len(WRITTEN)


def test_an_archive_of_structures_is_read_by_its_files(memory, tmp_path, converted):
    _, archive = memory
    arguments = ["--mmcif", str(archive), "--alignments", str(DEMO / "alignments")]
    out = tmp_path / "out"
    assert main([*arguments, "--output", str(out), "--quiet", "--workers", "1"]) == 0
    assert plain(content(out)) == plain(content(converted))


def test_a_file_of_an_archive_is_fetched_alone(memory, monkeypatch):
    bucket, archive = memory
    place = f"{bucket}/pdb_mmcif.zip"
    spool._directory.cache_clear()
    names = [file.place for file in spool.find(place)]
    read = []
    real = paths.read_bytes
    monkeypatch.setattr(paths, "read_bytes", lambda *a: read.append(a) or real(*a))
    data = spool.read(names[0])
    assert data == (DEMO / "mmcif" / names[0].rsplit("/", 1)[-1]).read_bytes()
    ((_, _, length),) = read
    assert length < len(data) + 2000 < archive.stat().st_size


@pytest.mark.parametrize("damage", ["directory", "place", "data", "claim"])
def test_a_damaged_archive_is_named(tmp_path, damage):
    archive = tmp_path / "a.zip"
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr("1abc.cif", b"x" * 5000)
    data = bytearray(archive.read_bytes())
    if damage == "directory":
        data = data[:-30]
    elif damage == "place":
        data[0] = 0
    elif damage == "data":
        data[45] ^= 255
    else:  # more than it holds
        at = data.index(b"PK\x01\x02") + 24
        data[at : at + 4] = (10_000).to_bytes(4, "little")
    archive.write_bytes(data)
    spool._directory.cache_clear()
    with pytest.raises(InputError, match=f"^{archive}.*get the archive again"):
        spool.read(f"{spool.find(archive)[0].place}")


def test_some_chains_are_asked_for_by_themselves(clean, tmp_path, monkeypatch):
    _, bucket = clean
    chains = tmp_path / "chains.txt"
    chains.write_text("1ubq_A\n1a8o_A\n")
    listed = []
    real = listing.list_folder
    monkeypatch.setattr(listing, "list_folder", lambda p: listed.append(str(p)) or real(p))
    tasks = make_tasks([f"{bucket}/mmcif"], [f"{bucket}/pdb"], chains=str(chains))
    assert listed == []
    assert [(task.name, list(task.alignments)) for task in tasks] == [
        ("1a8o", ["A"]),
        ("1ubq", ["A"]),
    ]
    for task in tasks:
        (ref,) = task.alignments.values()
        local = read_alignments(
            AlignmentRef(ref.name, str(DEMO / "alignments" / ref.name), "folder")
        )
        assert sorted(read_alignments(ref).values()) == sorted(local.values())


def test_a_limit_takes_the_first_with_an_alignment(clean, tmp_path):
    _, bucket = clean
    out = convert(tmp_path / "out", "--limit", "2")
    names = [e["chain_id"] for p in shards.find_shards([out]) for e in shards.read_index(p)]
    assert names == ["1a7g_E", "1a8o_A"]
    assert run(*command(bucket, tmp_path / "far", tmp_path / "c", "--limit", "2")) == 0
    assert plain(content(tmp_path / "far")) == plain(content(out))


def test_a_small_spool_costs_only_requests(memory, tmp_path):
    bucket, _ = memory
    spool.use(tmp_path / "spool", 100_000)
    try:
        for file in listing.find(f"{bucket}/mmcif"):
            assert spool.read(file.place) == paths.read_bytes(file.place)
        kept = [path.stat().st_size for path in (tmp_path / "spool").glob("??/*")]
        assert kept and sum(kept) < 200_000
        damaged = next((tmp_path / "spool").glob("??/*"))
        damaged.write_bytes(damaged.read_bytes()[:-1] + b"!")
        for file in listing.find(f"{bucket}/mmcif"):
            assert spool.read(file.place) == paths.read_bytes(file.place)
    finally:
        spool.use(None)


@pytest.mark.parametrize(
    "option, what",
    [
        ("--mmcif", "no such bucket"),
        ("--alignments", "no such folder|no such bucket"),
        ("--output", "no such bucket"),
    ],
)
def test_a_bucket_that_is_not_there_is_told(store, tmp_path, capsys, option, what):
    proxy, bucket = store
    arguments = command(bucket, tmp_path / "out", tmp_path / "c")
    arguments[arguments.index(option) + 1] = far = bucket.replace(servers.BUCKET, "nobucket") + "/x"
    assert main(arguments) == 2
    assert re.search(f"^error: {far}.*({what})", capsys.readouterr().err), option


def test_what_is_forbidden_is_told(clean, tmp_path, capsys):
    proxy, bucket = clean
    proxy.fault = lambda request: 403
    assert main(command(bucket, tmp_path / "out", tmp_path / "c")) == 2
    told = capsys.readouterr().err
    assert told.startswith(f"error: {bucket}/") and ("forbidden" in told or "strangers" in told)


@pytest.mark.parametrize("says_which", [True, False])
def test_a_bucket_in_another_region_is_found_or_told(says_which):
    """S3 answers where the bucket is, and its client goes there; other servers may not say it."""
    headers, body = [], "<Code>AuthorizationHeaderMalformed</Code><Message>wrong region</Message>"
    if says_which:
        headers, body = [("x-amz-bucket-region", "eu-west-1")], f"{body}<Region>eu-west-1</Region>"
    answer = 400, headers, f"<Error>{body}</Error>".encode()
    with servers.s3_server() as address, servers.proxy_to(address) as proxy:
        with servers.reached_by("s3", proxy.url):
            folder = f"s3://{servers.BUCKET}/region"  # moto keeps what other tests wrote
            paths.write_whole(f"{folder}/a.txt", b"1")
            proxy.fault = lambda request: None if request.region == "eu-west-1" else answer
            for act, url, wanted in (
                (paths.read_bytes, f"{folder}/a.txt", b"1"),
                (paths.is_file, f"{folder}/a.txt", True),
                (lambda url: listing.list_folder(url)[0].size, folder, 1),
                (lambda url: paths.write_whole(url, b"2"), f"{folder}/b.txt", None),
            ):
                servers.forget_stores()
                if says_which:
                    assert act(url) == wanted
                    continue
                told = f"^{url}: the bucket is in another region .*set AWS_REGION"
                with pytest.raises(InputError, match=told):
                    act(url)


def test_strangers_read_without_credentials(tmp_path, monkeypatch):
    """A public bucket: no request is signed, nothing asks for a key."""
    with servers.s3_server() as address, servers.proxy_to(address) as proxy:
        url = f"{proxy.url}/{servers.BUCKET}/a.txt"
        public = {"x-amz-acl": "public-read", "Content-Type": "text/plain"}
        put = urllib.request.Request(url, b"1", public, method="PUT")
        urllib.request.urlopen(put, timeout=30)
        with servers.reached_by("s3", proxy.url):
            for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
                monkeypatch.delenv(name)
            monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
            monkeypatch.setenv("HOME", str(tmp_path))
            servers.forget_stores()
            assert paths.read_bytes(f"s3://{servers.BUCKET}/a.txt") == b"1"
            assert proxy.requests and not any(request.signed for request in proxy.requests)
            proxy.fault = lambda request: 403
            with pytest.raises(InputError, match="no credentials, and strangers may not"):
                paths.read_bytes(f"s3://{servers.BUCKET}/a.txt")


def test_a_structure_that_vanishes_after_it_was_listed_costs_its_chains_alone(clean, tmp_path):
    proxy, bucket = clean
    proxy.fault = lambda request: 404 if request.is_content and "1a8o.cif" in request.path else None
    assert run(*command(bucket, tmp_path / "out", tmp_path / "c")) == 0
    lines = manifest(tmp_path / "out")
    assert lines["1a8o_A"]["status"] == "rejected"
    assert lines["1a8o_A"]["reason"] == (
        f"{bucket}/mmcif/1a8o.cif.gz: no such file or folder "
        "(check the URL; it may have been removed since it was listed)"
    )
    written = [name for name, line in lines.items() if line["status"] == "written"]
    assert written == [name for name in WRITTEN if name != "1a8o_A"]
