"""The chains that tests of the input pipeline read, and how their batches are compared."""

import numpy as np
from synthetic import chain

from tffold.config import FilterConfig

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
