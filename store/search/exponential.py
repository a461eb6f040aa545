"""The exponential function of sixteen numbers at once, beside `lanes.py`: a library's would be called for each."""

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
        def all_of(number: float) -> Any:
            return ir.Constant(floats16.vector, [number] * LANES)

        def multiply_add(factor: Any, other: Any, summand: Any) -> Any:
            return builder.fadd(builder.fmul(factor, other, flags=["contract"]), summand, flags=["contract"])

        low = builder.fcmp_ordered("<", arguments[0], all_of(LOWEST))
        x = builder.select(low, all_of(LOWEST), arguments[0])
        rounded = builder.fadd(builder.fmul(x, all_of(LOG2_E)), all_of(ROUNDS))
        n = builder.fsub(rounded, all_of(ROUNDS))
        r = x  # x = n ln 2 + r
        for part in LN_2:
            r = multiply_add(n, all_of(-part), r)
        power = all_of(TAYLOR[0])
        for factor in TAYLOR[1:]:
            power = multiply_add(power, r, all_of(factor))
        whole = builder.bitcast(rounded, words16.vector)  # n stands in the lowest bits
        exponent = builder.shl(whole, ir.Constant(words16.vector, [23] * LANES))
        found = builder.add(builder.bitcast(power, words16.vector), exponent)
        return builder.select(low, all_of(0.0), builder.bitcast(found, floats16.vector))

    return floats16(floats16), generate
