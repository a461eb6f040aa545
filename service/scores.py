"""Step 5, scores: logits -> probabilities, and the answer's bytes."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import orjson

from service.attend import Attended
from service.behaviours import Fetched
from service.picked import Picked, names_of, picked, retrieved_of
from service.request import Call
from service.search import Searched
from store.bundle import Bundle
from store.graph_inputs import scores_of
from store.types import Floats


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
    picked: Picked | None = None  # for the page alone

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
    explained = call.explain and not call.looked_at and bundle.manifest.explains and attended.weight is not None
    return ScoreResponse(
        model=bundle.manifest.model,
        version=bundle.manifest.version,
        scores=scores_of(attended.logit),
        degraded=sorted({*fetched.degraded, *searched.degraded, *["state_missing"] * attended.state_missing}),
        unknown_items=call.unknown_items,
        behaviours=searched.retrieved.searched,
        explanations=_explanations(call, fetched, searched, attended, bundle) if explained else None,
        picked=picked(fetched, searched, attended, bundle) if call.looked_at else None,
    )


def _explanations(
    call: Call, fetched: Fetched, searched: Searched, attended: Attended, bundle: Bundle
) -> list[list[dict[str, Any]]]:
    """For each candidate its heaviest behaviours: item, time, category and mean attention weight."""
    retrieved, behaviours = retrieved_of(searched, attended), searched.behaviours
    weight: Any = attended.weight
    explanations: list[list[dict[str, Any]]] = []
    for candidate, own in enumerate(retrieved.list_of_candidates().tolist()):
        real = np.flatnonzero(retrieved.mask[own])
        heaviest = real[np.argsort(-weight[candidate, real], kind="stable")[: call.explain]]
        at = retrieved.index[own, heaviest]
        item_ids, categories = names_of(behaviours, at, fetched, bundle.registry)
        columns = (item_ids, categories, behaviours.ts[at].tolist(), weight[candidate, heaviest].tolist())
        explanations.append([
            {"item_id": item_id, "ts": ts, "category": category, "weight": of_one}
            for item_id, category, ts, of_one in zip(*columns, strict=True)
        ])  # fmt: skip
    return explanations
