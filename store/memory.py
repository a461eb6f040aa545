"""Write behaviours to a memory of slots, one after the other, without a graph: MIMN's, on one core.

A step is a hundred small operators, and a graph takes longer to go from one to the next than to compute them. This is
what `fold` of export/models/mimn.py does, where its equations are: the controller's GRU, addressing, reading, writing,
and the induction unit, of which only slots that take part are computed.
Sums are of float32, in an order of its own: results differ from the graph's by rounding.
"""

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray

from store.search.exponential import exponential
from store.search.lanes import LANES, load_floats, store
from store.search.workspace import Workspace, read_only
from store.types import Floats, Rows

MADE_WITH = "f8f75369"  # of the files whose kernels it calls: tests/store/search/test_compiled.py

STATE = ("memory", "induction", "control", "read", "usage")
WEIGHTS = ("of_behaviour", "of_read", "of_past", "of_control", "of_use", "of_slot", "of_channel", "induced", "edge")
SHORTEST = np.float32(1e-12)  # that anything is divided by
NEAR_ZERO = np.float32(0.2)  # tanh by its series: the quotient loses digits there

WORKSPACE = Workspace()


def shapes_of(d: int, c: int, m: int) -> dict[str, tuple[int, int]]:
    """The matrices among the weights, for a width D of items and slots, C of the control, and m slots."""
    return {
        "of_behaviour": (d + 1, 3 * c + 3 * d),  # gates of the controller, of the induction unit
        "of_read": (d, 3 * c),  # gates of the controller
        "of_past": (c + 1, 3 * c),
        "of_control": (c + 1, 4 * d + 2),  # keys for read and write, what is erased, what is added, both strengths
        "of_use": (m + 1, m * m),  # where written weight moves
        "of_slot": (d, 3 * d),  # gates of the induction unit
        "of_channel": (d + 1, 3 * d),
    }


class MemoryWriter:
    """The weights of a model's memory; `run` is what its update graph does, for any number of behaviours."""

    def __init__(self, weights: Mapping[str, NDArray[Any]]) -> None:
        """Take the `WEIGHTS`: matrices float32 [in + 1, out], the last row of each an addend (`of_read`, `of_slot`: none).

        `induced` int [], how many slots are followed; `edge` float [], how soft their choice is; else `shapes_of`.

        Raises:
            ValueError: they do not fit one another.
        """
        d, c, m = (len(weights[name]) - 1 for name in ("of_channel", "of_past", "of_use"))
        matrices = {name: np.ascontiguousarray(weights[name], np.float32) for name in shapes_of(d, c, m)}
        if {name: matrix.shape for name, matrix in matrices.items()} != shapes_of(d, c, m):
            raise ValueError("weights of a memory that do not fit one another")
        self._matrices = [read_only(matrix) for matrix in matrices.values()]
        self._induced, self._edge = int(weights["induced"]), np.float32(weights["edge"])
        if not 0 < self._induced < m:
            raise ValueError(f"{self._induced} of {m} slots induced")
        self._sizes = d, c, m
        self._shapes = {"memory": (m, d), "induction": (m, d), "control": (c,), "read": (d,), "usage": (m,)}

    def run(self, feed: Mapping[str, NDArray[Any]], item_vector: Floats) -> list[NDArray[Any]]:
        """The state after behaviours, its arrays [1, ...] in the order that `feed` has them.

        Args:
            feed: float32 arrays [1, ...] of the names `STATE`, and `behaviour_row` int32 [1, 1, T] within the items.
            item_vector: float32 [N, D].

        Raises:
            ValueError: items or a state of other widths than the weights'.

        Cost: about 8 us a behaviour where D = C = 64 and m = 8.
        """
        d, c, m = self._sizes
        after = {name: np.array(array[0], np.float32) for name, array in feed.items() if name in STATE}
        if item_vector.shape[1] != d or any(after[name].shape != self._shapes[name] for name in STATE):
            given = {name: array.shape for name, array in after.items()}
            wanted = f"{d} and {self._shapes}"
            raise ValueError(f"items {item_vector.shape[1]} wide and a state of {given}, the weights are for {wanted}")
        widest = -(-max(3 * (c + d), 4 * d + 2, m * m) // LANES) * LANES
        scratch = WORKSPACE.arrays(*(("f4", (widest,)) for _ in range(5)), ("f4", (5, m)))
        write_each(
            read_only(item_vector), read_only(feed["behaviour_row"].ravel()), *self._matrices, self._induced, self._edge,
            *(after[name] for name in STATE), *scratch,
        )  # fmt: skip
        return [array[None] for array in after.values()]


@njit(cache=True, nogil=True, _nrt=False, fastmath={"contract", "reassoc"})
def write_each(
    item_vector: Floats, row: Rows, of_behaviour: Floats, of_read: Floats, of_past: Floats, of_control: Floats, of_use: Floats,
    of_slot: Floats, of_channel: Floats, induced: int, edge: Any, memory: Floats, induction: Floats, control: Floats,
    read: Floats, usage: Floats, known: Floats, told: Floats, gate: Floats, seen: Floats, power: Floats, of_slots: Floats,
) -> None:  # fmt: skip
    """`run`, on arrays of the state that it changes; the last six are to write to."""
    slots, d = memory.shape
    c = len(control)
    length, read_weight, write_weight, write, share = of_slots[0], of_slots[1], of_slots[2], of_slots[3], of_slots[4]
    for t in range(len(row)):
        item = item_vector[row[t]]
        put(known, item, of_behaviour)
        put(told, control, of_past)
        add(known, read, of_read)
        mix(known, told, control, gate, power, np.float32(1))
        put(told, control, of_control)
        tanh(told, 0, 2 * d, power)
        sigmoid(told, 2 * d, 3 * d, power)
        tanh(told, 3 * d, 4 * d, power)
        for i in range(slots):
            length[i] = max(np.sqrt(dot(memory[i], memory[i], 0, d)), SHORTEST)
        point(memory, length, told, 0, told[4 * d], read_weight)
        point(memory, length, told, d, told[4 * d + 1], write_weight)
        for j in range(d):
            read[j] = np.float32(0)
        for i in range(slots):
            for j in range(d):
                read[j] += read_weight[i] * memory[i, j]
        move(write_weight, usage, of_use, gate, share, write)
        for i in range(slots):
            usage[i] += write[i]
            for j in range(d):
                memory[i, j] += write[i] * (told[3 * d + j] - told[2 * d + j] * memory[i, j])
        most_read(read_weight, induced, edge, length, share)
        for i in range(slots):
            if share[i] > 0:
                for j in range(3 * d):
                    seen[j] = known[3 * c + j]
                add(seen, memory[i], of_slot)
                put(told, induction[i], of_channel)
                mix(seen, told, induction[i], gate, power, share[i])


@njit(cache=True, nogil=True, _nrt=False, fastmath={"contract", "reassoc"})
def put(out: Floats, vector: Floats, matrix: Floats) -> None:
    """Begin `out` as vector [n] times matrix [n + 1, w] and its last row."""
    for j in range(matrix.shape[1]):
        out[j] = matrix[len(vector), j]
    add(out, vector, matrix)


@njit(cache=True, nogil=True, _nrt=False, fastmath={"contract", "reassoc"})
def add(out: Floats, vector: Floats, matrix: Floats) -> None:
    """Add vector [n] times matrix [>= n, w] to the beginning of `out`, four rows at a time."""
    fours = len(vector) // 4 * 4
    for i in range(0, fours, 4):
        v0, v1, v2, v3 = vector[i], vector[i + 1], vector[i + 2], vector[i + 3]
        for j in range(matrix.shape[1]):
            out[j] += v0 * matrix[i, j] + v1 * matrix[i + 1, j] + v2 * matrix[i + 2, j] + v3 * matrix[i + 3, j]
    for i in range(fours, len(vector)):
        for j in range(matrix.shape[1]):
            out[j] += vector[i] * matrix[i, j]


@njit(cache=True, nogil=True, _nrt=False, fastmath={"contract", "reassoc"})
def dot(a: Floats, b: Floats, at: int, count: int) -> Any:
    """Sum of a[j] b[at + j]."""
    total = np.float32(0)
    for j in range(count):
        total += a[j] * b[at + j]
    return total


@njit(cache=True, nogil=True, _nrt=False, fastmath={"contract", "reassoc"})
def mix(seen: Floats, told: Floats, hidden: Floats, gate: Floats, power: Floats, share: Any) -> None:
    """Bring `hidden` a GRU's step on, as far as `share` says: of what its gates see of the input, and are told by the past."""
    width = len(hidden)
    for j in range(2 * width):
        gate[j] = seen[j] + told[j]
    sigmoid(gate, 0, 2 * width, power)
    for j in range(width):
        seen[j] = seen[2 * width + j] + gate[j] * told[2 * width + j]
    tanh(seen, 0, width, power)
    for j in range(width):
        hidden[j] += share * (seen[j] + gate[width + j] * (hidden[j] - seen[j]) - hidden[j])


@njit(cache=True, nogil=True, _nrt=False, fastmath={"contract", "reassoc"})
def point(memory: Floats, length: Floats, told: Floats, at: int, strength: Any, weight: Floats) -> None:
    """Weights of the slots: softmax of the cosine to the key that stands at `at`, times its strength (eq. 1)."""
    slots, d = memory.shape
    size = np.float32(0)
    for j in range(at, at + d):
        size += told[j] * told[j]
    strength = np.float32(1) + max(strength, np.float32(0)) + np.float32(math.log1p(math.exp(-abs(strength))))
    strength /= max(np.sqrt(size), SHORTEST)
    for i in range(slots):
        weight[i] = strength * dot(memory[i], told, at, d) / length[i]
    spread(weight, 0, slots)


@njit(cache=True, nogil=True, _nrt=False)
def spread(weight: Floats, first: int, count: int) -> None:
    """Softmax of some numbers, in place."""
    most, total = weight[first], np.float32(0)
    for i in range(first, first + count):
        most = max(most, weight[i])
    for i in range(first, first + count):
        weight[i] = np.float32(math.exp(weight[i] - most))
        total += weight[i]
    for i in range(first, first + count):
        weight[i] /= total


@njit(cache=True, nogil=True, _nrt=False, fastmath={"contract", "reassoc"})
def move(write_weight: Floats, usage: Floats, of_use: Floats, moved: Floats, used: Floats, write: Floats) -> None:
    """What is written where, after a part went to other slots as their use has it (eq. 6-7)."""
    slots = len(usage)
    total = np.float32(0)
    for i in range(slots):
        total += usage[i]
    for i in range(slots):
        used[i], write[i] = usage[i] / max(total, np.float32(1)), np.float32(0)
    put(moved, used, of_use)
    for i in range(slots):
        spread(moved, i * slots, slots)
        for j in range(slots):
            write[j] += write_weight[i] * moved[i * slots + j]


@njit(cache=True, nogil=True, _nrt=False)
def most_read(read_weight: Floats, induced: int, edge: Any, order: Floats, share: Floats) -> None:
    """How far each slot is among the most read; `order` is written to."""
    slots = len(read_weight)
    for i in range(slots):  # descending
        at, value = i, read_weight[i]
        while at > 0 and order[at - 1] < value:
            order[at] = order[at - 1]
            at -= 1
        order[at] = value
    limit = (order[induced - 1] + order[induced]) / np.float32(2)
    for i in range(slots):
        share[i] = min(max(np.float32(0.5) + (read_weight[i] - limit) / edge, np.float32(0)), np.float32(1))


@njit(cache=True, nogil=True, _nrt=False)
def powers(values: Floats, first: int, last: int, factor: Any, power: Floats) -> None:
    """Begin `power` as e^(-factor |value|) of those from `first` to before `last`."""
    for j in range(last - first):
        power[j] = -factor * abs(values[first + j])
    for j in range(0, last - first, LANES):
        store(power, j, exponential(load_floats(power, j)))


@njit(cache=True, nogil=True, _nrt=False)
def sigmoid(values: Floats, first: int, last: int, power: Floats) -> None:
    """1 / (1 + e^-x), in place."""
    powers(values, first, last, np.float32(1), power)
    for j in range(last - first):
        above = np.float32(1) if values[first + j] >= 0 else power[j]
        values[first + j] = above / (np.float32(1) + power[j])


@njit(cache=True, nogil=True, _nrt=False)
def tanh(values: Floats, first: int, last: int, power: Floats) -> None:
    """The hyperbolic tangent, in place."""
    powers(values, first, last, np.float32(2), power)
    for j in range(last - first):
        x = values[first + j]
        quotient = (np.float32(1) - power[j]) / (np.float32(1) + power[j])
        y = x * x
        series = x + x * y * (np.float32(-1 / 3) + y * (np.float32(2 / 15) + y * np.float32(-17 / 315)))
        values[first + j] = series if abs(x) < NEAR_ZERO else (quotient if x > 0 else -quotient)
