"""The exponential function and the sigmoid of sixteen numbers at once, beside `lanes.py`: a library's is called for each."""

from typing import Any

from llvmlite import ir
from numba.extending import intrinsic

from store.search.lanes import LANES, floats16, words16

LOWEST = -87.0  # e^-87 is the last normal float32
ROUNDS = 12582912.0  # 1.5 * 2^23 leaves a float32 no bits below 1: what is added to it is rounded
LOG2_E = 1.4426950408889634
LN_2 = (0.693359375, -2.12194440e-4)  # in two parts: the first has few bits, so that its multiples are exact
TAYLOR = (1 / 720, 1 / 120, 1 / 24, 1 / 6, 1 / 2, 1.0, 1.0)


@intrinsic
def exponential(typing_context: Any, value: Any) -> Any:
    """e to the power of sixteen float32 that are not above 0, to about 2 units in the last place; below -87 it is 0."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        low = builder.fcmp_ordered("<", arguments[0], _all_of(LOWEST))
        found = _power(builder, builder.select(low, _all_of(LOWEST), arguments[0]))
        return builder.select(low, _all_of(0.0), found)

    return floats16(floats16), generate


@intrinsic
def sigmoid(typing_context: Any, value: Any) -> Any:
    """1 / (1 + e^-x) of sixteen float32, to about 3 units in the last place; beyond -87 and 87 it is that of those."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        x = builder.fneg(arguments[0])
        for limit, beyond in ((LOWEST, "<"), (-LOWEST, ">")):
            x = builder.select(builder.fcmp_ordered(beyond, x, _all_of(limit)), _all_of(limit), x)
        below = builder.fadd(_power(builder, x), _all_of(1.0))
        if "+avx512f" not in context.codegen().magic_tuple()[2].split(","):
            return builder.fdiv(_all_of(1.0), below)
        kind = ir.FunctionType(floats16.vector, [floats16.vector, floats16.vector, ir.IntType(LANES)])
        reciprocal = builder.module.declare_intrinsic("llvm.x86.avx512.rcp14.ps.512", fnty=kind)
        near = builder.call(reciprocal, [below, _all_of(0.0), ir.IntType(LANES)(-1)])  # 14 bits: a step of Newton's doubles them
        wrong = _multiply_add(builder, builder.fneg(below), near, _all_of(1.0))
        return _multiply_add(builder, near, wrong, near)

    return floats16(floats16), generate


@intrinsic
def over(typing_context: Any, value: Any) -> Any:
    """1 / value of sixteen float32."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.fdiv(_all_of(1.0), arguments[0])

    return floats16(floats16), generate


def _all_of(number: float) -> Any:
    return ir.Constant(floats16.vector, [number] * LANES)


def _multiply_add(builder: Any, factor: Any, other: Any, summand: Any) -> Any:
    return builder.fadd(builder.fmul(factor, other, flags=["contract"]), summand, flags=["contract"])


def _power(builder: Any, x: Any) -> Any:
    """e^x for x from -87 to 87."""
    rounded = builder.fadd(builder.fmul(x, _all_of(LOG2_E)), _all_of(ROUNDS))
    n = builder.fsub(rounded, _all_of(ROUNDS))
    r = x  # x = n ln 2 + r
    for part in LN_2:
        r = _multiply_add(builder, n, _all_of(-part), r)
    power = _all_of(TAYLOR[0])
    for factor in TAYLOR[1:]:
        power = _multiply_add(builder, power, r, _all_of(factor))
    whole = builder.bitcast(rounded, words16.vector)  # n stands in the lowest bits
    exponent = builder.shl(whole, ir.Constant(words16.vector, [23] * LANES))
    return builder.bitcast(builder.add(builder.bitcast(power, words16.vector), exponent), floats16.vector)
