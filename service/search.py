"""Step 3, search (GSU): which behaviours each candidate attends to, ready for the graph."""

from dataclasses import dataclass, replace

from service.behaviours import Fetched
from service.request import Call
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


def search(call: Call, fetched: Fetched, bundle: Bundle) -> Searched:
    """Search the behaviours for every candidate of the call. Items newer than the bundle count as unknown."""
    behaviours, snapshot, known = fetched.behaviours, fetched.snapshot, bundle.registry.known
    clusters = snapshot.clusters if snapshot else None
    if snapshot is not None and clusters is not None:
        snapshot = replace(snapshot, clusters=replace(clusters, row=known(clusters.row)))
    _, retrieved, inputs = search_inputs(
        bundle.search, call.candidates, replace(behaviours, row=known(behaviours.row)), call.at, bundle.manifest.recent,
        call.context, snapshot,
    )  # fmt: skip
    if fetched.snapshot is None:
        return Searched(behaviours, retrieved, inputs)
    return Searched(fetched.snapshot.and_newer(behaviours), retrieved, inputs, fetched.snapshot.state or None)
