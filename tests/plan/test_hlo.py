"""Counting what XLA programs do, on programs small enough to count by hand."""

from __future__ import annotations

import tensorflow as tf

from tffold.plan.hlo import Program, array_bytes

LOOP = """
HloModule loop

fused (p0: f32[5,4], p1: s32[]) -> f32[4] {
  %p0 = f32[5,4]{1,0} parameter(0)
  %p1 = s32[] parameter(1)
  %zero = s32[] constant(0)
  %row = f32[1,4]{1,0} dynamic-slice(%p0, %p1, %zero), dynamic_slice_sizes={1,4}
  ROOT %flat = f32[4]{0} bitcast(%row)
}

%body (state: (s32[], f32[5,4], f32[4,4])) -> (s32[], f32[5,4], f32[4,4]) {
  %state = (s32[], f32[5,4]{1,0}, f32[4,4]{1,0}) parameter(0)
  %i = s32[] get-tuple-element(%state), index=0
  %rows = f32[5,4]{1,0} get-tuple-element(%state), index=1
  %m = f32[4,4]{1,0} get-tuple-element(%state), index=2
  %row = f32[4]{0} fusion(%rows, %i), kind=kLoop, calls=%fused
  %dot = f32[4,4]{1,0} dot(%m, %m), lhs_contracting_dims={1}, rhs_contracting_dims={0}
  ROOT %next = (s32[], f32[5,4]{1,0}, f32[4,4]{1,0}) tuple(%i, %rows, %dot)
}

%condition (state: (s32[], f32[5,4], f32[4,4])) -> pred[] {
  %state = (s32[], f32[5,4]{1,0}, f32[4,4]{1,0}) parameter(0)
  %i = s32[] get-tuple-element(%state), index=0
  %bound = s32[] BOUND
  ROOT %less = pred[] compare(%i, %bound), direction=LT
}

ENTRY %main (a: (s32[], f32[5,4], f32[4,4])) -> (s32[], f32[5,4], f32[4,4]) {
  %a = (s32[], f32[5,4]{1,0}, f32[4,4]{1,0}) parameter(0)
  ROOT %loop = (s32[], f32[5,4]{1,0}, f32[4,4]{1,0}) while(%a), condition=%condition, body=%body
}
"""
# A trip multiplies 4 x 4 by 4 x 4: 2 * 4 * 4 * 4. It reads a row of 16 bytes, writes it, reads the
# counter, and the product reads two and writes one matrix of 64 bytes.
TRIP_FLOPS, TRIP_BYTES = 128, 16 + 16 + 4 + 3 * 64


def test_a_loop_counts_as_often_as_it_runs():
    cost = Program(LOOP.replace("BOUND", "constant(5)")).cost()
    assert (cost.flops, cost.bytes) == (5 * TRIP_FLOPS, 5 * TRIP_BYTES)
    assert cost.opcodes["dot"] == 5


def test_a_loop_of_unknown_length_runs_as_often_as_told():
    text = LOOP.replace("BOUND", "get-tuple-element(%state), index=0")
    assert Program(text, open_trips=1.5).cost().flops == 1.5 * TRIP_FLOPS


def test_the_optimisers_own_count_comes_first():
    known = 'body=%body, backend_config={"known_trip_count":{"n":"7"}}'
    text = LOOP.replace("BOUND", "constant(5)").replace("body=%body", known, 1)
    assert Program(text).cost().flops == 7 * TRIP_FLOPS


def test_bytes_of_arrays_and_tuples():
    assert array_bytes("bf16[2,3]{1,0:T(8,128)(2,1)}") == 12
    assert array_bytes("f32[8,128]{1,0:T(8,128)S(1)}") == 0  # in the core's own memory
    assert array_bytes("(s32[], f32[5,4]{1,0}, /*index=2*/pred[7]{0})") == 4 + 80 + 7


def test_products_of_a_real_program():
    """What TensorFlow lowers is counted as by hand, in a loop with a bound of its own."""

    @tf.function(autograph=False, jit_compile=True)
    def run(x, w):
        def body(i, x):
            return i + 1, tf.einsum("bij,bjk->bik", x, w)

        return tf.while_loop(lambda i, _: i < 6, body, (0, x), maximum_iterations=6)[1]

    specs = tf.TensorSpec([3, 8, 16]), tf.TensorSpec([3, 16, 16])
    text = run.experimental_get_compiler_ir(*specs)(stage="hlo")
    assert Program(text).cost().flops == 6 * 2 * 3 * 8 * 16 * 16
