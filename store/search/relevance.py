"""Exact search by relevance: whole numbers rule most behaviours out, real ones decide among the rest.

1. `guess_limits`: from a sample, a limit that a few more than the wanted behaviours are expected to reach.
2. `reach`: the behaviours whose upper bound, by bytes, reaches the limit.
3. `score`: the relevance of the promising ones among them, from the tables, in one fixed order of summation.
4. If as many as wanted are at the limit or above it, none of the others can be among them, ties included.
   Otherwise the limit is lowered and the candidate searched once more, alone.

Answers depend on none of the limits, samples and bytes; time does. It is longest where most behaviours are alike
to a candidate: then all of them are scored.
"""

from typing import Any, NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray

from store.search.bounds import TILE, from_ordered, guess_limits, kth, ordered, reach
from store.search.lanes import LANES, fetch, load_float, load_floats, lowest_bit, place_of, sums_of_four, times
from store.search.packing import LARGEST, PAIR, PackedKeys, Words, lay_out, pack_queries
from store.search.workspace import Workspace, read_only
from store.types import Floats, Rows

MADE_WITH = "f1cbd70e"  # of the files whose kernels it calls: tests/store/search/test_compiled.py

LISTS = 512  # lists of a candidate and head each that are filled before the first is looked at
PLACES = 2048  # of a list, and two more for each of k
SAMPLE = 16  # one of so many pairs of blocks is in the sample of a long life
SAMPLED = 1024  # behaviours in a sample at least
AHEAD = 8  # behaviours before its turn a key is asked for
ATTEMPTS = 12  # to find a lower limit, before there is none


@njit(cache=True, nogil=True)
def relevance_of(query: Floats, table: Floats, q: int, t: int, width: int, bias: np.float32) -> np.float32:
    """Bias and dot product of what stands from `q` and from `t` on, four products at a time, always in this order."""
    value, d = bias, 0
    while d + LANES <= width:
        sums = sums_of_four(times(load_floats(query, q + d), load_floats(table, t + d)))
        value += place_of(sums, 0)
        value += place_of(sums, 4)
        value += place_of(sums, 8)
        value += place_of(sums, 12)
        d += LANES
    while d + 4 <= width:
        p0, p1 = load_float(query, q + d) * load_float(table, t + d), load_float(query, q + d + 1) * load_float(table, t + d + 1)
        p2, p3 = (
            load_float(query, q + d + 2) * load_float(table, t + d + 2),
            load_float(query, q + d + 3) * load_float(table, t + d + 3),
        )
        value += (p0 + p1) + (p2 + p3)
        d += 4
    while d < width:
        value += load_float(query, q + d) * load_float(table, t + d)
        d += 1
    return value


@njit(cache=True, nogil=True)
def score(query: Floats, table: Floats, row: Rows, bias: Floats, c: int, h: int, index: Rows, count: int, value: Words) -> None:
    """The relevance of the `count` behaviours in `index`, in `value`, as `ordered` has it."""
    _, heads, width = query.shape
    for i in range(count):
        if i + AHEAD < count:
            later = (np.int64(row[index[i + AHEAD]]) * heads + h) * width
            for d in range(0, width, LANES):
                fetch(table, later + d)
        at = (np.int64(row[index[i]]) * heads + h) * width
        value[i] = ordered(relevance_of(query, table, (c * heads + h) * width, at, width, bias[h, index[i]]))


@njit(cache=True, nogil=True)
def promising(index: Rows, upper: Floats, scale: Floats, margin: Any, slack: Any, k: int, count: int, scratch: Words) -> Any:
    """Drop from a list what has k others surely above it; how many are left, and a relevance that k of them reach.

    A relevance is at least its upper bound less twice margin and slack; k behaviours reach the k-th largest of these.
    """
    if count < k:
        return count, np.uint32(0)
    for i in range(count):
        scratch[i] = ordered(upper[i] - np.float32(2) * (margin * scale[index[i]] + slack))
    reached = kth(scratch, k, count, 32)
    kept = 0
    for i in range(count):
        index[kept] = index[i]
        kept += int(ordered(upper[i]) >= reached)
    return kept, reached


@njit(cache=True, nogil=True)
def best_of(index: Rows, value: Words, count: int, k: int, scratch: Words) -> None:
    """Leave the k of largest value, k in 1..count, in `index` and `value`; of equal values the newest."""
    for i in range(count):
        scratch[i] = value[i]
    last = kth(scratch, k, count, 32)
    ties = k
    for i in range(count):
        ties -= int(value[i] > last)
    older = -ties  # of those at the k-th value, so many are too old
    for i in range(count):
        older += int(value[i] == last)
    kept = 0
    for i in range(count):
        tied = value[i] == last
        index[kept], value[kept] = index[i], value[i]
        kept += int(value[i] > last or (tied and older <= 0))
        older -= int(tied)


@njit(cache=True, nogil=True)
def settle(index: Rows, value: Words, count: int, least: Any, k: int, ranked: bool, scratch: Words, out: Rows) -> int:
    """The k best of those not below `least`, in `out`, best first if `ranked`, else ascending; how many there are."""
    kept = 0
    for i in range(count):
        index[kept], value[kept] = index[i], value[i]
        kept += int(value[i] >= least)
    if kept > k:
        best_of(index, value, kept, k, scratch)
        kept = k
    for i in range(kept):
        better = np.int32(i)
        if ranked:
            better = np.int32(0)
            for j in range(i):
                better += np.int32(value[j] > value[i])
            for j in range(i + 1, kept):
                better += np.int32(value[j] >= value[i])
        out[better] = index[i]
    return kept


@njit(cache=True, nogil=True)
def take_in_turn(ranking: Rows, ranked: Any, k: int, taken: Any, out: Rows) -> Any:
    """Round robin over the heads' lists until k different behaviours are together, ascending in `out`.

    Returns:
        the head whose list was too short, or -1; how many places of the lists were looked at.
    """
    count, depth, short = 0, 0, -1
    while count < k and short < 0:
        for h in range(len(ranked)):
            if count < k and short < 0:
                if depth < ranked[h]:
                    i = ranking[h, depth]
                    bit = np.uint64(1) << np.uint64(i & 63)
                    count += int((taken[i >> 6] & bit) == 0)
                    taken[i >> 6] |= bit
                else:
                    short = h
        depth += 1
    at = 0
    for w in range(len(taken)):
        left = taken[w]
        taken[w] = 0
        while left:
            out[at] = w * 64 + lowest_bit(left)
            at += 1
            left &= left - np.uint64(1)
    return short, depth


class Room(NamedTuple):
    """What a search writes to; L is rounded up to whole pairs, C to whole tiles and a tile more for lone searches."""

    words: Words  # uint32 [H, L / 16, W, 16]
    scale: Floats  # float32 [H, L]
    raised: Floats  # float32 [H, L]
    query: NDArray[np.int32]  # int32 [H, C, W]
    start: Rows  # int32 [H, C]
    step: Floats  # float32 [H, C], as the next two
    margin: Floats
    limit: Floats
    found: Rows  # int32 [H, C]
    reached: Rows  # int32 [H, C, places]
    upper: Floats  # float32 [H, C, places]
    lone_index: Rows  # int32 [1, L]
    lone_upper: Floats  # float32 [1, L]
    value: Words  # uint32 [L + 16], as the next
    scratch: Words
    ranking: Rows  # int32 [H, k]
    ranked: NDArray[np.int64]  # int64 [H]
    taken: NDArray[np.uint64]  # uint64 [L / 64], zeros


WORKSPACE = Workspace()


def room_for(candidates: int, heads: int, word_count: int, length: int, k: int) -> Room:
    """Room in this thread's memory, for some of the candidates at a time. Cost: bytes, about 4 (W + 6) a behaviour and head."""
    blocks = -(-length // PAIR) * 2
    chunk = min(max(LISTS // heads // TILE, 1), -(-candidates // TILE)) * TILE + TILE
    places = min(length, PLACES + 2 * k)
    padded, rows = (heads, blocks * LANES), (heads, chunk)
    return Room(*WORKSPACE.arrays(
        ("u4", (heads, blocks, word_count, LANES)), ("f4", padded), ("f4", padded), ("i4", (*rows, word_count)), ("i4", rows),
        ("f4", rows), ("f4", rows), ("f4", rows), ("i4", rows), ("i4", (*rows, places)), ("f4", (*rows, places)),
        ("i4", (1, length)), ("f4", (1, length)), ("u4", (length + LANES,)), ("u4", (length + LANES,)),
        ("i4", (heads, k)), ("i8", (heads,)), ("u8", (length // 64 + 1,)),
    ))  # fmt: skip


def union_of_heads(query: Floats, table: Floats, packed: PackedKeys, row: Rows, bias: Floats, k: int) -> Rows:
    """Round-robin union of the heads' ranked lists: int32 [C, k], ascending in each row.

    Args:
        query: float32 [C, H, d_k]; table: float32 [N, H, d_k]; packed: the table's; row: int32 [L], L >= 1;
        bias: float32 [H, L]; k: 1..L.
    """
    out = np.empty((len(query), k), np.int32)
    if k == len(row):
        out[:] = np.arange(k)
        return out
    room = room_for(len(query), query.shape[1], packed.words.shape[2], len(row), k)
    search_heads(query, read_only(table), *packed, read_only(row), bias, k, room, out)
    return out


@njit(cache=True, nogil=True)
def reach_of_head(room: Room, h: int, begin: int, end: int, length: int, index: Rows, upper: Floats) -> None:
    """`reach` for the candidates `begin` to `end`."""
    reach(
        room.words[h], room.scale[h], room.raised[h], room.query[h, begin:end], room.start[h, begin:end], room.step[h, begin:end],
        room.margin[h, begin:end], room.limit[h, begin:end], length, index, upper, room.found[h, begin:end],
    )  # fmt: skip


@njit(cache=True, nogil=True)
def search_alone(
    query: Floats, table: Floats, row: Rows, bias: Floats, c: int, h: int, slack: Any, largest: Any, k: int, room: Room,
) -> None:  # fmt: skip
    """The k best of one head for one candidate, best first, in `room.ranking[h]`: with lower limits, until there are k."""
    length, lone = len(row), room.query.shape[1] - TILE
    for w in range(room.query.shape[2]):
        room.query[h, lone, w] = room.query[h, c, w]
    room.start[h, lone], room.step[h, lone], room.margin[h, lone] = room.start[h, c], room.step[h, c], room.margin[h, c]
    lower, drop = room.limit[h, c], np.float32(8) * room.margin[h, c] * largest
    if room.found[h, c] <= room.reached.shape[2]:  # the list was whole, and too short
        lower -= drop
    index, upper = room.lone_index, room.lone_upper
    for attempt in range(ATTEMPTS + 1):
        room.limit[h, lone] = lower if attempt < ATTEMPTS else -np.inf
        reach_of_head(room, h, lone, lone + TILE, length, index, upper)
        n, least = room.found[h, lone], np.uint32(0)
        if room.limit[h, lone] > -np.inf:
            n, least = promising(index[0], upper[0], room.scale[h], room.margin[h, c], slack, k, n, room.scratch)
            if n < k or least < ordered(room.limit[h, lone]):
                lower -= drop
                drop *= np.float32(2)
                if n >= k:
                    lower = min(lower, from_ordered(least))
                continue
        score(query, table, row, bias, c, h, index[0], n, room.value)
        room.ranked[h] = settle(index[0], room.value, n, least, k, True, room.scratch, room.ranking[h])
        return


@njit(cache=True, nogil=True)
def search_heads(
    query: Floats, table: Floats, packed: Words, packed_scale: Floats, longest: Any, row: Rows, bias: Floats, k: int,
    room: Room, out: Rows,
) -> None:  # fmt: skip
    """`union_of_heads`, with room to write to."""
    count, heads, width = query.shape
    length, chunk, places = len(row), room.query.shape[1] - TILE, room.reached.shape[2]
    slack, largest = lay_out(packed, packed_scale, row, bias, width, room.words, room.scale, room.raised)
    for w in range(len(room.taken)):
        room.taken[w] = 0
    every = SAMPLE
    while every > 1 and length < SAMPLED * every:
        every //= 2
    sampled = (room.words.shape[1] // 2 + every - 1) // every * PAIR
    wanted = k if heads == 1 else min(k, 2 * k // heads + 2)  # of each list; more where that was not enough
    for begin in range(0, count, chunk):
        members = min(chunk, count - begin)
        part = query[begin : begin + members]
        expected = wanted * min(sampled / length, 1.0)
        place = int(1.05 * expected + 2.5 * np.sqrt(expected * max(1 - sampled / length, 0.0)) + 2)
        for h in range(heads):
            pack_queries(part, h, longest[h], room.query[h], room.start[h], room.step[h], room.margin[h])
            if place < min(sampled, length):
                guess_limits(
                    room.words[h], room.scale[h], room.raised[h], room.query[h], room.start[h], room.step[h], every, place,
                    room.limit[h, :chunk],
                )  # fmt: skip
            for c in range(chunk + TILE):
                if c >= members:  # nobody, whom nothing reaches
                    room.start[h, c], room.step[h, c], room.margin[h, c], room.limit[h, c] = 0, 0, 0, np.inf
                elif place >= min(sampled, length) or not room.margin[h, c] * largest[h] < LARGEST:  # no bound: all are scored
                    room.limit[h, c], room.margin[h, c] = -np.inf, 0
            reach_of_head(room, h, 0, chunk, length, room.reached[h], room.upper[h])
        depths = 0
        for c in range(members):
            for h in range(heads):
                n, low, least = room.found[h, c], room.limit[h, c], np.uint32(0)
                index, margin = room.reached[h, c], room.margin[h, c]
                room.ranked[h] = 0
                if n <= places:
                    if low > -np.inf:
                        n, least = promising(index, room.upper[h, c], room.scale[h], margin, slack[h], wanted, n, room.scratch)
                        least = max(least, ordered(low))
                    score(part, table, row, bias, c, h, index, n, room.value)
                    room.ranked[h] = settle(index, room.value, n, least, k, heads > 1, room.scratch, room.ranking[h])
            if heads == 1 and room.ranked[0] == k:
                for i in range(k):
                    out[begin + c, i] = room.ranking[0, i]
                continue
            short, depth = take_in_turn(room.ranking, room.ranked, k, room.taken, out[begin + c])
            while short >= 0:
                search_alone(part, table, row, bias, c, short, slack[short], largest[short], k, room)
                short, depth = take_in_turn(room.ranking, room.ranked, k, room.taken, out[begin + c])
            depths += depth
        if heads > 1:
            wanted = min(k, depths * 9 // (8 * members) + 2)  # some more than the last candidates needed
