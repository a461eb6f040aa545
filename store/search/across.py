"""Across the lanes of sixteen numbers, beside `lanes.py`: for four rows that stand side by side, a number of each in turn.

Sums are in the order of `sum_of`: the upper half is added to the lower, until one is left.
"""

from collections.abc import Callable, Sequence
from typing import Any

from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from store.search.lanes import I32, LANES, floats16

FOUR = 4  # rows: number l of a vector is of row l % 4


@intrinsic
def store_sums(typing_context: Any, array: Any, at: Any, first: Any, second: Any, third: Any, fourth: Any) -> Any:
    """The sums of four times sixteen float32, side by side into an array from place `at` on; two thirds of what four `sum_of`
    take."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        values, at, *rows = arguments
        a, b, c, d = (_added(builder, row, row, range(8), range(8, 16)) for row in rows)
        lower, upper = (0, 1, 2, 3, 8, 9, 10, 11), (4, 5, 6, 7, 12, 13, 14, 15)
        ab, cd = _added(builder, a, b, lower, upper), _added(builder, c, d, lower, upper)  # four of each
        acbd = _added(builder, ab, cd, (0, 1, 8, 9, 4, 5, 12, 13), (2, 3, 10, 11, 6, 7, 14, 15))  # two of each
        sums = _added(builder, acbd, acbd, (0, 4, 2, 6), (1, 5, 3, 7))
        address = builder.gep(context.make_array(signature.args[0])(context, builder, values).data, [at])
        builder.store(sums, builder.bitcast(address, sums.type.as_pointer()), align=4)
        return context.get_dummy_value()

    return types.void(array, types.intp, floats16, floats16, floats16, floats16), generate


@intrinsic
def sum_of_each_row(typing_context: Any, value: Any) -> Any:
    """The sum of what each of four rows has of sixteen float32, in all of its places."""
    return floats16(floats16), _over_rows(lambda builder, one, other: builder.fadd(one, other))


@intrinsic
def most_of_each_row(typing_context: Any, value: Any) -> Any:
    """The largest that each of four rows has of sixteen float32, in all of its places."""

    def most(builder: Any, one: Any, other: Any) -> Any:
        return builder.select(builder.fcmp_ordered(">", one, other), one, other)

    return floats16(floats16), _over_rows(most)


def _added(builder: Any, one: Any, other: Any, lower: Sequence[int], upper: Sequence[int]) -> Any:
    """The sum of two choices of places, of two vectors that stand one behind the other."""
    chosen = [ir.Constant(ir.VectorType(I32, len(places)), list(places)) for places in (lower, upper)]
    return builder.fadd(*(builder.shuffle_vector(one, other, places) for places in chosen))


def _over_rows(join: Callable[[Any, Any, Any], Any]) -> Callable[..., Any]:
    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        value = arguments[0]
        for by in (LANES // 2, FOUR):
            turned = ir.Constant(ir.VectorType(I32, LANES), [(lane + by) % LANES for lane in range(LANES)])
            value = join(builder, value, builder.shuffle_vector(value, value, turned))
        return value

    return generate
