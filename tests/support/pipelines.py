"""The chains that tests of the input pipeline read, how their batches are compared, and what makes
them."""

import numpy as np
import tensorflow as tf
from synthetic import chain

from tffold.config import FilterConfig

# Operations that call Python.
PYTHON = {"PyFunc", "PyFuncStateless", "EagerPyFunc", "GeneratorDataset"}
OPEN = FilterConfig(sample_by_length=False, sample_by_cluster=False)


def chains():
    return [
        chain(num_res=40, num_msa=60, num_templates=6, chain_id="long_A"),
        chain(num_res=30, num_msa=60, num_templates=2, chain_id="mid_A"),
        chain(num_res=12, num_msa=9, num_templates=0, chain_id="short_A"),
        chain(num_res=25, num_msa=1, num_templates=1, chain_id="alone_A"),
    ]


def assert_same(first, second):
    assert set(first) == set(second)
    for name in first:
        np.testing.assert_array_equal(first[name], second[name], err_msg=name)


def operations_of(dataset):
    """The names of all operations of a data set's graph, functions and their functions included."""
    serialized = tf.raw_ops.DatasetToGraphV2(input_dataset=dataset._variant_tensor)
    graph = tf.compat.v1.GraphDef.FromString(serialized.numpy())
    nodes = [*graph.node, *(n for f in graph.library.function for n in f.node_def)]
    return {node.op for node in nodes}
