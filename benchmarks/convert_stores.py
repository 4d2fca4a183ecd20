"""tffold-convert from a bucket that answers late, against the same files on this machine.

    python benchmarks/convert_stores.py                  # 200 chains, both stores, a few minutes
    python benchmarks/convert_stores.py --chains 50 --latency 0.1

The stores are the tests' emulators with a proxy before them, in a process of their own on this
machine: Python servers, which need cores themselves.  So each store is read twice, with and without
the latency; what a real bucket adds lies between them.  The runs take turns, and ratios are of the
same round.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "tests" / "support")]

import servers  # noqa: E402

from benchmarks.convert import generate  # noqa: E402
from records import paths, spool  # noqa: E402

START = {"s3": servers.s3_server, "gs": servers.gcs_server}


def serve(kind: str, latency: float) -> None:
    """A store behind a proxy, until standard input ends; prints its address."""
    with START[kind]() as address, servers.proxy_to(address) as proxy:
        proxy.latency = latency
        print(proxy.url, address, flush=True)
        sys.stdin.read()


@contextlib.contextmanager
def served(kind: str, latency: float):
    """The proxy's address and the store's own, of a process of their own."""
    command = [sys.executable, __file__, "--serve", kind, str(latency)]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    ) as process:
        yield process.stdout.readline().split()
        process.stdin.close()


def fill(folder: Path, bucket: str) -> None:
    files = [path for path in sorted(folder.rglob("*")) if path.is_file()]
    list(
        spool.each(
            lambda path: paths.upload(path, f"{bucket}/{path.relative_to(folder).as_posix()}"),
            files,
        )
    )


def convert(source: str, scratch: str, workers: int) -> tuple[float, bytes]:
    """Chains a second, with the start of the program, and the shards' bytes."""
    with tempfile.TemporaryDirectory(dir=scratch) as output:
        command = [
            sys.executable, "-m", "records.cli", "--mmcif", f"{source}/mmcif", "--alignments",
            f"{source}/alignments", "--output", f"{output}/out", "--workers", str(workers),
            "--cache-dir", f"{output}/cache", "--quiet", "--no-templates",
        ]  # fmt: skip
        begun = time.perf_counter()
        environment = os.environ | {"PYTHONPATH": str(ROOT)}
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL, env=environment)
        seconds = time.perf_counter() - begun
        summary = json.loads(Path(output, "out", "summary.json").read_text())
        shards = sorted(Path(output, "out", "train").glob("*.tfrecord"))
        return summary["written"] / seconds, b"".join(path.read_bytes() for path in shards)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--chains", type=int, default=200)
    parser.add_argument("--depth", type=int, default=1000, help="rows of the alignments")
    parser.add_argument("--latency", type=float, default=0.02, help="seconds before each answer")
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--workers", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--stores", nargs="+", choices=sorted(START), default=sorted(START))
    parser.add_argument("--serve", nargs=2, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.serve:
        serve(args.serve[0], float(args.serve[1]))
        return
    print(f"load average before: {os.getloadavg()[0]:.1f}; {args.workers} workers")
    with tempfile.TemporaryDirectory(prefix="tffold-bench-") as scratch:
        folder = Path(scratch, "chains")
        generate(folder, args.chains, args.depth)
        bucket = servers.BUCKET
        for number in range(args.rounds):
            local, wanted = convert(str(folder), scratch, args.workers)
            print(f"round {number + 1}: local      {local:8.1f} chains/s", flush=True)
            for kind in args.stores:
                for latency in (0.0, args.latency):
                    with served(kind, latency) as (proxy, direct):
                        with servers.reached_by(kind, direct):
                            fill(folder, f"{kind}://{bucket}")
                        with servers.reached_by(kind, proxy):
                            speed, found = convert(f"{kind}://{bucket}", scratch, args.workers)
                    assert found == wanted, "other bytes than the local run's"
                    print(
                        f"         {kind}, {1000 * latency:3.0f} ms {speed:8.1f} chains/s, "
                        f"{speed / local:.2f} of the local run",
                        flush=True,
                    )


if __name__ == "__main__":
    main()
