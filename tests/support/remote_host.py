"""A pod's host in small: a TensorFlow server, and a coordinator that trains on it.

    python remote_host.py serve PORT
    python remote_host.py coordinate PORT STEPS SHARD ON_CORRUPT [SHARD ON_CORRUPT ...]

The coordinator's strategy places the data set and the step on the server, as ``TPUStrategy`` does
with those of a pod's host. It prints as JSON, for each shard, every step's scalars, how many
records were skipped, and the input error that ended it.
"""

import json
import os
import sys

import keras
import tensorflow as tf

from records.errors import InputError
from tffold.config import Config, DataConfig, FilterConfig
from tffold.train.feed import Feed
from tffold.train.loop import fit
from tffold.train.replicas import checksum
from tffold.train.run import build_trainer
from tffold.train.strategy import Cluster
from tffold.train.task import Task, TrainingData

SMALL = {"crop_size": 20, "max_msa_clusters": 12, "max_extra_msa": 16}
HOST = "/job:worker/replica:0/task:0/device:CPU:0"


class Weighing(keras.layers.Layer):
    """A weight for each feature; the output is the weighed sum of what the features hold.

    Beside it, the lower bits of each feature's checksum over all passes: a float holds them
    exactly.
    """

    def __init__(self, count=100):
        super().__init__(name="weighing")
        self.weight = self.add_weight(name="weight", shape=(count,), initializer="ones")

    def recycle(self, batch, num_recycle, seed):
        return {k: tf.bitwise.bitwise_and(checksum(x), 0xFFFFF) for k, x in batch.items()}

    def one_pass(self, batch, prev, seed):
        means = [tf.reduce_mean(tf.cast(batch[name], tf.float32)) for name in sorted(batch)]
        terms = [self.weight[i] * tf.sin(mean) / (i + 1) for i, mean in enumerate(means)]
        return {"y": tf.add_n(terms), "bits": prev}


def task():
    return Task(
        network=lambda config: Weighing(),
        dataset=TrainingData,
        loss_fn=lambda config: lambda outputs, batch: (outputs["y"], {}),
        metric_fn=lambda config: lambda outputs, batch: outputs["bits"],
        load_npz=None,
        evaluation=None,
        describe_data=None,
    )


def config_for(shard, **settings):
    rule = FilterConfig(sample_by_length=False, sample_by_cluster=False)
    return DataConfig(train=[shard], train_filter=rule, **settings)


def trained(cluster, shard, steps, on_corrupt):
    """What the steps of a run in batches of one return."""
    config = Config(data=config_for(shard, **SMALL, on_corrupt=on_corrupt))
    config.model.num_recycle = 1
    config.train.batch_size, config.train.steps, config.train.checkpoint_every = 1, steps, steps
    found = []
    watcher = keras.callbacks.LambdaCallback(
        on_train_batch_end=lambda batch, logs: found.append(dict(logs))
    )
    feed = Feed(TrainingData(config), cluster)
    trainer = build_trainer(config, task(), cluster)
    error = ""
    try:
        fit(trainer, feed, config, [watcher])
    except InputError as raised:
        error = str(raised)
    found = [{k: v for k, v in logs.items() if not k.startswith("perf/")} for logs in found]
    return {"steps": found, "skipped": feed.factory.skipped, "error": error}


def serve(port):
    cluster = tf.train.ClusterSpec({"worker": [f"localhost:{port}"]})
    tf.distribute.Server(cluster, job_name="worker", task_index=0).join()


def remote_cluster(port):
    tf.config.experimental_connect_to_host(f"localhost:{port}", job_name="worker")
    return Cluster(tf.distribute.OneDeviceStrategy(HOST), 0, 1, is_remote=True)


if __name__ == "__main__":
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    if sys.argv[1] == "serve":
        serve(sys.argv[2])
    else:
        port, steps, *runs = sys.argv[2:]
        cluster, steps = remote_cluster(port), int(steps)
        runs = zip(runs[::2], runs[1::2], strict=True)
        print(
            json.dumps([trained(cluster, shard, steps, skip) for shard, skip in runs]), flush=True
        )
    os._exit(0)  # a process that is connected to another waits for it otherwise
