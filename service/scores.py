"""Step 5, scores: logits -> probabilities, and the answer's bytes."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import orjson

from service.attend import Attended
from service.behaviours import Fetched
from service.request import Call
from service.search import Searched
from store.bundle import Bundle
from store.graph_inputs import scores_of
from store.life_inputs import found_by_graph
from store.types import FIRST_KNOWN, Floats


@dataclass(frozen=True, slots=True)
class ScoreResponse:
    """The answer to one call."""

    model: str
    version: str
    scores: Floats  # [C]
    degraded: list[str]
    unknown_items: int
    behaviours: int
    explanations: list[list[dict[str, Any]]] | None = None

    def to_json(self, request_id: str, explained: bool) -> bytes:
        """The body of a 200."""
        content = {
            "request_id": request_id,
            "model": self.model,
            "version": self.version,
            "scores": self.scores,
            "degraded": self.degraded,
            "unknown_items": self.unknown_items,
            "behaviours": self.behaviours,
        }
        if explained:
            content["explanations"] = self.explanations
        return orjson.dumps(content, option=orjson.OPT_SERIALIZE_NUMPY)


def respond(call: Call, fetched: Fetched, searched: Searched, attended: Attended, bundle: Bundle) -> ScoreResponse:
    """Put the answer together."""
    explained = call.explain and bundle.manifest.explains and attended.weight is not None
    return ScoreResponse(
        model=bundle.manifest.model,
        version=bundle.manifest.version,
        scores=scores_of(attended.logit),
        degraded=sorted({*fetched.degraded, *searched.degraded, *["state_missing"] * attended.state_missing}),
        unknown_items=call.unknown_items,
        behaviours=searched.retrieved.searched,
        explanations=_explanations(call, fetched, searched, attended, bundle) if explained else None,
    )


def _explanations(
    call: Call, fetched: Fetched, searched: Searched, attended: Attended, bundle: Bundle
) -> list[list[dict[str, Any]]]:
    """For each candidate its heaviest behaviours: item, time, category and mean attention weight."""
    retrieved, behaviours, registry = searched.retrieved, searched.behaviours, bundle.registry
    weight: Any = attended.weight
    if attended.index is not None:
        retrieved = found_by_graph(retrieved, attended.index, len(behaviours))
    size = len(retrieved.place) // len(retrieved.index)  # S
    ids, names = registry.ids, registry.category_names
    explanations: list[list[dict[str, Any]]] = [[] for _ in call.candidates.row]
    for place, candidate in enumerate(retrieved.place.tolist()):
        if candidate < 0:
            continue
        group = place // size
        real = np.flatnonzero(retrieved.mask[group])
        heaviest = real[np.argsort(-weight[place, real], kind="stable")[: call.explain]]
        at = retrieved.index[group, heaviest]
        columns = (behaviours.row[at], behaviours.category[at], behaviours.ts[at], weight[place, heaviest])
        explanations[candidate] = [
            {
                "item_id": ids[row - FIRST_KNOWN] if 0 <= row - FIRST_KNOWN < len(ids) else fetched.item_ids.get(row),
                "ts": ts,
                "category": names[category - FIRST_KNOWN] if 0 <= category - FIRST_KNOWN < len(names) else None,
                "weight": of_one,
            }
            for row, category, ts, of_one in zip(*(column.tolist() for column in columns), strict=True)
        ]
    return explanations
