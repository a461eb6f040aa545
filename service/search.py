"""Step 3, search (GSU): which behaviours each candidate attends to, ready for the graph."""

import math
import time
from dataclasses import dataclass, replace

from service.behaviours import Fetched
from service.request import Call
from service.search_threads import SearchThreads
from service.tables import RequestTables, Tables
from store.bundle import Bundle
from store.clusters import APART
from store.fold import State
from store.graph_inputs import Form, GraphInputs, search_inputs
from store.life_inputs import MAX_LIFE, life_inputs
from store.types import Behaviours, Retrieved

CLUSTER_S = 10e-6  # to make clusters, a behaviour: 90 ms for 10,000


@dataclass(frozen=True, slots=True)
class Searched:
    """What was retrieved, and the graph's inputs made of it."""

    behaviours: Behaviours  # those that were searched, rows as the store has them
    retrieved: Retrieved  # a list for each candidate, empty so far, where the graph is to search
    inputs: GraphInputs
    state: State | None = None  # that the retrieved ones are folded into; None = the empty one
    tables: Tables | None = None  # item tables that the inputs' rows are of; None = the bundle's own
    degraded: tuple[str, ...] = ()  # what was missing from the item tables


def search(
    call: Call, fetched: Fetched, bundle: Bundle, tables: RequestTables | None = None, deadline: float = math.inf,
    takes: Form = "groups", threads: SearchThreads | None = None,
) -> Searched:  # fmt: skip
    """Search the behaviours for every candidate of the call. Items newer than the bundle count as unknown.

    Args:
        tables: item tables that hold the rows of this request; None = the bundle's own.
        deadline: of the request, on the clock of perf_counter. Where a search over clusters has none of this user,
            they are made here if that takes less than half of the time left; else all behaviours are searched.
        takes: what the graph is fed: a list for each group of candidates, lists (`graph_inputs`), or the life, which it then
            searches itself; one that is too long for that is searched here.
        threads: to search in; None = the caller's.
    """
    tables, known = tables or RequestTables(bundle.search), bundle.registry.known
    behaviours, snapshot, degraded = fetched.behaviours, fetched.snapshot, tables.degraded
    clusters = snapshot.clusters if snapshot else None
    if snapshot is not None and clusters is not None:
        snapshot = replace(snapshot, clusters=replace(clusters, row=known(clusters.row)))
    within = replace(behaviours, row=known(behaviours.row))
    candidates, within, snapshot = tables.renumbered(call.candidates, within, snapshot)
    of_store = fetched.snapshot
    if snapshot is None and bundle.search.clustered and len(behaviours) > APART:
        if CLUSTER_S * len(behaviours) <= (deadline - time.perf_counter()) / 2:
            snapshot = tables.clustered(within, call.at, bundle)
            of_store = tables.as_stored(snapshot)
        else:
            degraded = (*degraded, "state_missing")
    if takes == "life" and len(within) <= MAX_LIFE:
        retrieved, inputs = life_inputs(candidates, within, call.at, bundle.manifest.recent, call.context, snapshot)
    else:
        kernels = threads.of(tables.search) if threads else tables.search
        _, retrieved, inputs = search_inputs(
            kernels, candidates, within, call.at, bundle.manifest.recent, call.context, snapshot, bundle.request_inputs,
            lists=takes == "lists",
        )  # fmt: skip
    if fetched.older:
        retrieved = replace(retrieved, searched=retrieved.searched + fetched.older)
    if of_store is not None:
        behaviours = of_store.and_newer(behaviours)
    state = of_store.state or None if of_store is not None else None
    return Searched(behaviours, retrieved, inputs, state, tables.tables, degraded)
