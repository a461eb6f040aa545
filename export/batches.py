"""From labelled requests to graph inputs: search, gather, pad. The search is the service's own."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits

from export.data.dataset import Dataset
from export.data.histories import ClusteredHistory, History, occurrences
from export.data.requests import Requests
from export.models.contract import CTRModel, Scored, as_array
from store.bundle import ITEM_VECTOR
from store.clusters import clustered_at
from store.graph_inputs import GraphInputs, cross_with_gap, list_inputs, recent_inputs, search_inputs, stack
from store.schema import Schema
from store.search import SEARCHES, Search
from store.snapshot import Snapshot
from store.types import UNKNOWN, Behaviours, Candidates, Floats, Retrieved, Rows

ROW_INPUTS = ("candidate_row", "retrieved_row", "recent_row", "negative_row", "sampled_row")
FORGOTTEN = 0.01  # share of occurrences that training sees as the unknown item
SAMPLED = 200  # behaviours of `sampled_row`


@dataclass(frozen=True)
class SearchedRequest:
    """One request, read and searched."""

    candidates: Candidates
    behaviours: Behaviours
    searched: Behaviours  # the same, or with clusters in place of the oldest
    retrieved: Retrieved
    inputs: GraphInputs


def search_request(
    search: Search, recent: int, candidates: Candidates, behaviours: Behaviours, at: int, context: Rows,
    snapshot: Snapshot | None = None,
) -> SearchedRequest:  # fmt: skip
    """One request, searched and gathered as the service does it."""
    searched, retrieved, inputs = search_inputs(search, candidates, behaviours, at, recent, context, snapshot)
    return SearchedRequest(candidates, behaviours, searched, retrieved, inputs)


def in_lists(request: SearchedRequest, at: int, context: Rows, recent: int) -> GraphInputs:
    """Its inputs in lists."""
    cross = cross_with_gap(request.searched, at)
    listed = list_inputs(request.candidates, request.searched, cross, request.retrieved, context)
    return listed | recent_inputs(request.behaviours, at, recent)


def own_clusters(
    search: Search, behaviours: Behaviours, at: int, tables: Mapping[str, NDArray[Any]], schema: Schema
) -> Snapshot | None:  # fmt: skip
    """What a request without a snapshot makes of a life, where its search is one over clusters; else None."""
    return clustered_at(at, behaviours, tables[ITEM_VECTOR], schema) if search.clustered else None


class Batcher:
    """Makes the batches of one model over one split.

    The search reads tables of all items; before a training batch is searched, the rows that occur in
    it are computed again from the current parameters, so that signatures and projections follow the
    vectors at every step. Clusters, which are made offline, are made again with every full `refresh`.
    """

    def __init__(
        self, dataset: Dataset, requests: Requests, model: CTRModel, random: np.random.Generator | None = None,
        newest: int | None = None,
    ) -> None:  # fmt: skip
        """Prepare; nothing is read yet.

        Args:
            random: source of what training draws: forgotten occurrences, negatives, samples. None = evaluation.
            newest: cut every history to so many behaviours; None = the whole life.
        """
        self.dataset, self.requests, self.model, self.random = dataset, requests, model, random
        self.newest = newest
        if random is not None and model.config.trained_length is not None:
            self.newest = model.config.trained_length
        self.features = torch.from_numpy(dataset.items.value)
        self.counts = [torch.from_numpy(count) for count in occurrences(dataset)] if model.config.item_l2 else []
        self.search_type = SEARCHES[model.search_name]
        self.tables: dict[str, NDArray] = {}  # type: ignore[type-arg]
        self.histories = History(dataset, self.newest)
        self.local = np.zeros(len(dataset.items.value), np.int32)  # row -> its place in the batch

    def refresh(self, rows: Rows | None = None) -> None:
        """Compute tables and clusters from the current parameters; with `rows`, the tables of these rows only."""
        search = self.search_type
        if search.clustered and rows is None:
            with torch.no_grad():
                self.histories = ClusteredHistory(self.dataset, as_array(self.model.items(self.features)), self.newest)
        if not (search.item_tables or search.constants or self.model.graph_tables):
            return
        with torch.no_grad():
            features = self.features if rows is None else self.features[rows]
            fresh = self.model.tables(self.model.items(features))
        for name, table in fresh.items():
            if name in self.model.constants or rows is None:
                self.tables[name] = table
            else:
                if name not in self.tables:
                    self.tables[name] = np.zeros((len(self.features), *table.shape[1:]), table.dtype)
                self.tables[name][rows] = table

    def loss(self, requests: Sequence[int]) -> Tensor:
        """Loss of a training batch, a scalar: binary cross-entropy and what the model adds to it."""
        if self.search_type.clustered and not self.tables:
            self.refresh()  # the clusters that the first step reads
        read = [self._read(request) for request in requests]
        self.refresh(np.unique(np.concatenate([np.append(b.row, c.row) for c, b, _ in read])))
        scored, real, rows = self._forward(requests, read)
        label = torch.from_numpy(np.concatenate([self.requests.items(request)[1] for request in requests]))
        loss = binary_cross_entropy_with_logits(scored.logit[real], label)
        if scored.auxiliary_logit is not None:
            loss = loss + binary_cross_entropy_with_logits(scored.auxiliary_logit[real], label)
        if scored.auxiliary_loss is not None:
            loss = loss + scored.auxiliary_loss
        if self.model.config.item_l2:
            penalty = self.model.items.minibatch_l2(self.features[rows], self.counts)
            loss = loss + self.model.config.item_l2 / len(label) * penalty
        return loss

    def scores(self, requests: Sequence[int]) -> list[Floats]:
        """Probabilities float32 [C] of each request, from tables as they are."""
        scored, real, _ = self._forward(requests, [self._read(request) for request in requests])
        score = torch.sigmoid(scored.logit[real]).numpy()
        sizes = [len(self.requests.items(request)[0]) for request in requests]
        return np.split(score, np.cumsum(sizes)[:-1])

    def _forward(
        self, requests: Sequence[int], read: list[tuple[Candidates, Behaviours, Snapshot | None]]
    ) -> tuple[Scored, Tensor, Rows]:
        """The scored batch, which of its logits are of candidates (bool [U, C]), and the rows it looked up."""
        search = self.search_type(self.model.search_spec, self.tables)
        recent = self.model.config.recent
        searched = [
            search_request(search, recent, *read_one[:2], int(self.requests.at[r]), self.requests.context[r], read_one[2])
            for r, read_one in zip(requests, read, strict=True)
        ]
        names = self.model.batch_names
        arrays = stack([{name: request.inputs[name] for name in names} | self._drawn(request) for request in searched])
        rows = np.unique(np.concatenate([arrays[name].ravel() for name in ROW_INPUTS if name in arrays]))
        self.local[rows] = np.arange(len(rows))
        inputs = {name: torch.from_numpy(self.local[array] if name in ROW_INPUTS else array) for name, array in arrays.items()}
        inputs |= {name: torch.from_numpy(self.tables[name][rows]) for name in self.model.graph_tables}
        scored = self.model(self.model.items(self.features[rows]), inputs)
        sizes = torch.tensor([len(candidates.row) for candidates, _, _ in read])
        return scored, torch.arange(scored.logit.shape[1]) < sizes.unsqueeze(1), rows

    def _drawn(self, request: SearchedRequest) -> GraphInputs:
        """Inputs that only training has: U = 1, as those of `graph_inputs`."""
        drawn: GraphInputs = {}
        if self.random is None:
            return drawn
        if "negative_row" in self.model.training_reads:  # as popular as candidates are
            shape = request.inputs["retrieved_row"].shape
            drawn["negative_row"] = self.requests.row[self.random.integers(0, len(self.requests.row), shape)]
        if "sampled_row" in self.model.training_reads:
            life = request.behaviours.row
            kept = np.sort(self.random.permutation(len(life))[:SAMPLED])
            drawn["sampled_row"] = (life[kept] if len(life) else np.zeros(1, np.int32))[None]
            drawn["sampled_mask"] = np.full(drawn["sampled_row"].shape, len(life) > 0)
        return drawn

    def _read(self, request: int) -> tuple[Candidates, Behaviours, Snapshot | None]:
        rows, _ = self.requests.items(request)
        user, at = int(self.requests.user[request]), int(self.requests.at[request])
        candidates = Candidates(rows, self.dataset.registry.category[rows])
        behaviours, snapshot = self.histories.behaviours(user, at), self.histories.snapshot(user, at)
        if self.random is None:
            return candidates, behaviours, snapshot
        candidates = Candidates(self._forgetful(candidates.row), candidates.category)
        return candidates, replace(behaviours, row=self._forgetful(behaviours.row)), snapshot

    def _forgetful(self, row: Rows) -> Rows:
        assert self.random is not None
        return np.where(self.random.random(len(row)) < FORGOTTEN, UNKNOWN, row).astype(np.int32)
