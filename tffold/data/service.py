"""Examples made by tf.data service: other processes' cores, the same batches.

A dispatcher hands out places of the sequence, one after another; whichever
worker is free makes the example at a place, and sends it back packed.  As an
example is a function of (seed, position), it does not matter who makes it:
so examples are put in order here, and one that does not come, because its
worker died, is made here.  None is lost and none is doubled.

``tf.data``'s own guarantees do not go so far: with dynamic sharding what a dead
worker held is lost, and the order is that of arrival.
"""

from __future__ import annotations

import socket
import time
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import tensorflow as tf

from records.errors import InputError
from tffold.config_file import host_and_port

Tensor = Any

_SPAN = 1 << 16  # places of one job: its table of positions is sent to the workers
_ENDLESS = 1 << 46
_WINDOW = 256  # places that examples may come before their turn
_PATIENCE = 10.0  # seconds that an example may wait for those before it
_PAUSE = 100_000  # microseconds between signs that time passes
_WAIT = 60.0  # seconds for a dispatcher to answer


def wait_for_dispatcher(address: str, seconds: float | None = None) -> None:
    """Return when something listens at the address; TensorFlow would wait without a word.

    Raises:
        InputError: nothing does within ``seconds`` (default 60).
    """
    place = host_and_port(address, "data.service")
    end = time.monotonic() + (_WAIT if seconds is None else seconds)
    while True:
        try:
            socket.create_connection(place, timeout=5.0).close()
            return
        except OSError as error:
            if time.monotonic() > end:
                raise InputError(
                    f"no dispatcher answers at {address} ({error.strerror or error})",
                    mend="start one with tffold-data-worker --dispatcher, or check the address",
                ) from None
        time.sleep(0.2)


def served(
    sequence: tf.data.Dataset,
    make: Callable[[Tensor, Tensor], dict[str, Tensor]],
    *,
    address: str,
    num_parallel: int,
) -> tf.data.Dataset:
    """The examples of a sequence, in its order, made by the workers of a dispatcher.

    Args:
        sequence: endless; positions and records' numbers, scalars.
        make: an example, as a graph; on the workers and, for what they lose, here.
        address: ``grpc://host:port`` of the dispatcher.
        num_parallel: examples that a worker makes at once; 0 = as many as pay there.

    Raises:
        InputError: no dispatcher answers.
    """
    wait_for_dispatcher(address)
    scalar = tf.TensorSpec([], tf.int64)
    make = tf.function(make, autograph=False).get_concrete_function(scalar, scalar)
    specs = [tf.TensorSpec(x.shape, x.dtype) for x in tf.nest.flatten(make.structured_outputs)]
    parallel = num_parallel or tf.data.AUTOTUNE

    @tf.autograph.experimental.do_not_convert
    def span(positions: Tensor, numbers: Tensor) -> tf.data.Dataset:
        size = tf.size(positions, tf.int64)

        @tf.autograph.experimental.do_not_convert
        def packed(place: Tensor) -> Tensor:
            def whole() -> Tensor:
                example = make(positions[place], numbers[place])
                return tf.raw_ops.CompressElement(components=tf.nest.flatten(example))

            # Workers go on behind the end: what comes from there tells that time has passed.
            return tf.cond(place < size, whole, _nothing_soon)

        @tf.autograph.experimental.do_not_convert
        def row(place: Tensor) -> tuple[Tensor, Tensor]:
            return tf.minimum(place, size), packed(place)

        # The order is made here; so a worker need not hold back what is ready.
        rows = tf.data.Dataset.range(_ENDLESS).map(
            row, num_parallel_calls=parallel, deterministic=False
        )
        return _in_order(_distributed(rows, address), size, packed)

    @tf.autograph.experimental.do_not_convert
    def unpacked(example: Tensor) -> dict[str, Tensor]:
        flat = tf.raw_ops.UncompressElement(
            compressed=example,
            output_types=[spec.dtype for spec in specs],
            output_shapes=[spec.shape for spec in specs],
        )
        return tf.nest.pack_sequence_as(make.structured_outputs, flat)

    return sequence.batch(_SPAN).flat_map(span).map(unpacked, num_parallel_calls=2)


def _distributed(rows: tf.data.Dataset, address: str) -> tf.data.Dataset:
    """What the workers make of the rows, each of which goes to one of them."""
    service = tf.data.experimental.service
    by_row = service.distribute(service.ShardingPolicy.DYNAMIC, address, compression=None)
    with warnings.catch_warnings():  # of options, which this data set has none of
        warnings.simplefilter("ignore", UserWarning)
        return rows.apply(by_row)


def _nothing() -> Tensor:
    return tf.raw_ops.CompressElement(components=[tf.constant(False)])


def _nothing_soon() -> Tensor:
    """``_nothing``, after a while; otherwise all would be busy with it."""
    late = tf.raw_ops.SleepDataset(
        input_dataset=tf.data.experimental.to_variant(tf.data.Dataset.from_tensors(0)),
        sleep_microseconds=tf.constant(_PAUSE, tf.int64),
        output_types=[tf.int32],
        output_shapes=[[]],
    )
    slept = tf.data.experimental.from_variant(late, tf.TensorSpec([], tf.int32))
    passed = slept.get_single_element()
    with tf.control_dependencies([passed]):
        return _nothing()


_SCALAR = {"element_shape": np.zeros(0, np.int32), "element_dtype": tf.variant}


def _in_order(
    arrivals: tf.data.Dataset, size: Tensor, packed: Callable[[Tensor], Tensor]
) -> tf.data.Dataset:
    """The packed examples of places 0 to ``size`` - 1, in this order.

    An example waits until those before it have come.  When it has waited for
    ``_PATIENCE`` seconds, or one comes that is ``_WINDOW`` places ahead, those that
    are still missing are made here; should they come after all, they are dropped.

    Args:
        arrivals: places and packed examples, in any order; some may be missing or come
            twice.  Behind the end it goes on, with place ``size``.
        packed: makes the example at a place.
    """
    slots = _WINDOW + 1
    ops = tf.raw_ops
    never = np.float64(np.inf)

    def slot_of(place: Tensor) -> Tensor:
        return tf.cast(place % slots, tf.int32)

    def release(place: Tensor, since: Tensor, waiting: Tensor, out: Tensor) -> tuple:
        slot = slot_of(place)

        def arrived() -> Tensor:
            return ops.TensorListGetItem(input_handle=waiting, index=slot, **_SCALAR)

        one = tf.cond(since[slot] < never, arrived, lambda: packed(place))
        since = tf.tensor_scatter_nd_update(since, [[slot]], [never])
        waiting = ops.TensorListSetItem(input_handle=waiting, index=slot, item=_nothing())
        return place + 1, since, waiting, ops.TensorListPushBack(input_handle=out, tensor=one)

    def due(place: Tensor, since: Tensor, now: Tensor) -> Tensor:
        return (place < size) & (
            (since[slot_of(place)] < never) | (tf.reduce_min(since) < now - _PATIENCE)
        )

    @tf.autograph.experimental.do_not_convert
    def arrive(state: tuple, arrival: tuple) -> tuple:
        (first, since, waiting), (place, example) = state, arrival
        now = tf.timestamp()
        out = ops.EmptyTensorList(max_num_elements=-1, **_SCALAR)
        first, since, waiting, out = tf.while_loop(
            lambda first, *_: first < place - _WINDOW,
            release,
            (first, since, waiting, out),
            parallel_iterations=1,
        )
        slot = slot_of(place)
        new = (place >= first) & (since[slot] == never)

        def put() -> tuple:
            kept = ops.TensorListSetItem(input_handle=waiting, index=slot, item=example)
            return tf.tensor_scatter_nd_update(since, [[slot]], [now]), kept

        since, waiting = tf.cond(new, put, lambda: (since, waiting))
        first, since, waiting, out = tf.while_loop(
            lambda first, since, *_: due(first, since, now),
            release,
            (first, since, waiting, out),
            parallel_iterations=1,
        )
        return (first, since, waiting), ops.TensorListStack(input_handle=out, **_SCALAR)

    state = (
        tf.constant(0, tf.int64),  # the next place
        tf.fill([slots], never),  # when the example in each slot came
        ops.TensorListReserve(num_elements=slots, **_SCALAR),
    )
    return arrivals.scan(state, arrive).unbatch().take(size)
