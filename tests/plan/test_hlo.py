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


def test_what_moves_most_comes_first():
    """The product and the copy of a row, each as often as the loop runs; they make up the cost."""
    named = 'rhs_contracting_dims={0}, metadata={op_name="block/product"}'
    text = LOOP.replace("BOUND", "constant(5)").replace("rhs_contracting_dims={0}", named)
    program = Program(text)
    product, row = program.movers()[:2]
    assert (product.opcode, product.bytes, product.times) == ("dot", 5 * 3 * 64, 5)
    assert product.source == "block/product"
    assert (row.opcode, row.bytes) == ("fusion", 5 * (16 + 16 + 4))
    assert sum(m.bytes for m in program.movers()) == program.cost().bytes


def test_bytes_of_arrays_and_tuples():
    assert array_bytes("bf16[2,3]{1,0:T(8,128)(2,1)}") == 12
    assert array_bytes("f32[8,128]{1,0:T(8,128)S(1)}") == 0  # in the core's own memory
    assert array_bytes("(s32[], f32[5,4]{1,0}, /*index=2*/pred[7]{0})") == 4 + 80 + 7


NESTED = """
HloModule nested

inner (p0: f32[5,4], p1: s32[]) -> f32[1,4] {
  %p0 = f32[5,4]{1,0} parameter(0)
  %p1 = s32[] parameter(1)
  %zero = s32[] constant(0)
  ROOT %row = f32[1,4]{1,0} dynamic-slice(%p0, %p1, %zero), dynamic_slice_sizes={1,4}
}

outer (q0: f32[5,4], q1: s32[]) -> f32[5,4] {
  %q0 = f32[5,4]{1,0} parameter(0)
  %q1 = s32[] parameter(1)
  %zero.1 = s32[] constant(0)
  %inner = f32[1,4]{1,0} fusion(%q0, %q1), kind=kLoop, calls=%inner
  ROOT %put = f32[5,4]{1,0} dynamic-update-slice(%q0, %inner, %q1, %zero.1)
}

ENTRY %main (a: f32[5,4], i: s32[]) -> f32[5,4] {
  %a = f32[5,4]{1,0} parameter(0)
  %i = s32[] parameter(1)
  %free = f32[5,4]{1,0} custom-call(), custom_call_target="AllocateBuffer"
  %start = ((f32[5,4]{1,0}), f32[2,4]{1,0:S(1)}, s32[]{:S(2)}) slice-start(%a), slice={[0:2], [0:4]}
  %done = f32[2,4]{1,0:S(1)} slice-done(%start)
  ROOT %done.1 = f32[5,4]{1,0} fusion(%a, %i), kind=kLoop, calls=%outer
}
"""


def test_a_slice_is_all_that_is_read_through_fusions_in_fusions():
    """A row read and a row written, the counter's 4 bytes; two rows come into the core's memory."""
    program = Program(NESTED)
    assert program.cost().bytes == (16 + 4 + 16) + 32
    assert [mover.opcode for mover in program.movers()] == ["fusion", "slice-start"]


CONVOLUTION = """
HloModule convolution

ENTRY %main (a: f32[6,5,8,3], b: f32[7,5,8,3]) -> f32[5,8,6,7] {
  %a = f32[6,5,8,3]{3,2,1,0} parameter(0)
  %b = f32[7,5,8,3]{3,2,1,0} parameter(1)
  ROOT %c = f32[5,8,6,7]{3,2,1,0} convolution(%a, %b), WINDOW
}
"""


def test_products_that_became_convolutions():
    """libtpu's ways to say 5 x 8 products of 6 x 3 and 3 x 7, or a sum over five axes of it."""
    dilated = "window={size=5x8 stride=4x7 lhs_dilate=5x8}, dim_labels=b01f_o01i->01bf"
    product = 2 * 5 * 8 * 6 * 7 * 3
    assert Program(CONVOLUTION.replace("WINDOW", dilated)).cost().flops == product
    padded = "window={size=5x8 pad=4_4x7_7 rhs_reversal=1x1}, dim_labels=b01f_o01i->01bf"
    text = CONVOLUTION.replace("WINDOW", padded).replace("[5,8,6,7]", "[9,15,6,7]")
    # Every pair of places on the two sides meets once.
    assert Program(text).cost().flops == 2 * (5 * 5) * (8 * 8) * 6 * 7 * 3


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
