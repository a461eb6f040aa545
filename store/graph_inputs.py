"""What a graph is fed: one definition for training batches, golden requests and live ones.

    candidate_row    int32 [U, G, S]         0 at padding places
    retrieved_row    int32 [U, G, K]         retrieved_mask  bool [U, G, K]
    retrieved_cross  int32 [U, G, K, 1 + J]  gap bucket first, then the stored buckets
    recent_row       int32 [U, R]            the newest R behaviours, for models with a short branch
    recent_cross     int32 [U, R, 1 + J]     recent_mask     bool [U, R]
    context          int32 [U, F]

U = 1 when serving. A graph takes those of these that it reads; item tables come beside them.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from store.gaps import gap_buckets
from store.search.spec import Search
from store.types import Behaviours, Candidates, Floats, Retrieved, Rows

AXES: dict[str, tuple[str, ...]] = {
    "candidate_row": ("U", "G", "S"),
    "retrieved_row": ("U", "G", "K"),
    "retrieved_cross": ("U", "G", "K", "1+J"),
    "retrieved_mask": ("U", "G", "K"),
    "recent_row": ("U", "R"),
    "recent_cross": ("U", "R", "1+J"),
    "recent_mask": ("U", "R"),
    "context": ("U", "F"),
}

GraphInputs = dict[str, NDArray[Any]]


def cross_with_gap(behaviours: Behaviours, at: int) -> Rows:
    """int32 [L, 1 + J]: the bucket of the gap to `at`, then the stored buckets."""
    out = np.empty((len(behaviours), 1 + behaviours.cross.shape[1]), np.int32)
    out[:, 0] = gap_buckets(behaviours.ts, at)
    out[:, 1:] = behaviours.cross
    return out


def graph_inputs(
    candidates: Candidates, behaviours: Behaviours, cross: Rows, retrieved: Retrieved, recent: int, context: Rows
) -> GraphInputs:
    """The inputs of one request (U = 1).

    Args:
        behaviours: rows within the tables; the newest `recent` of them feed the short branch.
        cross: int32 [L, 1 + J] of `cross_with_gap`.
        recent: R, 0 = the model has no short branch.
        context: int32 [F].
    """
    row, cross = (behaviours.row, cross) if len(behaviours) else (np.zeros(1, np.int32), np.zeros((1, cross.shape[1]), np.int32))
    inputs: GraphInputs = {
        "candidate_row": np.where(retrieved.place >= 0, candidates.row[retrieved.place], 0).reshape(1, len(retrieved.index), -1),
        "retrieved_row": np.where(retrieved.mask, row[retrieved.index], 0)[None],
        "retrieved_cross": np.where(retrieved.mask[..., None], cross[retrieved.index], 0)[None],
        "retrieved_mask": retrieved.mask[None],
        "context": context[None],
    }
    if recent:
        newest = slice(max(len(behaviours) - recent, 0), None)
        inputs["recent_row"] = row[newest][None]
        inputs["recent_cross"] = cross[newest][None]
        inputs["recent_mask"] = np.full((1, len(row[newest])), len(behaviours) > 0)
    return inputs


def search_inputs(
    search: Search, candidates: Candidates, behaviours: Behaviours, at: int, recent: int, context: Rows
) -> tuple[Retrieved, GraphInputs]:
    """The steps between reading and attending: search the behaviours of one request, and gather what was retrieved."""
    cross = cross_with_gap(behaviours, at)
    retrieved = search(candidates, behaviours, cross)
    return retrieved, graph_inputs(candidates, behaviours, cross, retrieved, recent, context)


def scores_of(logit: Floats, place: Rows, candidates: int) -> Floats:
    """Probabilities float32 [C] from logits float32 [P]: `place` says which candidate stands where."""
    real = place >= 0
    scores = np.empty(candidates, np.float32)
    scores[place[real]] = np.exp(-np.logaddexp(np.float32(0), -logit[real]))  # the sigmoid, without overflow
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
