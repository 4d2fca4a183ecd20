"""Part 3: whether the devices that train together compute what one alone would."""

from __future__ import annotations

import time
from collections.abc import Iterator

import keras
import numpy as np
import tensorflow as tf

from records.errors import InputError
from tffold.check.child import Request
from tffold.check.places import accelerator
from tffold.check.report import FAIL, Line, judge, measured
from tffold.check.toy import toy_batch, toy_config, toy_trainer
from tffold.config import Config
from tffold.train.replicas import ReplicaCheck
from tffold.train.strategy import Cluster, build_cluster
from tffold.train.trainer import AlphaFoldTrainer

PART = "strategy"
STEPS, LOCAL_BATCH = 10, 2
SUM_LENGTH = 1 << 24  # floats: 64 MiB, where bandwidth and no longer latency counts
TOLERANCE = 1e-4  # of losses and weights after the steps, in another order of sums
_EXACT = 1 << 24  # float32 holds all integers below


def check(request: Request) -> Iterator[Line]:
    """What ``train.strategy`` makes of this machine, sums, and ten steps."""
    train = request.config.train
    try:
        cluster = build_cluster(train)
    except InputError as error:
        yield Line(PART, "cluster", FAIL, str(error))
        return
    yield what_it_does(request.config, cluster)
    yield idle(cluster)
    yield sums(cluster, request.options.get("sum_length", SUM_LENGTH))
    config = toy_config(request.config, cluster.num_replicas, LOCAL_BATCH)
    trainer = toy_trainer(config, cluster)
    yield placement(trainer)
    yield from ten_steps(config, cluster, trainer)


def what_it_does(config: Config, cluster: Cluster) -> Line:
    """Replicas, processes and each one's examples."""
    train = config.train
    local = train.batch_size // cluster.num_replicas
    text = (
        f"train.strategy={train.strategy}: {cluster.num_replicas} replicas in "
        f"{cluster.num_processes} processes, this is process {cluster.process}; each replica takes "
        f"{local} of train.batch_size={train.batch_size} examples, one after the other"
    )
    return measured(
        PART, "cluster", text, replicas=cluster.num_replicas, processes=cluster.num_processes,
        process=cluster.process, local_batch=local,
    )  # fmt: skip


def idle(cluster: Cluster) -> Line:
    """Accelerators of this host that would be paid for and not used."""
    kind = accelerator() or "CPU"
    # Logical ones would be those of all processes; a TPU's cores are nothing else.
    of_host = tf.config.list_physical_devices if kind == "GPU" else tf.config.list_logical_devices
    there = len(of_host(kind))
    unused = there - cluster.local_replicas
    text = f"{cluster.local_replicas} of {there} {kind} devices of this host work"
    if unused > 0 and kind != "CPU":
        text += "; train.strategy=mirrored (or tpu, on a TPU) takes all"
    return measured(PART, "devices", text, unused=max(unused, 0))


def sums(cluster: Cluster, length: int) -> Line:
    """A sum over replicas of integers, which float32 holds exactly, and how long it takes."""
    count = cluster.num_replicas
    bound = _EXACT // count
    factor, shift = 7919, 104_729

    def values(replica: int) -> np.ndarray:
        numbers = np.arange(length, dtype=np.int64) * factor + replica * shift
        return (numbers % bound).astype(np.float32)

    def add(value: tf.Tensor) -> tf.Tensor:
        context = tf.distribute.get_replica_context()
        mine = tf.identity(value)  # on this replica's device, which several processes ask for
        return context.all_reduce(tf.distribute.ReduceOp.SUM, mine)

    run = tf.function(lambda x: cluster.strategy.run(add, (x,)), autograph=False)
    first = cluster.process * cluster.local_replicas
    local = [tf.constant(values(first + i)) for i in range(cluster.local_replicas)]
    given = cluster.to_replicas(local)
    found = [one.numpy() for one in cluster.from_replicas(run(given))]
    start = time.perf_counter()
    for one in cluster.from_replicas(run(given)):
        one.numpy()[:1]
    seconds = time.perf_counter() - start
    expected = np.zeros(length, np.float64)
    for replica in range(count):
        expected += values(replica)
    wrong = [float((one != expected).mean()) for one in found]
    good = not any(wrong)
    bytes_per_second = 4.0 * length / seconds
    text = (
        f"exact over {count} replicas, {bytes_per_second / 1e9:.2f} GB/s"
        if good
        else f"wrong on replica {first + int(np.argmax(wrong))}: {max(wrong):.0%} of the elements; "
        "something rounds, drops or repeats what is summed"
    )
    return judge(
        PART, "sum over replicas", good, text, bytes_per_second=bytes_per_second, wrong=wrong
    )


def placement(trainer: AlphaFoldTrainer) -> Line:
    """Whether each replica's weights lie on a device of its own, and of the right kind."""
    variable = trainer.network.trainable_variables[0].value
    local = trainer.cluster.strategy.experimental_local_results(variable)
    places = [copy.device.rpartition("device:")[2] for copy in local]
    kind = accelerator()
    right = kind is None or all(place.startswith(kind) for place in places)
    good = right and len(set(places)) == trainer.cluster.local_replicas
    text = f"weights lie on {', '.join(places)}"
    if not good:
        text += f"; wanted: {trainer.cluster.local_replicas} different {kind or 'CPU'} devices"
    return judge(PART, "placement", good, text, places=places)


def ten_steps(config: Config, cluster: Cluster, trainer: AlphaFoldTrainer) -> Iterator[Line]:
    """The same steps on all replicas and on one device; then every replica's weights."""
    size, share = config.train.batch_size, config.train.batch_size // cluster.num_replicas
    first = cluster.process * cluster.local_replicas
    alone = toy_trainer(config, Cluster(tf.distribute.get_strategy(), 0, 1))
    together_losses, alone_losses = [], []
    for step in range(STEPS):
        batch = toy_batch(size, step)
        parts = [
            {name: tf.constant(x[i * share : (i + 1) * share]) for name, x in batch.items()}
            for i in range(first, first + cluster.local_replicas)
        ]
        together_losses.append(trainer.run_step(cluster.to_replicas(parts))["loss"])
        whole = {name: tf.constant(x) for name, x in batch.items()}
        alone_losses.append(alone.run_step(whole)["loss"])
    losses = np.abs(np.array(together_losses) / alone_losses - 1.0).max()
    weights = max(
        float(np.abs(keras.ops.convert_to_numpy(a) - keras.ops.convert_to_numpy(b)).max())
        for a, b in zip(
            trainer.network.trainable_variables, alone.network.trainable_variables, strict=True
        )
    )
    good = bool(max(losses, weights) <= TOLERANCE)  # NaN is not
    text = f"{STEPS} steps: losses differ by {losses:.1e}, weights by {weights:.1e}"
    yield judge(PART, "as one device", good, text, losses=float(losses), weights=weights)
    found = ReplicaCheck(trainer).disagreement()
    text = str(found) if found else f"all {cluster.num_replicas} agree to the last bit"
    yield judge(PART, "replicas hold the same weights", found is None, text)
