"""Step 3, search (GSU): which behaviours each candidate attends to, ready for the graph."""

from dataclasses import dataclass

from service.request import Call
from store.bundle import Bundle
from store.graph_inputs import GraphInputs, search_inputs
from store.types import Behaviours, Retrieved


@dataclass(frozen=True, slots=True)
class Searched:
    """What was retrieved, and the graph's inputs made of it."""

    behaviours: Behaviours
    retrieved: Retrieved
    inputs: GraphInputs


def search(call: Call, behaviours: Behaviours, bundle: Bundle) -> Searched:
    """Search the behaviours for every candidate of the call. Items newer than the bundle count as unknown."""
    known = Behaviours(bundle.registry.known(behaviours.row), behaviours.category, behaviours.ts, behaviours.cross)
    retrieved, inputs = search_inputs(bundle.search, call.candidates, known, call.at, bundle.manifest.recent, call.context)
    return Searched(behaviours, retrieved, inputs)
