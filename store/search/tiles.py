"""Products of matrices in tiles that stay in registers, beside `lanes.py`: eight columns by thirty-two rows at a time.

The rows stand side by side in the lanes, so a number of the other matrix is one load into all of them.
"""

from typing import Any

from llvmlite import ir
from numba import njit, types
from numba.core import cgutils
from numba.extending import intrinsic

from store.search.lanes import LANES, floats16, load_floats
from store.types import Floats

MADE_WITH = "de69e0ab"  # of the files whose kernels it calls: tests/store/search/test_compiled.py

COLUMNS, ROWS = 8, 2 * LANES
sums32x8 = types.UniTuple(floats16, 2 * COLUMNS)  # two vectors of rows for each column


def _splat(context: Any, builder: Any, array: Any, values: Any, at: Any, column: int) -> Any:
    """One float32 of an array, in all places."""
    place = builder.add(at, ir.Constant(at.type, column))
    one = builder.load(builder.gep(context.make_array(array)(context, builder, values).data, [place]))
    alone = builder.insert_element(ir.Constant(floats16.vector, ir.Undefined), one, ir.IntType(32)(0))
    return builder.shuffle_vector(alone, alone, ir.Constant(ir.VectorType(ir.IntType(32), LANES), [0] * LANES))


@intrinsic
def tile_of(typing_context: Any, array: Any, at: Any) -> Any:
    """A tile whose columns hold the eight float32 of an array from place `at` on."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        values, at = arguments
        each = [_splat(context, builder, array, values, at, column) for column in range(COLUMNS)]
        return cgutils.pack_array(builder, [vector for vector in each for _ in range(2)])

    return sums32x8(array, types.intp), generate


@intrinsic
def tile_plus(typing_context: Any, sums: Any, first: Any, second: Any, array: Any, at: Any) -> Any:
    """A tile, plus thirty-two rows times the eight float32 of an array from place `at` on."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        total, *rows, values, at = arguments
        found = []
        for column in range(COLUMNS):
            weight = _splat(context, builder, array, values, at, column)
            for half, row in enumerate(rows):
                product = builder.fmul(row, weight, flags=["contract"])
                found.append(builder.fadd(builder.extract_value(total, 2 * column + half), product, flags=["contract"]))
        return cgutils.pack_array(builder, found)

    return sums32x8(sums32x8, floats16, floats16, array, types.intp), generate


@intrinsic
def store_tile(typing_context: Any, array: Any, at: Any, sums: Any) -> Any:
    """A tile into an array from place `at` on, column after column."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        values, at, total = arguments
        data = context.make_array(array)(context, builder, values).data
        for number in range(2 * COLUMNS):
            place = builder.gep(data, [builder.add(at, ir.Constant(at.type, number * LANES))])
            address = builder.bitcast(place, floats16.vector.as_pointer())
            builder.store(builder.extract_value(total, number), address, align=4)
        return context.get_dummy_value()

    return types.void(array, types.intp, sums32x8), generate


@njit(cache=True, nogil=True, _nrt=False)
def add_product(start: Floats, first: Any, rows: Floats, at: Any, weights: Floats, out: Floats) -> None:
    """out[j] = start[first + j] + sum over d of rows[d, at:][:32] * weights[d, j], for all columns j, a multiple of eight."""
    depth, columns = weights.shape
    stride = rows.shape[1]
    for j in range(0, columns, COLUMNS):
        sums = tile_of(start, first + j)
        for d in range(depth):
            place = d * stride + at
            sums = tile_plus(sums, load_floats(rows, place), load_floats(rows, place + LANES), weights, d * columns + j)
        store_tile(out, j * ROWS, sums)
