"""What a graph is fed: one definition for training batches, golden requests and live ones.

    candidate_row    int32 [U, G, S]         0 at padding places
    candidate_place  int32 [U, C]            where each candidate stands among the G x S, for searches that deal places
    retrieved_row    int32 [U, G, K]         retrieved_mask  bool [U, G, K]
    retrieved_cross  int32 [U, G, K, 1 + J]  gap bucket first, then the stored buckets
    retrieved_gap    int32 [U, G, K]         the gap bucket alone
    retrieved_size   int32 [U, G, K]         behaviours in each cluster, for the search of clusters
    recent_row       int32 [U, R]            the newest R behaviours, for models with a short branch
    recent_cross     int32 [U, R, 1 + J]     recent_mask     bool [U, R]
    context          int32 [U, F]

In lists, for models that attend to them on a processor (`store.attention`), all candidates stand in one group in their order
(G = 1, S = C), retrieved_* hold once each the T behaviours that any of them retrieved (K = T), and which are whose is said by

    list_index       int32 [Q, K]            places among the T, 0 at padding
    list_size        int32 [Q]               how many of a list are real, its first
    list_of          int32 [C]               each candidate's list

U = 1 when serving. A graph takes those of these that it reads; item tables and, for some models, a
user's state come beside them. Its logits, float32 [U, C], are in the candidates' order.
"""

from collections.abc import Callable, Collection
from dataclasses import replace
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from store.attention import numbered
from store.gaps import gap_and
from store.snapshot import Snapshot
from store.types import Behaviours, Candidates, Floats, Retrieved, Rows

AXES: dict[str, tuple[str, ...]] = {
    "candidate_row": ("U", "G", "S"),
    "candidate_place": ("U", "C"),
    "retrieved_row": ("U", "G", "K"),
    "retrieved_cross": ("U", "G", "K", "1+J"),
    "retrieved_gap": ("U", "G", "K"),
    "retrieved_mask": ("U", "G", "K"),
    "retrieved_size": ("U", "G", "K"),
    "recent_row": ("U", "R"),
    "recent_cross": ("U", "R", "1+J"),
    "recent_mask": ("U", "R"),
    "context": ("U", "F"),
}

GraphInputs = dict[str, NDArray[Any]]
Form = Literal["groups", "lists", "life"]  # what a graph takes: as above, in lists, or the life, to search it (`life_inputs.py`)


def cross_with_gap(behaviours: Behaviours, at: int) -> Rows:
    """int32 [L, 1 + J]: the bucket of the gap to `at`, then the stored buckets."""
    return gap_and(behaviours.cross, behaviours.ts, at)


def graph_inputs(
    candidates: Candidates, behaviours: Behaviours, cross: Rows, retrieved: Retrieved, context: Rows,
    wanted: Collection[str] = AXES,
) -> GraphInputs:  # fmt: skip
    """The inputs of one request (U = 1), but for those of the short branch.

    Args:
        behaviours: those that were searched, rows within the tables.
        cross: int32 [L, 1 + J] of `cross_with_gap`.
        context: int32 [F].
        wanted: names; what is costly is made only if it is among them.
    """
    row = candidates.row[retrieved.place]
    row[retrieved.place < 0] = 0
    inputs = {
        "candidate_row": row.reshape(1, len(retrieved.index), -1),
        "retrieved_row": _gathered(behaviours.row, retrieved)[None],
        "retrieved_mask": retrieved.mask[None],
        "context": context[None],
    }
    if "candidate_place" in wanted:
        inputs["candidate_place"] = retrieved.place_of_candidates()[None]
    if "retrieved_gap" in wanted:
        inputs["retrieved_gap"] = _gathered(cross[:, 0], retrieved)[None]
    if "retrieved_cross" in wanted:
        inputs["retrieved_cross"] = _gathered(cross, retrieved)[None]
    if "retrieved_size" in wanted:
        inputs["retrieved_size"] = _gathered(behaviours.sizes, retrieved)[None]
    return inputs


def list_inputs(
    candidates: Candidates, behaviours: Behaviours, cross: Rows, retrieved: Retrieved, context: Rows,
    wanted: Collection[str] = AXES,
) -> GraphInputs:  # fmt: skip
    """As `graph_inputs`, in lists; candidates stand in their order, so there is no `candidate_place`."""
    kept, index = numbered(retrieved.index, size := retrieved.mask.sum(axis=1, dtype=np.int32), len(behaviours))
    everybody = np.arange(len(candidates.row), dtype=np.int32)
    together = Retrieved(kept[None], np.full((1, len(kept)), len(behaviours) > 0), everybody, retrieved.searched)
    of_all = graph_inputs(candidates, behaviours, cross, together, context, set(wanted) - {"candidate_place"})
    return of_all | {"list_index": index, "list_size": size, "list_of": retrieved.list_of_candidates()}


def _gathered(values: Rows, retrieved: Retrieved) -> Rows:
    """Of int32 [L] or [L, n], those retrieved: [G, K, *], zeros at padding."""
    shape = values.shape[1:]
    if not len(values):
        return np.zeros((*retrieved.index.shape, *shape), np.int32)
    in_one_piece = np.dtype((np.void, values[0].nbytes))  # taken in a tenth of the time
    whole = np.ascontiguousarray(values).view(in_one_piece).reshape(-1)
    out = np.take(whole, retrieved.index, mode="clip").view(np.int32).reshape(*retrieved.index.shape, *shape)
    if not retrieved.mask.all():
        out[~retrieved.mask] = 0
    return out


def recent_inputs(behaviours: Behaviours, at: int, recent: int) -> GraphInputs:
    """The inputs of the short branch: the newest `recent` of the behaviours (U = 1); none for `recent` 0."""
    if not recent:
        return {}
    newest = behaviours.select(slice(max(len(behaviours) - recent, 0), None))
    width = max(len(newest), 1)  # the empty user: one masked entry
    row, cross = np.zeros(width, np.int32), np.zeros((width, 1 + newest.cross.shape[1]), np.int32)
    row[: len(newest)], cross[: len(newest)] = newest.row, cross_with_gap(newest, at)
    return {"recent_row": row[None], "recent_cross": cross[None], "recent_mask": np.full((1, width), len(newest) > 0)}


def search_inputs(
    search: Callable[[Candidates, Behaviours, Rows], Retrieved], candidates: Candidates, behaviours: Behaviours, at: int,
    recent: int, context: Rows, snapshot: Snapshot | None = None, wanted: Collection[str] = AXES, lists: bool = False,
) -> tuple[Behaviours, Retrieved, GraphInputs]:  # fmt: skip
    """The steps between reading and attending: search one request's behaviours, and gather what was retrieved.

    Args:
        search: one of `store.search`, or what calls it.
        snapshot: stands for the oldest behaviours; its clusters are searched in their place, a state holds them.
        wanted: names of inputs; see `graph_inputs`. lists: make them in lists.

    Returns:
        what was searched, what was retrieved of it, and all inputs but a state.
    """
    searched = behaviours if snapshot is None else snapshot.and_newer(behaviours)
    cross = cross_with_gap(searched, at)
    retrieved = search(candidates, searched, cross)
    if snapshot is not None:
        retrieved = replace(retrieved, searched=snapshot.folded + len(behaviours) - snapshot.covers)
    gathered = (list_inputs if lists else graph_inputs)(candidates, searched, cross, retrieved, context, wanted)
    return searched, retrieved, gathered | recent_inputs(behaviours, at, recent)


def scores_of(logit: Floats) -> Floats:
    """Probabilities, float32 of any shape, from logits."""
    scores: Floats = np.exp(-np.logaddexp(np.float32(0), -logit))  # the sigmoid, without overflow
    return scores


def stack(requests: list[GraphInputs]) -> GraphInputs:
    """Join requests along U; shorter axes are filled with zeros, that is padding and mask False."""
    joined: GraphInputs = {}
    for name in requests[0]:
        arrays = [request[name][0] for request in requests]
        shape = np.max([array.shape for array in arrays], axis=0)
        out = np.zeros((len(arrays), *shape), arrays[0].dtype)
        for slot, array in zip(out, arrays, strict=True):
            slot[tuple(slice(size) for size in array.shape)] = array
        joined[name] = out
    return joined
