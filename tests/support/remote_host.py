"""A pod's host in small: a TensorFlow server that makes batches, and a coordinator that asks.

    python remote_host.py serve PORT
    python remote_host.py coordinate PORT SHARD OUTPUT COUNT BATCH

The coordinator places the data set on the server's host as ``TPUStrategy`` does with that of a
pod's host, writes what came to OUTPUT (``.npz``, a key for each step and feature), and prints
the processor seconds that each example cost it while the batches stayed on the host.
"""

import os
import sys
import time

import numpy as np
import tensorflow as tf

from tffold.config import DataConfig, FilterConfig
from tffold.data import pipeline

SMALL = {"crop_size": 20, "max_msa_clusters": 12, "max_extra_msa": 16}
HOST = "/job:worker/replica:0/task:0/device:CPU:0"


def serve(port):
    cluster = tf.train.ClusterSpec({"worker": [f"localhost:{port}"]})
    tf.distribute.Server(cluster, job_name="worker", task_index=0).join()


def config_for(shard, **settings):
    rule = FilterConfig(sample_by_length=False, sample_by_cluster=False)
    return DataConfig(train=[shard], train_filter=rule, **settings)


def coordinate(port, shard, output, count, batch_size):
    tf.config.experimental_connect_to_host(f"localhost:{port}", job_name="worker")
    config = config_for(shard, **SMALL)
    with tf.device(HOST):
        dataset = pipeline.training_dataset(config, num_recycle=1, batch_size=batch_size, seed=0)
        iterator = iter(dataset)
        kept = [next(iterator) for _ in range(3)]
        begun = time.process_time()
        for _ in range(count):
            batch = next(iterator)
            assert batch["msa_feat"].backing_device.startswith("/job:worker")
        seconds = time.process_time() - begun
    found = {f"{step}/{k}": v.numpy() for step, one in enumerate(kept) for k, v in one.items()}
    np.savez(output, **found)
    print(seconds / count / batch_size, flush=True)


if __name__ == "__main__":
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    if sys.argv[1] == "serve":
        serve(sys.argv[2])
    else:
        coordinate(*sys.argv[2:5], *map(int, sys.argv[5:]))
    os._exit(0)  # a process that is connected to another waits for it otherwise
