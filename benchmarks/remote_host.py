"""What a batch costs the process that directs a pod whose hosts are other machines.

    python benchmarks/remote_host.py            # a minute or two

The tests' second TensorFlow process takes the host's place. Each call is waited for, and all kinds
of them come at the same pace, in turn: a process that wakes up seldom pays more for the same.
Printed is the median over rounds of this process's processor time for a call.
"""

from __future__ import annotations

import argparse
import dataclasses
import os
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
KINDS = {
    "none": "a step without a batch",
    "inside": "a step that takes its batch there",
    "outside": "a batch asked for here, then given to a step",
}


def calls(port: str, shard: Path) -> dict[str, Callable[[], Any]]:
    """By kind: a function that takes one step on the host and returns its result there."""
    import tensorflow as tf

    from tests.support.remote_host import config_for, remote_cluster
    from tffold.config import Config
    from tffold.train.feed import Feed
    from tffold.train.task import TrainingData

    cluster = remote_cluster(port)
    strategy = cluster.strategy
    data = config_for(str(shard), crop_size=16, max_msa_clusters=8, max_extra_msa=8)
    config = Config(data=data)
    config.train.batch_size, config.model.num_recycle = 1, 1
    with strategy.scope():
        value = tf.Variable(tf.ones([8]))

    def use(batch: dict[str, Any]) -> Any:
        """Some arithmetic, so that a step without a batch takes its time, too."""
        x = tf.random.stateless_uniform([300, 300], [1, 2])
        _, x = tf.while_loop(lambda i, _: i < 20, lambda i, x: (i + 1, tf.tanh(x @ x)), (0, x))
        parts = [tf.reduce_sum(tf.cast(part, tf.float32)) for part in batch.values()]
        return tf.add_n([tf.reduce_sum(value), tf.reduce_sum(x), *parts])

    step = tf.function(lambda batch: strategy.run(use, (batch,)), autograph=False)
    inside = next(Feed(TrainingData(config), cluster).batches(0))
    here = dataclasses.replace(cluster, is_remote=False)
    outside = Feed(TrainingData(config), here).batches(0)
    return {
        "none": lambda: step({}),
        "inside": tf.function(lambda: strategy.run(use, (next(inside),)), autograph=False),
        "outside": lambda: step(next(outside)),
    }


def processor_time(call: Callable[[], Any], count: int, pace: float) -> float:
    """Seconds of this process's processor time for one of ``count`` calls, ``pace`` s apart."""
    begun = time.process_time()
    for _ in range(count):
        start = time.perf_counter()
        call().numpy()
        time.sleep(max(0.0, start + pace - time.perf_counter()))
    return (time.process_time() - begun) / count


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--calls", type=int, default=50, help="of each kind and round")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--pace", type=float, default=0.1, help="seconds from call to call")
    options = parser.parse_args()
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    os.environ["CUDA_VISIBLE_DEVICES"] = "-1"
    sys.path.insert(0, str(ROOT))
    from input_pipeline import generated_chain

    from records import example, shards

    with socket.socket() as one:
        one.bind(("localhost", 0))
        port = str(one.getsockname()[1])
    with tempfile.TemporaryDirectory() as folder:
        shard, chain = Path(folder) / "some.tfrecord", generated_chain(40, 60)
        with shards.ShardWriter(shard) as writer:
            writer.write(chain["chain_id"], example.encode(chain), example.index_entry(chain))
        host = ROOT / "tests" / "support" / "remote_host.py"
        server = subprocess.Popen(
            [sys.executable, str(host), "serve", port],
            env=os.environ | {"PYTHONPATH": str(ROOT)},
        )
        try:
            kinds = calls(port, shard)
            for call in kinds.values():
                processor_time(call, 5, options.pace)
            rounds = [
                {
                    kind: processor_time(call, options.calls, options.pace)
                    for kind, call in kinds.items()
                }
                for _ in range(options.rounds)
            ]
        finally:
            server.kill()
    print(f"load {os.getloadavg()[0]}, {options.pace} s from call to call")
    for kind, text in KINDS.items():
        found = [1000 * one[kind] for one in rounds]
        more = statistics.median(1000 * (one[kind] - one["none"]) for one in rounds)
        print(
            f"{text:<46}{statistics.median(found):5.2f} ms ({min(found):.2f} to {max(found):.2f}), "
            f"{more:.2f} more than without",
            flush=True,
        )
    os._exit(0)  # a process that is connected to another waits for it otherwise


if __name__ == "__main__":
    main()
