"""The arrays that travel between the steps, and the one table of axis letters.

| axis | what | axis | what |
| --- | --- | --- | --- |
| U | requests of a training batch (1 when serving) | M | signature bits |
| C | candidates of a request | N | items (rows of the registry) |
| L | behaviours of the user | J | cross features of a behaviour |
| K | retrieved behaviours | G | groups of candidates that share what was retrieved |
| R | newest behaviours of the short branch | S | candidates in a group |
| D | width of an item vector | P | places of a graph, G x S: candidates and padding |
| H | attention heads | F | features of an item, or of the context |
| Q | distinct categories of a request | | |

Masks are bool, True = real. Times are Unix seconds. Rows and categories are the registry's:
0 = padding, 1 = unknown. Behaviours are ordered by (ts, row) ascending: oldest first, always.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

PADDING = 0
UNKNOWN = 1
FIRST_KNOWN = 2

MAX_TS = 4_102_444_800  # 2100-01-01; anything above it is milliseconds by mistake

Rows = NDArray[np.int32]
Seconds = NDArray[np.int64]
Bytes = NDArray[np.uint8]
Mask = NDArray[np.bool_]
Floats = NDArray[np.float32]
Blobs = dict[bytes, bytes]  # field -> value of a tree, as the store gives them


@dataclass(frozen=True, slots=True)
class Candidates:
    """What a request asks to be scored, in the caller's order; duplicates allowed."""

    row: Rows  # [C]
    category: Rows  # [C] the item's category in the registry


@dataclass(frozen=True, slots=True)
class Behaviours:
    """Behaviours of one user, all real, ordered by (ts, row) ascending; L = 0 for the empty user."""

    row: Rows  # [L]
    category: Rows  # [L]
    ts: Seconds  # [L]
    cross: Bytes  # [L, J] bucket of each cross feature, 0 = missing
    size: Rows | None = None  # [L] how many behaviours each stands for (a cluster's members); None = one each

    def __len__(self) -> int:
        return len(self.row)

    @property
    def sizes(self) -> Rows:
        """[L] `size`, ones where each stands for itself."""
        return np.ones(len(self.row), np.int32) if self.size is None else self.size

    def select(self, index: NDArray[np.intp] | Mask | slice) -> "Behaviours":
        """The behaviours at `index` (positions, a mask or a slice), all arrays together."""
        size = None if self.size is None else self.size[index]
        return Behaviours(self.row[index], self.category[index], self.ts[index], self.cross[index], size)

    @staticmethod
    def empty(cross_features: int) -> "Behaviours":
        """The user without behaviours."""
        none = np.zeros(0, np.int32)
        return Behaviours(none, none, np.zeros(0, np.int64), np.zeros((0, cross_features), np.uint8))

    @staticmethod
    def in_order(row: Rows, category: Rows, ts: Seconds, cross: Bytes) -> "Behaviours":
        """Sort by (ts, row) and keep the first of rows that are equal in both. Cost: L log L."""
        key = (ts.astype(np.uint64) << np.uint64(32)) | row.astype(np.uint64)
        _, first = np.unique(key, return_index=True)  # sorted keys, first occurrence of each
        return Behaviours(row, category, ts, cross).select(first)

    @staticmethod
    def concatenated(*parts: "Behaviours") -> "Behaviours":
        """All of them in order; of rows equal in (ts, row) the first part's is kept."""
        names = ("row", "category", "ts", "cross")
        return Behaviours.in_order(*(np.concatenate([getattr(part, name) for part in parts]) for name in names))


@dataclass(frozen=True, slots=True)
class Retrieved:
    """What the search (GSU) kept. Candidates are dealt into groups that share one list.

    `index` ascends among the real entries of each row, so time order holds; those come first, and entries
    whose mask is False hold 0. `place` says which candidate stands at each of the G x S places of the graph,
    -1 = padding; every candidate stands at exactly one place.
    """

    index: Rows  # [G, K] into the behaviours
    mask: Mask  # [G, K]
    place: Rows  # [G * S] into the candidates
    searched: int  # how many behaviours the search ran over

    def place_of_candidates(self) -> Rows:
        """[C] where each candidate stands among the G x S places."""
        at = np.flatnonzero(self.place >= 0)
        places = np.empty(len(at), np.int32)
        places[self.place[at]] = at
        return places

    def list_of_candidates(self) -> Rows:
        """[C] which of the G lists is each candidate's."""
        lists: Rows = self.place_of_candidates() // (len(self.place) // len(self.index))
        return lists
