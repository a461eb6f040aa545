"""What a graph is fed that searches by itself: the life, in place of what was retrieved from it.

    life_row    int32 [U, L]         oldest first, padding behind
    life_mask   bool [U, L]          True = real
    life_cross  uint8 [U, L, 1 + J]  gap bucket first, then the stored buckets
    life_gap    int32 [U, L]         the gap bucket alone, for graphs that read no more
    life_size   int32 [U, L]         behaviours in each cluster, for the search of clusters

The other inputs are those of `graph_inputs`.
"""

from dataclasses import dataclass, replace

import numpy as np

from store.gaps import gap_and
from store.graph_inputs import GraphInputs, recent_inputs
from store.snapshot import Snapshot
from store.types import Behaviours, Candidates, Retrieved, Rows

LIFE_AXES: dict[str, tuple[str, ...]] = {
    "life_row": ("U", "L"),
    "life_mask": ("U", "L"),
    "life_cross": ("U", "L", "1+J"),
    "life_gap": ("U", "L"),
    "life_size": ("U", "L"),
}
CHUNK = 64  # graphs look for the best of so many neighbours first: L is a multiple of it
MAX_LIFE = 1 << 18  # behaviours that a graph's search can tell apart by age in float32, beside 65 distances


@dataclass(frozen=True)
class GraphSearch:
    """How a graph does one kind of search."""

    reads: tuple[str, ...]  # of LIFE_AXES, whatever the model attends to
    tables: tuple[str, ...]  # item tables


GRAPH_SEARCHES = {
    "hamming": GraphSearch(("life_row", "life_mask"), ("signature",)),
    "projection": GraphSearch(("life_row", "life_mask", "life_cross"), ("key_projection", "query_projection", "cross_bias")),
    "clusters": GraphSearch(
        ("life_row", "life_mask", "life_cross", "life_size"), ("key_projection", "query_projection", "cross_bias")
    ),
}


def inputs_when_searching(search: str, inputs: set[str]) -> set[str]:
    """Inputs and tables of the graph that searches, for a model whose scoring graph has `inputs`."""
    how, attended = GRAPH_SEARCHES[search], {name for name in inputs if name.startswith("retrieved_")}
    needed = inputs - attended | {*how.reads, *how.tables}
    if "retrieved_cross" in attended:
        return needed | {"life_cross"}
    return needed | ({"life_gap"} if "retrieved_gap" in attended and "life_cross" not in needed else set())


def life_inputs(
    candidates: Candidates, behaviours: Behaviours, at: int, recent: int, context: Rows, snapshot: Snapshot | None = None
) -> tuple[Retrieved, GraphInputs]:
    """As `graph_inputs.search_inputs`, but nothing is searched: that is the graph's part.

    Returns:
        where the candidates stand, a list for each, still empty; all inputs but a state.
    """
    searched = behaviours if snapshot is None else snapshot.and_newer(behaviours)
    count, length = len(candidates.row), max(len(searched), 1)  # the empty user: one masked entry
    row, size = np.zeros((1, length), np.int32), np.zeros((1, length), np.int32)
    cross = np.zeros((1, length, 1 + searched.cross.shape[1]), np.uint8)
    row[0, : len(searched)], size[0, : len(searched)] = searched.row, searched.sizes
    cross[0, : len(searched)] = gap_and(searched.cross, searched.ts, at)
    number = len(searched) if snapshot is None else snapshot.folded + len(behaviours) - snapshot.covers
    to_find = Retrieved(np.zeros((count, 0), np.int32), np.zeros((count, 0), np.bool_), np.arange(count, dtype=np.int32), number)
    inputs = {
        "candidate_row": candidates.row.reshape(1, -1, 1),
        "life_row": row, "life_mask": np.full((1, length), len(searched) > 0), "life_cross": cross,
        "life_gap": cross[..., 0].astype(np.int32), "life_size": size, "context": context[None],
    }  # fmt: skip
    return to_find, inputs | recent_inputs(behaviours, at, recent)


def found_by_graph(to_find: Retrieved, index: Rows, length: int) -> Retrieved:
    """What a graph's search retrieved of `length` behaviours: `index` int32 [C, K], real entries first, ascending."""
    mask = np.arange(index.shape[1]) < min(length, index.shape[1])
    return replace(to_find, index=index, mask=np.broadcast_to(mask, index.shape))
