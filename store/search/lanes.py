"""Sixteen numbers at once, for the kernels: vectors of LLVM's, which are registers where the processor has them.

numba has no such types. An operation here is a few instructions of LLVM's; all but two are compiled for any
processor, in as many registers as it takes. The two are `add_dots`, which AVX-512 VNNI has as an instruction, and
`store_marked`, which AVX-512 has: the processor that numba compiles for decides, and the answer is the same either way.
"""

from collections.abc import Callable
from typing import Any

from llvmlite import ir
from numba import types
from numba.extending import intrinsic, models, register_model

LANES = 16
I8, I16, I32, FLOAT = ir.IntType(8), ir.IntType(16), ir.IntType(32), ir.FloatType()


class Vector(types.Type):  # type: ignore[misc]
    """A numba type that is one vector of LLVM's."""

    def __init__(self, name: str, element: Any, lanes: int) -> None:
        self.vector = ir.VectorType(element, lanes)
        super().__init__(name)


@register_model(Vector)
class VectorModel(models.PrimitiveModel):  # type: ignore[misc]
    """How it is kept: as it is."""

    def __init__(self, manager: Any, kind: Vector) -> None:
        super().__init__(manager, kind, kind.vector)


words16 = Vector("words16", I32, LANES)  # uint32 [16], or four bytes in each
floats16 = Vector("floats16", FLOAT, LANES)  # float32 [16]


def address_of(context: Any, builder: Any, kind: Any, array: Any, at: Any) -> Any:
    """Of a place of a contiguous array, wherever its axes end."""
    return builder.gep(context.make_array(kind)(context, builder, array).data, [at])


def _loads(vector: Vector) -> Callable[..., Any]:
    def load(typing_context: Any, array: Any, at: Any) -> Any:
        def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            address = address_of(context, builder, array, *arguments)
            return builder.load(builder.bitcast(address, vector.vector.as_pointer()), align=4, typ=vector.vector)

        return vector(array, types.intp), generate

    return load


load_words = intrinsic(_loads(words16))
load_floats = intrinsic(_loads(floats16))


@intrinsic
def load_first(typing_context: Any, array: Any, at: Any, count: Any) -> Any:
    """As many float32 as `count` says, 0 in the other places; nothing is read beyond them."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        values, at, count = arguments
        address, wanted = _first(context, builder, array, values, at, count)
        zeros = ir.Constant(floats16.vector, [0.0] * LANES)
        kind = ir.FunctionType(floats16.vector, [address.type, I32, wanted.type, floats16.vector])
        instruction = builder.module.declare_intrinsic("llvm.masked.load.v16f32.p0", fnty=kind)
        return builder.call(instruction, [address, I32(4), wanted, zeros])

    return floats16(array, types.intp, types.intp), generate


@intrinsic
def store_first(typing_context: Any, array: Any, at: Any, value: Any, count: Any) -> Any:
    """As many of sixteen float32 as `count` says into an array, from place `at` on; nothing is written beyond them."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        values, at, numbers, count = arguments
        address, wanted = _first(context, builder, array, values, at, count)
        kind = ir.FunctionType(ir.VoidType(), [floats16.vector, address.type, I32, wanted.type])
        instruction = builder.module.declare_intrinsic("llvm.masked.store.v16f32.p0", fnty=kind)
        builder.call(instruction, [numbers, address, I32(4), wanted])
        return context.get_dummy_value()

    return types.void(array, types.intp, floats16, types.intp), generate


def _first(context: Any, builder: Any, kind: Any, values: Any, at: Any, count: Any) -> Any:
    """Address of sixteen float32, and which of them are the first so many."""
    address = builder.bitcast(address_of(context, builder, kind, values, at), floats16.vector.as_pointer())
    places = ir.Constant(words16.vector, list(range(LANES)))
    return address, builder.icmp_signed("<", places, splat(builder, builder.trunc(count, I32)))


@intrinsic
def store_marked(typing_context: Any, array: Any, at: Any, value: Any, marks: Any) -> Any:
    """value[j] for each bit j of the lower sixteen of `marks` that is set, side by side into an array from place `at` on; up to
    sixteen places from there are overwritten. How many there are."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        values, at, numbers, marks = arguments
        numbers = builder.bitcast(numbers, words16.vector)
        bits = builder.trunc(marks, I16)
        if "+avx512f" in context.codegen().magic_tuple()[2].split(","):
            chosen = builder.bitcast(bits, ir.VectorType(ir.IntType(1), LANES))
            kind = ir.FunctionType(words16.vector, [words16.vector, words16.vector, chosen.type])
            instruction = builder.module.declare_intrinsic("llvm.x86.avx512.mask.compress.v16i32", fnty=kind)
            together = builder.call(instruction, [numbers, ir.Constant(words16.vector, [0] * LANES), chosen])
            address = builder.bitcast(address_of(context, builder, array, values, at), words16.vector.as_pointer())
            builder.store(together, address, align=4)
            return builder.zext(builder.ctpop(builder.zext(bits, I32)), ir.IntType(64))
        place = at
        for j in range(LANES):
            address = builder.bitcast(address_of(context, builder, array, values, place), I32.as_pointer())
            builder.store(builder.extract_element(numbers, I32(j)), address)
            bit = builder.and_(builder.lshr(bits, I16(j)), I16(1))
            place = builder.add(place, builder.zext(bit, ir.IntType(64)))
        return builder.sub(place, at)

    return types.int64(array, types.intp, value, types.uint64), generate


@intrinsic
def counted(typing_context: Any, first: Any) -> Any:
    """An int32 and the fifteen after it."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.add(splat(builder, arguments[0]), ir.Constant(words16.vector, list(range(LANES))))

    return words16(types.int32), generate


@intrinsic
def in_order(typing_context: Any, value: Any) -> Any:
    """Sixteen float32 as integers of the same order; -0 and 0 are equal."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        bits = builder.bitcast(builder.fadd(arguments[0], ir.Constant(floats16.vector, [0.0] * LANES)), words16.vector)
        negative = builder.ashr(bits, ir.Constant(words16.vector, [31] * LANES))
        return builder.xor(bits, builder.or_(negative, ir.Constant(words16.vector, [-(2**31)] * LANES)))

    return words16(floats16), generate


@intrinsic
def at_least(typing_context: Any, values: Any, limit: Any) -> Any:
    """Bit j of the answer: the j-th of sixteen uint32 is not below a limit."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        bits = builder.icmp_unsigned(">=", arguments[0], splat(builder, arguments[1]))
        return builder.zext(builder.bitcast(bits, I16), ir.IntType(64))

    return types.uint64(words16, types.uint32), generate


@intrinsic
def store(typing_context: Any, array: Any, at: Any, value: Any) -> Any:
    """Sixteen numbers into a contiguous array, from place `at` on."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        address = address_of(context, builder, array, *arguments[:2])
        builder.store(arguments[2], builder.bitcast(address, value.vector.as_pointer()), align=4)
        return context.get_dummy_value()

    return types.void(array, types.intp, value), generate


def splat(builder: Any, value: Any, lanes: int = LANES) -> Any:
    one = builder.insert_element(ir.Constant(ir.VectorType(value.type, lanes), ir.Undefined), value, I32(0))
    return builder.shuffle_vector(one, one, ir.Constant(ir.VectorType(I32, lanes), [0] * lanes))


@intrinsic
def words_of(typing_context: Any, value: Any) -> Any:
    """One int32 in all places."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return splat(builder, arguments[0])

    return words16(types.int32), generate


@intrinsic
def floats_of(typing_context: Any, value: Any) -> Any:
    """One float32 in all places."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return splat(builder, arguments[0])

    return floats16(types.float32), generate


@intrinsic
def to_floats(typing_context: Any, value: Any) -> Any:
    """int32 [16] as float32."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.sitofp(arguments[0], floats16.vector)

    return floats16(words16), generate


@intrinsic
def times_plus(typing_context: Any, factor: Any, other: Any, summand: Any) -> Any:
    """factor * other + summand, rounded once or twice as the processor likes: for bounds, not for answers."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        product = builder.fmul(arguments[0], arguments[1], flags=["contract"])
        return builder.fadd(product, arguments[2], flags=["contract"])

    return floats16(floats16, floats16, floats16), generate


@intrinsic
def not_below(typing_context: Any, first: Any, second: Any, limit: Any) -> Any:
    """Bit j of the answer: the j-th of 32 float32 is not less than a limit; what is no number is not less."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        *halves, limit = arguments
        low, high = (builder.fcmp_unordered(">=", half, splat(builder, limit)) for half in halves)
        places = ir.Constant(ir.VectorType(I32, 2 * LANES), list(range(2 * LANES)))
        return builder.bitcast(builder.shuffle_vector(low, high, places), I32)

    return types.uint32(floats16, floats16, types.float32), generate


@intrinsic
def add_dots(typing_context: Any, total: Any, keys: Any, query: Any) -> Any:
    """total[j] + the dot product of the four unsigned bytes of keys[j] and the four signed bytes of `query`, an int32."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        whole, bytes_of_keys, query_word = arguments
        queries = splat(builder, query_word)
        if "+avx512vnni" in context.codegen().magic_tuple()[2].split(","):
            kind = ir.FunctionType(words16.vector, [words16.vector] * 3)
            instruction = builder.module.declare_intrinsic("llvm.x86.avx512.vpdpbusd.512", fnty=kind)
            return builder.call(instruction, [whole, bytes_of_keys, queries])
        return builder.add(whole, _dots(builder, bytes_of_keys, queries))

    return words16(words16, words16, types.int32), generate


def _dots(builder: Any, keys: Any, queries: Any) -> Any:
    """The four products of each word, added: in pairs of 16 bits, which most processors have an instruction for."""
    count = 4 * LANES
    wide = ir.VectorType(I16, count)
    unsigned = builder.zext(builder.bitcast(keys, ir.VectorType(I8, count)), wide)
    signed = builder.sext(builder.bitcast(queries, ir.VectorType(I8, count)), wide)

    def every_fourth(values: Any, first: int) -> Any:
        places = ir.Constant(words16.vector, list(range(first, count, 4)))
        return builder.sext(builder.shuffle_vector(values, values, places), words16.vector)

    products = [builder.mul(every_fourth(unsigned, byte), every_fourth(signed, byte)) for byte in range(4)]
    return builder.add(builder.add(products[0], products[1]), builder.add(products[2], products[3]))


@intrinsic
def bits_of(typing_context: Any, value: Any) -> Any:
    """The 32 bits of a float32."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.bitcast(arguments[0], I32)

    return types.uint32(types.float32), generate


@intrinsic
def float_of(typing_context: Any, value: Any) -> Any:
    """The float32 of 32 bits."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.bitcast(arguments[0], FLOAT)

    return types.float32(types.uint32), generate


@intrinsic
def times(typing_context: Any, factor: Any, other: Any) -> Any:
    """factor * other, in each place."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.fmul(*arguments)

    return floats16(floats16, floats16), generate


@intrinsic
def plus(typing_context: Any, value: Any, other: Any) -> Any:
    """value + other, in each place."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.fadd(*arguments)

    return floats16(floats16, floats16), generate


@intrinsic
def sum_of(typing_context: Any, value: Any) -> Any:
    """The sum of sixteen float32, always in this order: the upper half is added to the lower, until one is left."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        total, lanes = arguments[0], LANES
        while lanes > 1:
            lanes //= 2
            half = ir.VectorType(I32, lanes)
            lower = builder.shuffle_vector(total, total, ir.Constant(half, list(range(lanes))))
            upper = builder.shuffle_vector(total, total, ir.Constant(half, list(range(lanes, 2 * lanes))))
            total = builder.fadd(lower, upper)
        return builder.extract_element(total, I32(0))

    return types.float32(floats16), generate


@intrinsic
def larger(typing_context: Any, value: Any, other: Any) -> Any:
    """The larger of two float32, in each place."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.select(builder.fcmp_ordered(">", *arguments), *arguments)

    return floats16(floats16, floats16), generate


@intrinsic
def count_from(typing_context: Any, values: Any, limit: Any) -> Any:
    """How many of sixteen uint32 are not below a limit."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        bits = builder.icmp_unsigned(">=", arguments[0], splat(builder, arguments[1]))
        return builder.zext(builder.ctpop(builder.zext(builder.bitcast(bits, I16), I32)), ir.IntType(64))

    return types.int64(words16, types.uint32), generate


@intrinsic
def load_word(typing_context: Any, array: Any, at: Any) -> Any:
    """One int32, or four bytes, of an array."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        address = address_of(context, builder, array, *arguments)
        return builder.load(builder.bitcast(address, I32.as_pointer()), align=4, typ=I32)

    return types.int32(array, types.intp), generate


@intrinsic
def load_float(typing_context: Any, array: Any, at: Any) -> Any:
    """One float32 of an array."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        address = builder.bitcast(address_of(context, builder, array, *arguments), FLOAT.as_pointer())
        return builder.load(address, typ=FLOAT)

    return types.float32(array, types.intp), generate


def _fetches(nearness: int) -> Callable[..., Any]:
    def fetch(typing_context: Any, array: Any, at: Any) -> Any:
        def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            address = builder.bitcast(address_of(context, builder, array, *arguments), I8.as_pointer())
            kind = ir.FunctionType(ir.VoidType(), [I8.as_pointer(), I32, I32, I32])
            instruction = builder.module.declare_intrinsic("llvm.prefetch.p0", fnty=kind)
            builder.call(instruction, [address, I32(0), I32(nearness), I32(1)])  # to read; how near; data
            return context.get_dummy_value()

        return types.void(array, types.intp), generate

    return fetch


fetch = intrinsic(_fetches(3))  # start to bring a place of an array into the nearest cache
fetch_early = intrinsic(_fetches(2))  # into the second: what is at work keeps the first
