"""From labelled requests to graph inputs: search, gather, pad. The search is the service's own."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from export.data.dataset import Dataset
from export.data.requests import Requests
from export.models.contract import CTRModel
from store.graph_inputs import GraphInputs, search_inputs, stack
from store.search import SEARCHES, Search
from store.types import UNKNOWN, Behaviours, Candidates, Floats, Retrieved, Rows

ROW_INPUTS = ("candidate_row", "retrieved_row", "recent_row")
FORGOTTEN = 0.01  # share of occurrences that training sees as the unknown item


@dataclass(frozen=True)
class SearchedRequest:
    """One request, read and searched."""

    candidates: Candidates
    behaviours: Behaviours
    retrieved: Retrieved
    inputs: GraphInputs


def search_request(
    search: Search, recent: int, candidates: Candidates, behaviours: Behaviours, at: int, context: Rows
) -> SearchedRequest:
    """One request, searched and gathered as the service does it."""
    retrieved, inputs = search_inputs(search, candidates, behaviours, at, recent, context)
    return SearchedRequest(candidates, behaviours, retrieved, inputs)


class Batcher:
    """Makes the batches of one model over one split.

    The search reads tables of all items; before a batch is searched, the rows that occur in it are
    computed again from the current parameters, so that signatures and projections follow the vectors
    at every step.
    """

    def __init__(self, dataset: Dataset, requests: Requests, model: CTRModel, forget: np.random.Generator | None = None) -> None:
        """`forget`: source of the occurrences that training turns into the unknown item; None = keep all."""
        self.dataset, self.requests, self.model, self.forget = dataset, requests, model, forget
        self.features = torch.from_numpy(dataset.items.value)
        self.search_type = SEARCHES[model.search_name]
        self.tables: dict[str, NDArray] = {}  # type: ignore[type-arg]
        self.local = np.zeros(len(dataset.items.value), np.int32)  # row -> its place in the batch

    def refresh(self, rows: Rows | None = None) -> None:
        """Compute the search tables of these rows (all rows by default) from the current parameters."""
        if not (self.search_type.item_tables or self.search_type.constants):
            return
        with torch.no_grad():
            features = self.features if rows is None else self.features[rows]
            fresh = self.model.search_tables(self.model.items(features))
        for name, table in fresh.items():
            if name in self.search_type.constants or rows is None:
                self.tables[name] = table
            else:
                if name not in self.tables:
                    self.tables[name] = np.zeros((len(self.features), *table.shape[1:]), table.dtype)
                self.tables[name][rows] = table

    def logits(self, requests: Sequence[int]) -> tuple[Tensor, Tensor]:
        """Logits of a training batch and their labels, float32 [impressions] each; tables follow the parameters."""
        read = [self._read(request) for request in requests]
        self.refresh(np.unique(np.concatenate([np.append(b.row, c.row) for c, b in read])))
        logit, place = self._forward(requests, read)
        label = np.concatenate([self.requests.items(request)[1] for request in requests])
        return logit.flatten()[place], torch.from_numpy(label)

    def scores(self, requests: Sequence[int]) -> list[Floats]:
        """Probabilities float32 [C] of each request, from tables as they are."""
        logit, place = self._forward(requests, [self._read(request) for request in requests])
        score = torch.sigmoid(logit.flatten()[place]).numpy()
        sizes = [len(self.requests.items(request)[0]) for request in requests]
        return np.split(score, np.cumsum(sizes)[:-1])

    def _forward(self, requests: Sequence[int], read: list[tuple[Candidates, Behaviours]]) -> tuple[Tensor, Tensor]:
        """Logits [U, P], and where in them (flattened) each candidate stands, request by request."""
        search = self.search_type(self.model.search_spec, self.tables)
        recent = self.model.config.recent
        searched = [
            search_request(search, recent, candidates, behaviours, int(self.requests.at[r]), self.requests.context[r])
            for r, (candidates, behaviours) in zip(requests, read, strict=True)
        ]
        arrays = stack([{name: request.inputs[name] for name in self.model.input_names} for request in searched])
        rows = np.unique(np.concatenate([arrays[name].ravel() for name in ROW_INPUTS if name in arrays]))
        self.local[rows] = np.arange(len(rows))
        inputs = {name: torch.from_numpy(self.local[array] if name in ROW_INPUTS else array) for name, array in arrays.items()}
        logit, _ = self.model(self.model.items(self.features[rows]), inputs)
        _, groups, places = arrays["candidate_row"].shape
        flat = [u * groups * places + _flat_places(request.retrieved, places) for u, request in enumerate(searched)]
        return logit, torch.from_numpy(np.concatenate(flat))

    def _read(self, request: int) -> tuple[Candidates, Behaviours]:
        rows, _ = self.requests.items(request)
        behaviours = self.dataset.history(int(self.requests.user[request]), int(self.requests.at[request]))
        candidates = Candidates(rows, self.dataset.registry.category[rows])
        if self.forget is None:
            return candidates, behaviours
        candidates = Candidates(self._forgetful(candidates.row), candidates.category)
        return candidates, Behaviours(self._forgetful(behaviours.row), behaviours.category, behaviours.ts, behaviours.cross)

    def _forgetful(self, row: Rows) -> Rows:
        assert self.forget is not None
        return np.where(self.forget.random(len(row)) < FORGOTTEN, UNKNOWN, row).astype(np.int32)


def _flat_places(retrieved: Retrieved, places: int) -> NDArray[np.intp]:
    """Where each candidate's logit stands in [G, S] flattened, S widened to `places` by padding."""
    own = retrieved.place.reshape(len(retrieved.index), -1)  # [G, S]
    group, at = np.nonzero(own >= 0)
    flat = np.empty(len(group), np.intp)
    flat[own[group, at]] = group * places + at
    return flat
