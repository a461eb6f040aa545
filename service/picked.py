"""What the search picked for every candidate, for somebody who looks on: a behaviour is named once, however many picked it."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from service.attend import Attended
from service.behaviours import Fetched
from service.search import Searched
from store.bundle import Bundle
from store.life_inputs import found_by_graph
from store.registry import Registry
from store.search.sessions import GAP_S
from store.types import FIRST_KNOWN, Behaviours, Retrieved

NEWEST_FOLDED = 100  # behaviours of a state that are named: a life may be folded anew

Picked = dict[str, Any]


def picked(fetched: Fetched, searched: Searched, attended: Attended, bundle: Bundle) -> Picked:
    """What a page needs to show it, whatever the model; as JSON, numpy's numbers in it.

    Returns:
        search: its name; recent: newest behaviours that a short branch reads beside it; sessions: how many, for that search;
        behaviours: item_id, category, ts and size (a cluster's members) of each that was picked, a list for each column;
        lists: numbers of those, oldest first; list_of: each candidate's list;
        weights: of each candidate, along its list, None for a model without;
        state: behaviours in the snapshot and folded after it, None for a model without; then the newest folded are named.
    """
    behaviours, manifest = searched.behaviours, bundle.manifest
    retrieved = retrieved_of(searched, attended)
    lists = [own[real] for own, real in zip(retrieved.index, retrieved.mask, strict=True)]
    state = None
    if manifest.state:
        folded = 0 if attended.state_missing else len(behaviours)
        state = {"snapshot": retrieved.searched - len(behaviours), "folded": folded}
        lists = [np.arange(max(len(behaviours) - NEWEST_FOLDED, 0), len(behaviours))[:folded]]
    used = np.unique(np.concatenate(lists)) if lists else np.zeros(0, np.int64)
    item_ids, categories = names_of(behaviours, used, fetched, bundle.registry)
    list_of = retrieved.list_of_candidates().tolist()
    weighted = manifest.explains and attended.weight is not None
    cuts = np.diff(behaviours.ts[used]) > GAP_S
    return {
        "search": manifest.search.name,
        "recent": manifest.recent,
        "sessions": int(cuts.sum()) + 1 if manifest.search.name == "sessions" and len(used) else None,
        "behaviours": {
            "item_id": item_ids, "category": categories, "ts": behaviours.ts[used], "size": behaviours.sizes[used],
        },
        "lists": [np.searchsorted(used, own) for own in lists],
        "list_of": list_of,
        "weights": _weights(attended, retrieved, list_of) if weighted else None,
        "state": state,
    }  # fmt: skip


def retrieved_of(searched: Searched, attended: Attended) -> Retrieved:
    """What the search picked, whoever searched."""
    if attended.index is None:
        return searched.retrieved
    return found_by_graph(searched.retrieved, attended.index, len(searched.behaviours))


def names_of(
    behaviours: Behaviours, at: NDArray[Any], fetched: Fetched, registry: Registry
) -> tuple[list[str | None], list[str | None]]:
    """Item ids and category names of the behaviours at `at`; None = not known, as of an item newer than the bundle."""
    ids, names = registry.ids, registry.category_names
    rows, categories = (column[at].tolist() for column in (behaviours.row, behaviours.category))
    return (
        [ids[row - FIRST_KNOWN] if 0 <= row - FIRST_KNOWN < len(ids) else fetched.item_ids.get(row) for row in rows],
        [names[row - FIRST_KNOWN] if 0 <= row - FIRST_KNOWN < len(names) else None for row in categories],
    )


def _weights(attended: Attended, retrieved: Retrieved, list_of: list[int]) -> list[Any]:
    weight: Any = attended.weight
    return [weight[candidate, np.flatnonzero(retrieved.mask[own])] for candidate, own in enumerate(list_of)]
