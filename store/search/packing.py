"""Keys and queries as bytes, and what the rounding may have changed.

    key = scale * (byte - 128) + error         scale = largest |key| of the item and head / 127
    query = step * byte + error

With whole = sum over d of (byte of key - 128) * (byte of query), a relevance lies within scale * margin of
scale * step * whole + bias, where margin = |query| * R + |error of query| * V, R = the longest |error| / scale
and V = the longest |key - error| / scale of all keys (Cauchy-Schwarz), and a little for sums in float32.
"""

from typing import Any, NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray

from store.search.lanes import LANES, bits_of, fetch, float_of, load_float, load_word
from store.search.workspace import aligned, read_only
from store.types import Floats, Rows

MADE_WITH = "de69e0ab"  # of the files whose kernels it calls: tests/store/search/test_compiled.py

Words = NDArray[np.uint32]

PAIR = 2 * LANES  # behaviours that are compared at a time
TINIEST = 1e-30  # scale of a key or query of zeros; slack at least: numbers below 1e-38 are slow
LARGEST = 1e30  # bounds above it are none
ROUNDING = 2.0**-24
AHEAD = 16  # items before its turn a key is asked for


class PackedKeys(NamedTuple):
    """The keys of all items as bytes: a quarter of the table."""

    words: Words  # uint32 [N, H, W], four bytes in each
    scale: Floats  # float32 [N, H]
    longest: NDArray[np.float64]  # float64 [H, 2], R and V of each head

    @staticmethod
    def of(table: Floats) -> "PackedKeys":
        """Of a table float32 [N, H, d_k]. Cost: about 0.1 us for 64 numbers."""
        items, heads, width = table.shape
        words, scale = aligned("u4", (items, heads, -(-width // 4))), np.empty((items, heads), np.float32)
        return PackedKeys(words, scale, pack_keys(read_only(table), words, scale))


@njit(cache=True, nogil=True, fastmath={"reassoc", "contract", "nsz"})
def pack_keys(table: Floats, words: Words, scale: Floats) -> Any:
    """Keys of all items as bytes. Cost: about 0.1 us an item of 64 numbers.

    Args:
        table: float32 [N, H, d_k]; words: uint32 [N, H, W], four bytes in each, and scale: float32 [N, H], written.

    Returns:
        float64 [H, 2]: R and V of each head; infinite where a key is no number.
    """
    items, heads, width = table.shape
    longest = np.zeros((heads, 2))
    signed = np.zeros(words.shape[2] * 4, np.int8)
    for i in range(items):
        for h in range(heads):
            key = table[i, h]
            largest = np.uint32(0)
            for value in key:
                largest = max(largest, bits_of(value) & np.uint32(0x7FFFFFFF))
            if largest >= np.uint32(0x7F800000):
                longest[h, 0] = np.inf
                largest = np.uint32(0)
            unit = max(float_of(largest) / np.float32(127), np.float32(TINIEST))
            inverse = np.float32(1) / unit
            error, square = np.float32(0), np.float32(0)
            for d in range(width):
                scaled = key[d] * inverse
                whole = np.rint(scaled)
                signed[d] = np.int8(np.int32(whole))
                error += (scaled - whole) * (scaled - whole)
                square += whole * whole
            scale[i, h] = unit
            longest[h, 0] = max(longest[h, 0], np.float64(error))
            longest[h, 1] = max(longest[h, 1], np.float64(square))
            for w in range(words.shape[2]):
                words[i, h, w] = np.uint32(load_word(signed, 4 * w)) ^ np.uint32(0x80808080)
    return np.sqrt(longest) * (1 + 1e-4) + 1e-4 * np.sqrt(width)  # what float32 may hide of them, and more


@njit(cache=True, nogil=True, _nrt=False)
def pack_queries(
    query: Floats, h: int, longest: Any, words: NDArray[np.int32], start: Rows, step: Floats, margin: Floats
) -> None:
    """Queries of one head as bytes, with their margins.

    Args:
        query: float32 [C, H, d_k]; longest: R and V of the head's keys; written, at least C long: words: int32 [C, W];
        start: int32 [C], what takes the 128 away from the keys' bytes; step, margin: float32 [C].
    """
    count, _, width = query.shape
    rounding = (width + 64) * ROUNDING
    for c in range(count):
        largest, square = 0.0, 0.0
        for d in range(width):
            largest = max(largest, abs(np.float64(query[c, h, d])))
            square += np.float64(query[c, h, d]) ** 2
        step[c] = max(largest / 127, TINIEST)
        total: Any = 0
        error = 0.0
        for w in range(words.shape[1]):
            word: Any = 0
            for d in range(4 * w, min(4 * w + 4, width)):
                scaled = np.rint(query[c, h, d] / np.float64(step[c])) if square < np.inf else 0.0
                whole = np.int64(max(min(scaled, 127.0), -127.0))
                total += whole
                error += (query[c, h, d] - np.float64(whole) * step[c]) ** 2
                word |= (whole & 255) << 8 * (d - 4 * w)
            words[c, w] = np.int32(word)
        start[c] = -128 * total
        whole_length, lost = np.sqrt(square), np.sqrt(error)
        summed = (whole_length + lost) * (longest[0] + longest[1])
        margin[c] = (whole_length * longest[0] + lost * longest[1]) * (1 + rounding) + rounding * summed


@njit(cache=True, nogil=True, _nrt=False)
def lay_out(
    packed: Words, packed_scale: Floats, row: Rows, start: Rows, member: Rows, bias: Floats, width: int,
    words: Words, scale: Floats, raised: Floats, highest: Floats, own: Floats, largest_scale: Floats,
) -> None:  # fmt: skip
    """The different items of a request side by side. Cost: reads what is packed of each, and each behaviour's bias, once.

    Args:
        packed: uint32 [N, H, W]; packed_scale: float32 [N, H]; row, start, member: see `distinct`; bias: float32 [L, H];
        written: words: uint32 [H, D / 16, W, 16]; scale: float32 [H, D]; raised: float32 [H, D], the largest bias of
        the item's behaviours and its head's slack; D in these rounded up to whole pairs, and the raised bias there
        minus infinity; highest: float32 [H, D], the largest bias; own: float32 [H, L], each behaviour's bias in the
        order of `member`; largest_scale: float32 [H], infinite where a bias is too large for bounds.
    """
    heads, count, word_count = bias.shape[1], len(row), packed.shape[2]
    for h in range(heads):
        largest, largest_scale[h] = np.float32(0), 0
        for d in range(count):
            top = np.float32(-np.inf)
            for i in range(start[d], start[d + 1]):
                value = bias[member[i], h]
                own[h, i] = value
                if abs(value) > largest or value != value:
                    largest = abs(value) if abs(value) < LARGEST else np.float32(np.inf)
                if not value <= top:
                    top = value
            highest[h, d] = top
        slack = np.float32((width + 64) * ROUNDING * largest + TINIEST)  # what sums in float32 may lose of the bias
        if not largest < LARGEST:
            largest_scale[h] = np.inf
        for d in range(count):
            raised[h, d] = highest[h, d] + slack
        for d in range(count, scale.shape[1]):
            scale[h, d], raised[h, d] = 0, -np.inf
            for w in range(word_count):
                words[h, d // LANES, w, d % LANES] = 0
    size = heads * word_count
    for d in range(count):
        block, lane = d // LANES, d % LANES
        if d + AHEAD < count:
            later = np.int64(row[d + AHEAD]) * size
            for w in range(0, size, LANES):
                fetch(packed, later + w)
            fetch(packed_scale, np.int64(row[d + AHEAD]) * heads)
        for h in range(heads):
            scale[h, d] = packed_scale[row[d], h]
            if scale[h, d] > largest_scale[h]:
                largest_scale[h] = scale[h, d]
            for w in range(word_count):
                words[h, block, w, lane] = packed[row[d], h, w]


@njit(cache=True, nogil=True, _nrt=False)
def gather(keys: Floats, row: Rows, near: Floats, place: Rows) -> None:
    """The keys of a request's different items side by side, float32 [D x H x d_k], and the row of each there, int32 [D].

    A few thousand rows of a large table are in as many pages of memory, more than a processor keeps track of.
    """
    count, size = len(row), keys.shape[1] * keys.shape[2]
    for d in range(count):
        this, later = np.int64(row[d]) * size, np.int64(row[min(d + AHEAD, count - 1)]) * size
        for i in range(0, size, LANES):
            fetch(keys, later + i)
        for i in range(size):
            near[d * size + i] = load_float(keys, this + i)
        place[d] = d
