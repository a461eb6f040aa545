"""Exact search by signature: the k of least Hamming distance, equal distances newest first, in time order.

Behaviours of one item are at one distance, which is worked out once. From a sample, a distance within which a few more
items than needed are expected. One pass marks who is within it, 64 items at a time; among their behaviours, k are picked by
counting. Where fewer than k are, or far too many items, all distances are written down and counted. Answers do not
depend on the sample.
"""

from typing import Any, NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray

from store.search.bits import lowest_bit, popcount, within
from store.search.bounds import kth
from store.search.distinct import distinct
from store.search.lanes import LANES, counted, load_word, load_words, store, store_marked
from store.search.packing import Words
from store.search.ranking import Marks, ascending
from store.search.workspace import Workspace
from store.types import Bytes, Rows

MADE_WITH = "3aaa5f29"  # of the files whose kernels it calls: tests/store/search/test_compiled.py

Signatures = NDArray[np.uint64]

BLOCK = 64  # items that are marked at a time
PANEL = 32  # blocks that stay in the cache while all candidates are compared with them
FIRST = 32  # candidates that show how many items the others will need
SAMPLE = 16  # one of so many blocks is in the sample
SHORT = 1024  # items that are not worth a sample
GROUPS = 6  # of the sample only the nearest of each group are looked at: so many groups for each that is looked for
FEW = 16384  # items, of more most blocks hold none that is near
PAYS = 0.55  # share of different items from which on it takes longer to put their behaviours in order than to measure each
PLACES = 1024  # for those within the distance, and two more for each of k


class Room(NamedTuple):
    """What a search writes to."""

    limit: Signatures  # uint64 [C]
    best: Signatures  # uint64, of the sample
    found: NDArray[np.int64]  # int64 [C]
    within: Rows  # int32 [C, places]
    all: Rows  # int32 [D], every item
    distance: Bytes  # uint8 [D]
    counts: NDArray[np.int64]  # int64 [65]
    behaviour: Rows  # int32 [L + 32]
    tied: Words  # uint32 [L + 32]
    marks: Marks  # uint64 [L / 64, and a 64th of that], zeros


WORKSPACE = Workspace()


def nearest_of_all(targets: Signatures, signature: Signatures, row: Rows, k: int) -> Rows:
    """The k nearest for targets uint64 [C] among behaviours `row` int32 [L]: int32 [C, k], ascending in each row.

    Args:
        signature: uint64 [N], of all items; k: 1..L.
    """
    items, length = distinct(row, PAYS), len(row)
    count, candidates, places = len(items.row), len(targets), PLACES + 2 * k + BLOCK
    room = Room(*WORKSPACE.arrays(
        ("u8", (candidates,)), ("u8", (count + BLOCK,)), ("i8", (candidates,)), ("i4", (candidates, places)), ("i4", (count,)),
        ("u1", (count,)), ("i8", (65,)), ("i4", (length + 2 * LANES,)), ("u4", (length + 2 * LANES,)),
        ("u8", (length // 64 + length // 4096 + 2,)),
    ))  # fmt: skip
    out = np.empty((candidates, k), np.int32)
    search_items(targets, np.take(signature, items.row), items.start, items.member, length, k, room, out)
    return out


@njit(cache=True, nogil=True, _nrt=False)
def count_behaviours(items: Rows, count: int, start: Rows, room: Room) -> Any:
    """Behaviours at each distance in `room.counts`, of `count` items with `room.distance`; how many those are together."""
    distance, counts = room.distance, room.counts
    behaviours: Any = 0
    for d in range(65):
        counts[d] = 0
    for i in range(count):
        item = np.int64(load_word(items, i))
        size = np.int64(load_word(start, item + 1)) - np.int64(load_word(start, item))
        counts[distance[i]] += size
        behaviours += size
    return behaviours


@njit(cache=True, nogil=True, _nrt=False)
def pick(items: Rows, count: int, start: Rows, member: Rows, length: int, k: int, room: Room, out: Rows) -> int:
    """The k nearest behaviours of `count` items that were counted, ascending in `out`; how many items are as near.

    There have to be k behaviours. Items ascend. Cost: the items, and their behaviours that are as near.
    """
    counts, index, tied, distance = room.counts, room.behaviour, room.tied, room.distance
    last, taken = 0, 0  # the distance at which the k-th stands, and how many are nearer than it
    while taken + counts[last] < k:
        taken += counts[last]
        last += 1
    if len(start) == length + 1:  # each behaviour is an item, in time order
        ties, at = k - taken, k
        for i in range(count - 1, -1, -1):  # newest first, so that ties go to the newer
            if distance[i] < last or (distance[i] == last and ties > 0):
                ties -= int(distance[i] == last)
                at -= 1
                out[at] = items[i]
        return int(taken + counts[last])
    nearer, ties, near = 0, 0, 0
    for i in range(count):
        item, apart = np.int64(load_word(items, i)), np.int64(distance[i])
        first, end = np.int64(load_word(start, item)), np.int64(load_word(start, item + 1))
        near += int(apart <= last)
        more: Any = True
        while more:
            members, size = load_words(member, first), min(int(end - first), LANES)
            store(index, nearer, members)
            store(tied, ties, members)
            nearer += size if apart < last else 0
            ties += size if apart == last else 0
            first += LANES
            more = first < end and apart <= last
    newest: Any = kth(tied, k - taken, ties, 32) if k - taken < ties else np.uint32(0)
    for i in range(ties):  # of those at the same distance, the newest
        index[nearer] = np.int32(tied[i])
        nearer += int(tied[i] >= newest)
    ascending(index, k, room.marks, length, out)
    return near


@njit(cache=True, nogil=True, _nrt=False)
def nearest(
    target: np.uint64, signature: Signatures, start: Rows, member: Rows, length: int, k: int, room: Room, out: Rows
) -> Any:
    """`pick` among all items, signatures uint64 [D]."""
    for i in range(len(signature)):
        room.distance[i] = np.uint8(popcount(target ^ signature[i]))
    count_behaviours(room.all, len(signature), start, room)
    return pick(room.all, len(signature), start, member, length, k, room, out)


@njit(cache=True, nogil=True, _nrt=False)
def guess_distance(
    target: np.uint64, signature: Signatures, place: int, best: Signatures, counts: NDArray[np.int64]
) -> np.uint64:
    """The distance at `place` of a sample, or a little more. `best`: scratch, whole blocks; `counts`: int64 [65], scratch."""
    for i in range(len(best)):
        best[i] = 64
    at = 0
    for block in range(0, len(signature) // BLOCK * BLOCK, SAMPLE * BLOCK):
        nearest_yet, words = best[at : at + BLOCK], signature[block : block + BLOCK]
        for i in range(BLOCK):
            nearest_yet[i] = min(nearest_yet[i], popcount(target ^ words[i]))
        at = at + BLOCK if at + BLOCK < len(best) else 0
    for d in range(65):
        counts[d] = 0
    for i in range(len(best)):
        counts[best[i]] += 1
    guess, seen = 0, counts[0]
    while seen < place and guess < 64:
        guess += 1
        seen += counts[guess]
    return np.uint64(guess)


@njit(cache=True, nogil=True, _nrt=False)
def mark_within(targets: Signatures, signature: Signatures, begin: int, end: int, room: Room) -> None:
    """The items within each limit for the candidates `begin` to `end`, ascending in `room.within`; how many, in `room.found`."""
    index, found, limit = room.within, room.found, room.limit
    whole, places = len(signature) // BLOCK * BLOCK, index.shape[1]
    many = whole < FEW  # hits in most blocks
    for c in range(begin, end):
        found[c] = 0
    for panel in range(0, whole, PANEL * BLOCK):
        for c in range(begin, end):
            n = found[c]
            for first in range(panel, min(panel + PANEL * BLOCK, whole), BLOCK):
                hits = within(signature, first, targets[c], limit[c])
                if n + BLOCK > places:
                    n += np.int64(popcount(hits))
                    hits = np.uint64(0)
                if hits and many:
                    for j in range(0, BLOCK, LANES):
                        n += store_marked(index, c * places + n, counted(np.int32(first + j)), hits >> np.uint64(j))
                    hits = np.uint64(0)
                while hits:
                    index[c, n] = first + lowest_bit(hits)
                    n += 1
                    hits &= hits - np.uint64(1)
            found[c] = n
    for c in range(begin, end):
        for i in range(whole, len(signature)):
            if popcount(targets[c] ^ signature[i]) <= limit[c]:
                if found[c] + BLOCK <= places:
                    index[c, found[c]] = i
                found[c] += 1


@njit(cache=True, nogil=True, _nrt=False)
def search_items(
    targets: Signatures, signature: Signatures, start: Rows, member: Rows, length: int, k: int, room: Room, out: Rows
) -> None:
    """`nearest_of_all`, with room to write to: signature uint64 [D], start and member as of `distinct`."""
    count, items, places = len(targets), len(signature), room.within.shape[1]
    for i in range(items):
        room.all[i] = i
    for w in range(len(room.marks)):
        room.marks[w] = 0
    if items < SHORT or places >= items:
        for c in range(count):
            nearest(targets[c], signature, start, member, length, k, room, out[c])
        return
    begin, wanted = 0, float(k)
    while begin < count:
        end = min(begin + FIRST, count) if begin == 0 else count
        expected = wanted / SAMPLE
        place = int(expected + 2.5 * np.sqrt(expected) + 2)
        groups = min(GROUPS * place // BLOCK + 1, items // (BLOCK * SAMPLE) + 1)
        for c in range(begin, end):
            room.limit[c] = guess_distance(targets[c], signature, place, room.best[: groups * BLOCK], room.counts)
        mark_within(targets, signature, begin, end, room)
        total, square = 0.0, 0.0
        for c in range(begin, end):
            n = room.found[c] if room.found[c] <= places - BLOCK else 0  # a list that was cut off is none
            for i in range(n):
                room.distance[i] = np.uint8(popcount(targets[c] ^ signature[room.within[c, i]]))
            if count_behaviours(room.within[c], n, start, room) >= k:
                near = pick(room.within[c], n, start, member, length, k, room, out[c])
            else:
                near = nearest(targets[c], signature, start, member, length, k, room, out[c])
            total += near
            square += near * near
        mean = total / (end - begin)
        wanted = min(mean + 1.5 * np.sqrt(max(square / (end - begin) - mean * mean, 0.0)) + 1, float(k))
        begin = end
