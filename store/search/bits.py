"""Bits of 64-bit words, beside `lanes.py`: what the searches of signatures count and compare."""

from typing import Any

from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from store.search.lanes import I8, address_of, splat


@intrinsic
def lowest_bit(typing_context: Any, word: Any) -> Any:
    """Place of the lowest bit set in a uint64; 64 where none is."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.cttz(arguments[0], ir.Constant(ir.IntType(1), 0))

    return types.int64(types.uint64), generate


@intrinsic
def popcount(typing_context: Any, word: Any) -> Any:
    """Bits set in a uint64: the processor's own instruction."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.ctpop(arguments[0])

    return types.uint64(types.uint64), generate


@intrinsic
def within(typing_context: Any, array: Any, at: Any, target: Any, limit: Any) -> Any:
    """Bit j of the answer: of 64 uint64 from place `at` on, the j-th differs from `target` in no more than `limit` bits."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        values, at, target, limit = arguments
        long = ir.IntType(64)
        vector = ir.VectorType(long, 8)
        targets, limits = splat(builder, target, 8), splat(builder, limit, 8)
        count_bits = builder.module.declare_intrinsic("llvm.ctpop.v8i64", fnty=ir.FunctionType(vector, [vector]))
        answer = ir.Constant(long, 0)
        for part in range(8):
            place = builder.add(at, ir.Constant(long, 8 * part))
            address = builder.bitcast(address_of(context, builder, array, values, place), vector.as_pointer())
            distance = builder.call(count_bits, [builder.xor(builder.load(address, align=8, typ=vector), targets)])
            bits = builder.bitcast(builder.icmp_unsigned("<=", distance, limits), I8)
            answer = builder.or_(answer, builder.shl(builder.zext(bits, long), ir.Constant(long, 8 * part)))
        return answer

    return types.uint64(array, types.intp, types.uint64, types.uint64), generate
