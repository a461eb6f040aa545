"""Exact search by relevance: whole numbers rule most items out, real ones decide among the rest.

0. `distinct`: behaviours of one item share their dot product, and differ in their own biases only.
1. `guess_limits`: from a sample, a limit that a few more than the wanted items are expected to reach.
2. `reach`: the items whose upper bound, by bytes and their largest bias, reaches the limit.
3. `score`: the relevance of those items' behaviours, from the tables, in one fixed order of summation.
4. If as many behaviours as wanted are at the limit or above it, none of the others can be among them, ties included.
   Otherwise the limit is lowered and the candidate searched once more, alone.

Answers depend on none of the limits, samples and bytes; time does. It is longest where most items are alike
to a candidate: then all of them are scored.
"""

from typing import Any, NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray

from store.search.bounds import TILE, guess_limits, kth, list_marked, ordered, reach
from store.search.distinct import distinct
from store.search.lanes import LANES, count_from, load_words
from store.search.packing import LARGEST, PAIR, PackedKeys, Words, gather, lay_out, pack_queries
from store.search.ranking import Marks, ascending, leave_best, rank, take_in_turn
from store.search.scores import leave_from, score, spread
from store.search.workspace import Workspace, read_only
from store.types import Floats, Rows

MADE_WITH = "fb6aea34"  # of the files whose kernels it calls: tests/store/search/test_compiled.py

MARKS = 1 << 21  # bits, for items that are reached, before the first of them are looked at: they stay in the cache
NEAR = 1 << 19  # numbers: so many keys are gathered, if they are read often, as they stay in the cache
FIRST = 32  # candidates that show how many items the others will need
SAMPLE = 8  # one of so many pairs of blocks is in the sample of a long life
SAMPLED = 1024  # items in a sample at least


class Room(NamedTuple):
    """What a search writes to; D is rounded up to whole pairs, C to whole tiles and a tile more for lone searches."""

    words: Words  # uint32 [H, D / 16, W, 16]
    scale: Floats  # float32 [H, D]
    raised: Floats  # float32 [H, D]
    highest: Floats  # float32 [H, D]
    own: Floats  # float32 [H, L + 16]
    largest: Floats  # float32 [H]
    query: NDArray[np.int32]  # int32 [H, C, W]
    start: Rows  # int32 [H, C]
    step: Floats  # float32 [H, C], as the next two
    margin: Floats
    limit: Floats
    sample: Floats  # float32 [4 x D]
    reached: Words  # uint32 [H, C, D / 32], a bit each
    item: Rows  # int32 [D + 16]
    product: Floats  # float32 [D + 16]
    best: Words  # uint32 [H, D + 16]
    kept: NDArray[np.int64]  # int64 [H]
    behaviour: Rows  # int32 [L + 32]
    value: Words  # uint32 [L + 32], as the next
    scratch: Words
    ranking: Rows  # int32 [H, k]
    level: Words  # uint32 [H, k]
    ranked: NDArray[np.int64]  # int64 [H]
    marks: Marks  # uint64 [L / 64, and a 64th of that], zeros
    keys: Floats  # float32 [D x H x d_k], and
    place: Rows  # int32 [D]: both empty where keys are read in their table


WORKSPACE = Workspace()


def room_for(candidates: int, heads: int, width: int, word_count: int, items: int, length: int, k: int) -> Room:
    """Room in this thread's memory, for some of the candidates at a time. Cost: bytes, about 4 (W + 6) an item and head."""
    blocks = -(-items // PAIR) * 2
    chunk = min(max(MARKS // (heads * blocks * LANES * TILE), FIRST // TILE), -(-candidates // TILE)) * TILE + TILE
    near = items if items * heads * width <= NEAR and 4 * items < candidates * k else 0
    padded, rows, beyond = (heads, blocks * LANES), (heads, chunk), (length + PAIR,)
    return Room(*WORKSPACE.arrays(
        ("u4", (heads, blocks, word_count, LANES)), ("f4", padded), ("f4", padded), ("f4", (heads, items)),
        ("f4", (heads, length + LANES)), ("f4", (heads,)),
        ("i4", (*rows, word_count)), ("i4", rows), ("f4", rows), ("f4", rows), ("f4", rows),
        ("f4", (TILE * blocks * LANES,)), ("u4", (*rows, blocks // 2)), ("i4", (items + LANES,)), ("f4", (items + LANES,)),
        ("u4", (heads, items + LANES)), ("i8", (heads,)),
        ("i4", beyond), ("u4", beyond), ("u4", beyond), ("i4", (heads, k)), ("u4", (heads, k)), ("i8", (heads,)),
        ("u8", (length // 64 + length // 4096 + 2,)), ("f4", (near * heads * width,)), ("i4", (near,)),
    ))  # fmt: skip


def union_of_heads(query: Floats, table: Floats, packed: PackedKeys, row: Rows, bias: Floats, k: int) -> Rows:
    """Round-robin union of the heads' ranked lists: int32 [C, k], ascending in each row.

    Args:
        query: float32 [C, H, d_k]; table: float32 [N, H, d_k]; packed: the table's; row: int32 [L], L >= 1;
        bias: float32 [L, H]; k: 1..L.
    """
    out = np.empty((len(query), k), np.int32)
    if k == len(row):
        out[:] = np.arange(k)
        return out
    items = distinct(row)
    candidates, heads, width = query.shape
    room = room_for(candidates, heads, width, packed.words.shape[2], len(items.row), len(row), k)
    keys, place = read_only(table), items.row
    if len(room.place):
        gather(keys, items.row, room.keys, room.place)
        keys, place = read_only(room.keys.reshape(-1, heads, width)), room.place
    search_heads(query, keys, place, *packed, *items, read_only(bias), k, room, out)
    return out


@njit(cache=True, nogil=True, _nrt=False)
def reach_of_head(room: Room, h: int, begin: int, end: int) -> None:
    """`reach` for the candidates `begin` to `end`."""
    reach(
        room.words[h], room.scale[h], room.raised[h], room.query[h, begin:end], room.start[h, begin:end], room.step[h, begin:end],
        room.margin[h, begin:end], room.limit[h, begin:end], room.reached[h, begin:end],
    )  # fmt: skip


@njit(cache=True, nogil=True, _nrt=False)
def settle(
    query: Floats, keys: Floats, row: Rows, start: Rows, member: Rows, c: int, h: int, marks: Words, limit: Any, k: int,
    room: Room,
) -> None:  # fmt: skip
    """Of the items marked, the behaviours at the limit or above it, k at most: best first in `room.ranking[h]`, or,
    for one head, in no order in `room.behaviour`; how many, in `room.ranked[h]`."""
    heads, reached, index, value = query.shape[1], room.item, room.behaviour, room.value
    found = list_marked(marks, len(row), reached)
    least = ordered(limit) if limit > -np.inf else np.uint32(0)
    room.kept[h] = score(query, keys, row, room.highest[h], c, h, least, reached, found, room.product, room.best[h])
    if heads == 1 and room.kept[0] > k:  # so many items have a behaviour each that is not below this
        least = kth(room.best[0], k, room.kept[0], 32)
        room.kept[0] = leave_from(least, reached, room.product, room.best[0], room.kept[0])
    kept = spread(reached, room.product, room.kept[h], start, member, room.own[h], least, index, value)
    if heads == 1 and kept >= k:
        room.level[h, 0] = leave_best(index, value, kept, k, room.scratch)
    elif kept > k:
        leave_best(index, value, kept, k, room.scratch)
    room.ranked[h] = min(kept, k)
    if heads > 1:
        rank(index, value, min(kept, k), room.ranking[h], room.level[h])


@njit(cache=True, nogil=True, _nrt=False)
def search_alone(
    query: Floats, keys: Floats, row: Rows, start: Rows, member: Rows, c: int, h: int, largest: Any, k: int, room: Room,
) -> None:  # fmt: skip
    """`settle` for one candidate and head with a lower limit, and if there are not k then, with none."""
    lone = room.query.shape[1] - TILE
    for w in range(room.query.shape[2]):
        room.query[h, lone, w] = room.query[h, c, w]
    room.start[h, lone], room.step[h, lone], room.margin[h, lone] = room.start[h, c], room.step[h, c], room.margin[h, c]
    lower = room.limit[h, c] - np.float32(8) * room.margin[h, c] * largest
    for limit in (lower, np.float32(-np.inf)):
        room.limit[h, lone] = limit
        reach_of_head(room, h, lone, lone + TILE)
        settle(query, keys, row, start, member, c, h, room.reached[h, lone], limit, k, room)
        if room.ranked[h] == k:
            return


@njit(cache=True, nogil=True, _nrt=False)
def needed(best: Words, count: int, level: np.uint32) -> int:
    """How many of `count` items have a behaviour at `level` or above it."""
    end, above = (count + LANES - 1) // LANES * LANES, 0
    for i in range(count, end):
        best[i] = 0
    for i in range(0, end, LANES):
        above += count_from(load_words(best, i), level)
    return min(above, count)


@njit(cache=True, nogil=True, _nrt=False)
def search_heads(
    query: Floats, keys: Floats, place: Rows, packed: Words, packed_scale: Floats, longest: Any, row: Rows, start: Rows,
    member: Rows, bias: Floats, k: int, room: Room, out: Rows,
) -> None:  # fmt: skip
    """`union_of_heads`, with room to write to."""
    count, heads, width = query.shape
    items, length = len(row), len(member) - LANES
    lay_out(
        packed, packed_scale, row, start, member, bias, width, room.words, room.scale, room.raised, room.highest, room.own,
        room.largest,
    )  # fmt: skip
    largest = room.largest
    for w in range(len(room.marks)):
        room.marks[w] = 0
    every = SAMPLE
    while every > 1 and items < SAMPLED * every:
        every //= 2
    sampled = (room.words.shape[1] // 2 + every - 1) // every * PAIR
    wanted = float(min(k if heads == 1 else 2 * k // heads + 2, k))  # items of each list; more where that was not enough
    begin, chunk = 0, min(FIRST, room.query.shape[1] - TILE)
    while begin < count:
        members = min(chunk, count - begin)
        tiles = (members + TILE - 1) // TILE * TILE
        part = query[begin : begin + members]
        expected = wanted * min(sampled / items, 1.0)
        nth = int(1.05 * expected + 1.6 * np.sqrt(expected * max(1 - sampled / items, 0.0)) + 1)
        for h in range(heads):
            pack_queries(part, h, longest[h], room.query[h], room.start[h], room.step[h], room.margin[h])
            if nth < min(sampled, items):
                guess_limits(
                    room.words[h], room.scale[h], room.raised[h], room.query[h], room.start[h], room.step[h], every, nth,
                    room.limit[h, :tiles], room.sample, room.scratch,
                )  # fmt: skip
            for c in range(room.query.shape[1]):
                if c >= members:  # nobody, whom nothing reaches
                    room.start[h, c], room.step[h, c], room.margin[h, c], room.limit[h, c] = 0, 0, 0, np.inf
                elif nth >= min(sampled, items) or not room.margin[h, c] * largest[h] < LARGEST:  # no bound: all are scored
                    room.limit[h, c], room.margin[h, c] = -np.inf, 0
            reach_of_head(room, h, 0, tiles)
        total, square = 0.0, 0.0
        for c in range(members):
            for h in range(heads):
                settle(part, keys, place, start, member, c, h, room.reached[h, c], room.limit[h, c], k, room)
            depth = 1
            if heads == 1:
                if room.ranked[0] < k:
                    search_alone(part, keys, place, start, member, c, 0, largest[0], k, room)
                if items < length:
                    ascending(room.behaviour, k, room.marks, length, out[begin + c])
                else:  # in time order already
                    for i in range(k):
                        out[begin + c, i] = room.behaviour[i]
            else:
                short, depth = take_in_turn(room.ranking, room.ranked, k, room.marks, length, out[begin + c])
                while short >= 0:
                    search_alone(part, keys, place, start, member, c, short, largest[short], k, room)
                    short, depth = take_in_turn(room.ranking, room.ranked, k, room.marks, length, out[begin + c])
            for h in range(heads):
                these = needed(room.best[h], room.kept[h], room.level[h, min(depth, room.ranked[h]) - 1])
                total += these
                square += these * these
        begin += members
        chunk = room.query.shape[1] - TILE
        mean = total / (members * heads)
        wanted = min(mean + np.sqrt(max(square / (members * heads) - mean * mean, 0.0)) + 2, float(k))
