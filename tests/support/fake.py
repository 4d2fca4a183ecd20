"""A network, loss and data set of toy size with the interfaces of the real ones."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import keras
import numpy as np
import tensorflow as tf

from records import chemistry
from tffold.config import Config
from tffold.train.evaluation import ChainResult

FEATURES, HIDDEN = 5, 4


class FakeNetwork(keras.layers.Layer):
    """A recycled two-layer perceptron with dropout; one example [C, FEATURES] at a time."""

    def __init__(self, dropout: float = 0.0, seed: int = 0):
        super().__init__(name="fake", autocast=False)
        self.dropout = dropout
        draw = np.random.default_rng(seed).normal
        self.values = {
            "into": draw(size=(FEATURES, HIDDEN)),
            "feedback": draw(size=(HIDDEN, HIDDEN)),
            "unused": draw(size=(3,)),
            "out": draw(size=(HIDDEN,)),
        }

    def build(self, input_shape=None):
        for name, value in self.values.items():
            weight = self.add_weight(
                name=name,
                shape=value.shape,
                initializer=lambda shape, dtype, value=value: keras.ops.convert_to_tensor(
                    value, dtype
                ),
            )
            setattr(self, name, weight)

    def hidden(self, features, prev, seed):
        hidden = keras.ops.tanh(
            keras.ops.matmul(features, self.into) + keras.ops.matmul(prev, self.feedback)
        )
        if seed is not None and self.dropout:
            kept = tf.random.stateless_uniform([HIDDEN], seed, alg="philox") >= self.dropout
            hidden = hidden * tf.cast(kept, "float32") / (1 - self.dropout)
        return hidden

    def recycle_from(self, prev, batch, count, seed):
        def body(index, prev):
            key = None if seed is None else tf.random.fold_in(seed, index, "philox")
            return index + 1, self.hidden(tf.gather(batch["x"], index), prev, key)

        limit = batch["x"].shape[0] - 1
        return tf.while_loop(lambda i, _: i < count, body, (0, prev), maximum_iterations=limit)[1]

    def recycle(self, batch, num_recycle, seed):
        return self.recycle_from(tf.zeros([HIDDEN]), batch, num_recycle, seed)

    def one_pass(self, batch, prev, seed):
        return {"y": keras.ops.sum(self.hidden(batch["x"], prev, seed) * self.out)}

    def call(self, batch, num_recycle, seed=None):
        prev = self.recycle(batch, num_recycle, seed)
        last = {name: tf.gather(value, num_recycle) for name, value in batch.items()}
        return self.one_pass(last, prev, seed)


def fake_loss(outputs, batch):
    error = keras.ops.square(outputs["y"] - batch["y"])
    return 2.0 * error, {"square": error}


def fake_metrics(outputs, batch):
    return {"closeness": keras.ops.exp(-keras.ops.abs(outputs["y"] - batch["y"]))}


def fake_batch(config: Config, step: int, poison: frozenset[int] = frozenset()):
    """The global batch of one step, as NumPy [B, C, ...]; steps in ``poison`` hold a NaN."""
    size, cycles = config.train.batch_size, config.model.num_recycle + 1
    rng = np.random.default_rng([config.train.seed, step])
    x = rng.normal(size=(size, cycles, FEATURES)).astype("float32")
    y = np.broadcast_to(np.sin(x[:, :1].sum(-1)), (size, cycles)).astype("float32").copy()
    if step in poison:
        y[size // 2] = np.nan
    recycles = np.full((size, cycles), rng.integers(cycles), "int32")
    return {
        "x": x,
        "y": y,
        "num_iter_recycling": recycles,
        "chain_id": np.array([f"c{step}_{i}".encode() for i in range(size)]),
    }


def fake_dataset(config: Config, poison: frozenset[int] = frozenset()):
    """A factory of endless data sets as ``tffold.train.feed`` wants it."""

    def dataset(start_step: int, num_shards: int = 1, shard_index: int = 0) -> tf.data.Dataset:
        def rows():
            step = start_step
            share = config.train.batch_size // num_shards
            while True:
                batch = fake_batch(config, step, poison)
                part = slice(shard_index * share, (shard_index + 1) * share)
                yield {name: value[part] for name, value in batch.items()}
                step += 1

        example = fake_batch(config, 0)
        share = config.train.batch_size // num_shards
        signature = {
            name: tf.TensorSpec(
                (share, *value.shape[1:]), tf.string if value.dtype.kind == "S" else value.dtype
            )
            for name, value in example.items()
        }
        return tf.data.Dataset.from_generator(rows, output_signature=signature)

    dataset.skipped = 0
    return dataset


class FakeEvaluation:
    """Five made-up chains whose scores follow from the averaged weights.

    ``scores``: lDDT-Cα by step, in place of that; ``drawn``: which are drawn (it takes time).
    """

    def __init__(self, trainer, scores: dict[int, float] | None = None, drawn: Sequence[int] = ()):
        self.trainer, self.scores = trainer, scores
        self.chain_ids = [f"chain{i}" for i in range(5)]
        self.drawn = list(drawn)
        self.asked: list[list[int]] = []

    def evaluate(self, chosen: Sequence[int], draw: bool) -> Iterator[ChainResult]:
        self.asked.append(list(chosen))
        average = [keras.ops.convert_to_numpy(v) for v in self.trainer.state_variables.average]
        score = float(1.0 / (1.0 + sum(np.abs(value).sum() for value in average)))
        if self.scores is not None:
            score = self.scores[self.trainer.step]
        for number in chosen:
            numbers = {"lddt_ca": score + 0.01 * number, "plddt": 50.0, "loss/total": 2.0 + number}
            if number == 3:
                numbers["tm_score"] = 0.25  # as a chain may have what the others have not
            result = ChainResult(f"chain{number}", 8, numbers, [50.0] * 8, [3.0, 1.0])
            if draw and number in self.drawn:
                result.drawing = fake_drawing()
            yield result


def fake_evaluation(config: Config, trainer):
    """None, as of the real one, without ``data.validation``."""
    return FakeEvaluation(trainer) if config.data.validation else None


def fake_drawing(num_res: int = 8, seed: int = 0) -> dict[str, np.ndarray]:
    """What is drawn of a chain that never lived; one residue's truth is unknown."""
    rng = np.random.default_rng(seed)
    aatype = rng.integers(0, 20, num_res)
    mask = chemistry.RESTYPE_ATOM37_MASK[aatype].astype("float32")
    trace = np.cumsum(rng.normal(size=(num_res, 1, 3)), axis=0) * 2.5
    true = (trace + rng.normal(size=(num_res, 37, 3))) * mask[..., None]
    known = mask.copy()
    known[2] = 0.0
    return {
        "aatype": aatype.astype("int32"),
        "residue_index": np.arange(num_res, dtype="int32"),
        "chain": np.ones(num_res, "int32"),
        "positions": (true + rng.normal(size=true.shape)).astype("float32"),
        "atom_exists": mask,
        "true_positions": (true * known[..., None]).astype("float32"),
        "true_mask": known,
        "plddt": rng.uniform(20, 95, num_res),
        "lddt": rng.uniform(20, 95, num_res),
        "distogram": rng.uniform(2, 22, (num_res, num_res)),
        "contacts": rng.random((num_res, num_res)),
        "pseudo_beta": trace[:, 0].astype("float32"),
        "pseudo_beta_mask": known[:, 1],
        "pae": rng.uniform(0, 30, (num_res, num_res)),
        "msa": rng.integers(0, 22, (4, num_res)),
        "msa_shown": rng.integers(0, 23, (4, num_res)),
        "msa_guess": rng.integers(0, 22, (4, num_res)),
        "msa_chosen": rng.integers(0, 2, (4, num_res)),
    }


def fake_config(**train: object) -> Config:
    """Small, quick, deterministic; keyword arguments set fields of ``train``."""
    config = Config()
    config.model.num_recycle = 2
    config.train.batch_size = 4
    config.train.learning_rate = 0.05
    config.train.warmup_samples = 0
    config.train.clip_norm = 1.0
    config.train.ema_decay = 0.9
    config.train.steps = 6
    config.train.log_every = 2
    config.train.checkpoint_every = 2
    for name, value in train.items():
        assert hasattr(config.train, name)
        setattr(config.train, name, value)
    return config
