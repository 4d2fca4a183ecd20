"""Padding by the feature table."""

import pytest
import tensorflow as tf

from records.schema import BATCH_FEATURES
from tffold.data import padding


def test_padding_follows_the_table():
    sizes = {"num_res": 5, "num_msa_seq": 3, "num_extra_seq": 2, "num_templates_used": 2}
    features = {
        "aatype": tf.constant([7, 8, 9]),
        "seq_length": tf.constant(3),
        "template_pseudo_beta": tf.ones([1, 3, 3]),
        "template_mask": tf.ones([1]),
    }
    padded = padding.pad(features, BATCH_FEATURES, sizes)
    assert padded["aatype"].numpy().tolist() == [7, 8, 9, 0, 0]
    assert padded["seq_length"] == 3
    assert padded["template_pseudo_beta"].shape == (2, 5, 3)
    assert padded["template_pseudo_beta"].numpy().sum() == 9
    assert padded["template_mask"].numpy().tolist() == [1, 0]
    with pytest.raises(tf.errors.InvalidArgumentError):
        padding.pad({"aatype": tf.range(6)}, BATCH_FEATURES, sizes)
