"""Step 3, search (GSU): which behaviours each candidate attends to, ready for the graph."""

from dataclasses import dataclass, replace

from service.behaviours import Fetched
from service.request import Call
from service.tables import RequestTables, Tables
from store.bundle import Bundle
from store.fold import State
from store.graph_inputs import GraphInputs, search_inputs
from store.types import Behaviours, Retrieved


@dataclass(frozen=True, slots=True)
class Searched:
    """What was retrieved, and the graph's inputs made of it."""

    behaviours: Behaviours  # those that were searched, rows as the store has them
    retrieved: Retrieved
    inputs: GraphInputs
    state: State | None = None  # that the retrieved ones are folded into; None = the empty one
    tables: Tables | None = None  # item tables that the inputs' rows are of; None = the bundle's own
    degraded: tuple[str, ...] = ()  # what was missing from the item tables


def search(call: Call, fetched: Fetched, bundle: Bundle, tables: RequestTables | None = None) -> Searched:
    """Search the behaviours for every candidate of the call. Items newer than the bundle count as unknown.

    `tables`: item tables that hold the rows of this request; None = the bundle's own.
    """
    tables = tables or RequestTables(bundle.search)
    behaviours, snapshot, known = fetched.behaviours, fetched.snapshot, bundle.registry.known
    clusters = snapshot.clusters if snapshot else None
    if snapshot is not None and clusters is not None:
        snapshot = replace(snapshot, clusters=replace(clusters, row=known(clusters.row)))
    candidates, renumbered, snapshot = tables.renumbered(
        call.candidates, replace(behaviours, row=known(behaviours.row)), snapshot
    )
    _, retrieved, inputs = search_inputs(
        tables.search, candidates, renumbered, call.at, bundle.manifest.recent, call.context, snapshot
    )
    if fetched.snapshot is not None:
        behaviours = fetched.snapshot.and_newer(behaviours)
    state = fetched.snapshot.state or None if fetched.snapshot is not None else None
    return Searched(behaviours, retrieved, inputs, state, tables.tables, tables.degraded)
