"""What comparing the replicas (``train.check_replicas_every``) costs beside a training step.

    python benchmarks/replica_check.py --devices 2 demo

Logical devices of the processor share its cores, so both figures grow with their number; what
counts is one as a share of the other.
"""

from __future__ import annotations

import argparse
import os
import statistics
import time
from collections.abc import Callable


def median_seconds(call: Callable[[], object], repeats: int) -> float:
    """Of some calls after the first, which compiles."""
    call()
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        call()
        times.append(time.perf_counter() - start)
    return statistics.median(times)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--devices", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("config")
    parser.add_argument("overrides", nargs="*", metavar="key=value")
    options = parser.parse_args()
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

    import tensorflow as tf

    from tffold.check.child import make_cpu_devices
    from tffold.check.speed import made_batch
    from tffold.config_file import load_config
    from tffold.train.replicas import ReplicaCheck
    from tffold.train.run import build_trainer
    from tffold.train.strategy import build_cluster
    from tffold.train.task import alphafold_task

    make_cpu_devices(options.devices)
    settings = ["train.strategy=mirrored", f"train.batch_size={options.devices}"]
    config = load_config(options.config, [*settings, *options.overrides])
    cluster = build_cluster(config.train)
    trainer = build_trainer(config, alphafold_task(), cluster)
    one = {name: tf.constant(value) for name, value in made_batch(config, 1).items()}
    batch = cluster.to_replicas([one] * cluster.local_replicas)
    step = median_seconds(lambda: trainer.run_step(batch), options.repeats)
    check = median_seconds(ReplicaCheck(trainer).disagreement, options.repeats)
    size = sum(4 * int(tf.size(v.value)) for _, v in trainer.named_state())
    print(f"replicas     {cluster.num_replicas}")
    print(f"state        {size / 1e9:.3f} GB a replica")
    print(f"a step       {step:.4f} s")
    print(f"a check      {check:.4f} s ({check / step:.2%} of a step)")


if __name__ == "__main__":
    main()
